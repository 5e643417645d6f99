/** Where requests come in. */
import { type ClientDomain, connectionMark } from "./client-domains.js";
import { connectionManager } from "./connection-manager.js";
import { type DownstreamTls, downstreamTlsSocket } from "./downstream-tls.js";
import { type } from "./json.js";
import type { BootstrapOptions } from "./options.js";
import { routeServiceListeners } from "./route-services.js";

/** As long as Gorouter waits for a PROXY header before it takes the connection as the client's own. */
const PROXY_HEADER_TIMEOUT = "0.1s";

export function listeners(options: BootstrapOptions) {
  const { listenPort, tls } = options;
  return [
    ...(listenPort === undefined ? [] : [listener("http", listenPort, options)]),
    ...(tls ? [listener("https", tls.port, options, tls)] : []),
    ...routeServiceListeners(options, () =>
      connectionManager(ownRequests(options), { isTls: false, clients: undefined, domain: undefined }),
    ),
  ];
}

/** Those for a route service that is an app of this router: what they say of the client, the router has written itself. */
function ownRequests(options: BootstrapOptions): BootstrapOptions {
  return { ...options, headers: { ...options.headers, forwardedProto: "keep", forwardedClientCert: "always_forward" } };
}

function listener(name: string, port: number, options: BootstrapOptions, tls?: DownstreamTls) {
  return {
    name,
    address: { socket_address: { address: options.listenAddress, port_value: port } },
    // A second Envoy on a taken port must fail, not share its connections.
    enable_reuse_port: false,
    ...listenerFilters(options.takesProxyProtocol, tls),
    filter_chains: [
      ...(tls?.domains ?? []).map((domain) => ({
        filter_chain_match: { server_names: [domain.name] },
        ...chain(options, tls, domain),
      })),
      chain(options, tls),
    ],
  };
}

function chain(options: BootstrapOptions, tls?: DownstreamTls, domain?: ClientDomain) {
  const clients = tls?.clientCertificates;
  return {
    ...(tls && {
      transport_socket: downstreamTlsSocket(tls, domain ? { ca: domain.ca, areRequired: true } : clients),
    }),
    filters: [
      ...(tls && domain ? [connectionMark(tls.marks, domain)] : []),
      {
        name: "envoy.filters.network.http_connection_manager",
        typed_config: {
          "@type": type("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
          ...connectionManager(options, { isTls: tls !== undefined, clients: domain ? undefined : clients, domain }),
        },
      },
    ],
  };
}

/** What looks at a connection before its requests: for a PROXY header, which may be there or not, and for its domain. */
function listenerFilters(takesProxyProtocol: boolean, tls: DownstreamTls | undefined) {
  const readsDomain = tls !== undefined && tls.domains.length > 0;
  return {
    listener_filters: [
      ...(takesProxyProtocol ? [PROXY_PROTOCOL] : []),
      ...(readsDomain
        ? [
            {
              name: "envoy.filters.listener.tls_inspector",
              typed_config: { "@type": type("extensions.filters.listener.tls_inspector.v3.TlsInspector") },
            },
          ]
        : []),
    ],
    // Clients of TLS speak first; one that is slow must not be taken for one that asks for no domain.
    ...(takesProxyProtocol &&
      !readsDomain && {
        listener_filters_timeout: PROXY_HEADER_TIMEOUT,
        continue_on_listener_filters_timeout: true,
      }),
  };
}

const PROXY_PROTOCOL = {
  name: "envoy.filters.listener.proxy_protocol",
  typed_config: {
    "@type": type("extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"),
    allow_requests_without_proxy_protocol: true,
  },
};
