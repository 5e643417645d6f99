/** Where requests come in. */
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
      connectionManager(ownRequests(options), { isTls: false, clients: undefined }),
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
    ...(options.takesProxyProtocol && proxyProtocol()),
    filter_chains: [
      {
        ...(tls && { transport_socket: downstreamTlsSocket(tls) }),
        filters: [
          {
            name: "envoy.filters.network.http_connection_manager",
            typed_config: {
              "@type": type("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
              ...connectionManager(options, { isTls: tls !== undefined, clients: tls?.clientCertificates }),
            },
          },
        ],
      },
    ],
  };
}

/** Connections may begin with it, or not. */
function proxyProtocol() {
  return {
    listener_filters_timeout: PROXY_HEADER_TIMEOUT,
    continue_on_listener_filters_timeout: true,
    listener_filters: [
      {
        name: "envoy.filters.listener.proxy_protocol",
        typed_config: {
          "@type": type("extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"),
          allow_requests_without_proxy_protocol: true,
        },
      },
    ],
  };
}
