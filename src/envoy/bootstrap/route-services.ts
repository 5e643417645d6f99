/**
 * The way to route services. A request that is to go to one takes a second turn through Envoy: a listener of its own, on a
 * unix socket, where the agent signs it and says where it goes. So the other requests pay nothing for it, and none gets
 * past it while the agent is away. One that comes back with a signature has it checked by the agent, and its route then.
 */
import { http2Cluster } from "./agent-cluster.js";
import { type } from "./json.js";
import type { HttpOptions } from "./http.js";
import { type LocalReplyOptions, localReplies } from "./local-replies.js";
import type { Entrance } from "./entrance.js";
import type { ForwardedClientCert } from "./forwarded-client-cert.js";
import { filterWhere, requestHeader } from "./matchers.js";
import { onDemandFilter } from "./search-filters.js";
import { type SecretFile, secretReference } from "./secrets.js";

export interface RouteServiceOptions {
  /** Unix socket of the agent's server for checks. */
  readonly checkSocketPath: string;
  /** Unix socket where Envoy takes requests that are to go to a route service, and that of those for its own apps. */
  readonly outboundSocketPath: string;
  readonly inboundSocketPath: string;
  /** The cluster that leads there. */
  readonly cluster: string;
  readonly ca: SecretFile;
  /** Which requests have a signature. */
  readonly signatureHeader: string;
  /** Which URL the client asked for, when a request is on its way to its service. */
  readonly forwardedUrlHeader: string;
  /** Headers that the agent is to see. */
  readonly checkedHeaders: readonly string[];
  /** Tells the agent which way a request goes: a key of gRPC metadata, and its values. */
  readonly direction: {
    readonly key: string;
    readonly outbound: string;
    readonly returning: string;
    readonly returningByTls: string;
    /** By a connection of a domain with clients of its own. */
    readonly returningByDomain: string;
  };
  /** In the request's metadata, by the agent: the service is an app of this router. */
  readonly internalMark: { readonly filter: string; readonly key: string };
}

const CHECK_CLUSTER = "cf-mesh-route-service-check";
const SERVICES_CLUSTER = "cf-mesh-route-services";
const OWN_CLUSTER = "cf-mesh-route-services-internal";

/** Far beyond what a check takes; Envoy's own limit, 200 ms, is less than a pause of the agent may be. */
const CHECK_TIMEOUT = "2s";
const CONNECT_TIMEOUT = "5s";

/** What the agent adds to a request that was just small enough. */
const ADDED_KB = 16;
const MOST_HEADERS_KB = 8_192;
const ADDED_HEADERS = 16;

const UNLIMITED = 4_000_000_000;
const CIRCUIT_BREAKERS = {
  thresholds: [
    { max_connections: UNLIMITED, max_pending_requests: UNLIMITED, max_requests: UNLIMITED, max_retries: UNLIMITED },
  ],
};

const DNS_CACHE = { name: "route-services", dns_lookup_family: "V4_PREFERRED" };

/** Requests that say they come from a route service; undefined where there are none. */
export function signedRequests(options: RouteServiceOptions | undefined) {
  return options && requestHeader(options.signatureHeader, "any");
}

/**
 * Run for requests that have a signature alone, whatever their route. After the search: Envoy checks no request that has no
 * route. Then the request has another route, whose cluster may have to be fetched.
 */
export function returnFilters(
  options: RouteServiceOptions | undefined,
  { isTls, clients, domain }: Entrance,
  clientCert: ForwardedClientCert,
) {
  const isSigned = signedRequests(options);
  if (!options || !isSigned) return [];
  const { returning, returningByTls, returningByDomain } = options.direction;
  const returned = {
    ...check(options, domain ? returningByDomain : isTls ? returningByTls : returning),
    include_peer_certificate: clients !== undefined && clientCert !== "always_forward",
  };
  const { name, typed_config } = onDemandFilter("cf-mesh.route-service-on-demand");
  return [
    filterWhere("cf-mesh.route-service-return", returned, [isSigned]),
    filterWhere(name, typed_config, [isSigned]),
  ];
}

export function routeServiceClusters(options: RouteServiceOptions | undefined) {
  if (!options) return [];
  return [
    http2Cluster(CHECK_CLUSTER, options.checkSocketPath),
    pipeCluster(options.cluster, options.outboundSocketPath),
    pipeCluster(OWN_CLUSTER, options.inboundSocketPath),
    {
      name: SERVICES_CLUSTER,
      connect_timeout: CONNECT_TIMEOUT,
      lb_policy: "CLUSTER_PROVIDED",
      cluster_type: {
        name: "envoy.clusters.dynamic_forward_proxy",
        typed_config: {
          "@type": type("extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig"),
          dns_cache_config: DNS_CACHE,
        },
      },
      circuit_breakers: CIRCUIT_BREAKERS,
      typed_extension_protocol_options: {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
          "@type": type("extensions.upstreams.http.v3.HttpProtocolOptions"),
          explicit_http_config: { http_protocol_options: {} },
          upstream_http_protocol_options: { auto_sni: true, auto_san_validation: true },
        },
      },
      transport_socket: {
        name: "envoy.transport_sockets.tls",
        typed_config: {
          "@type": type("extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
          common_tls_context: {
            tls_params: { tls_maximum_protocol_version: "TLSv1_3" },
            validation_context_sds_secret_config: secretReference(options.ca),
          },
        },
      },
    },
  ];
}

interface ListenerOptions {
  readonly routeServices: RouteServiceOptions | undefined;
  readonly http: HttpOptions;
  readonly localReplies: LocalReplyOptions;
}

/** `inbound`: the router's own connection manager. */
export function routeServiceListeners(options: ListenerOptions, inbound: () => object) {
  const { routeServices } = options;
  if (!routeServices) return [];
  return [
    pipeListener("route-services", routeServices.outboundSocketPath, outbound(options, routeServices)),
    pipeListener("route-services-internal", routeServices.inboundSocketPath, inbound()),
  ];
}

function outbound({ http, localReplies: replies }: ListenerOptions, options: RouteServiceOptions) {
  const { filter, key } = options.internalMark;
  const marked = { filter, path: [{ key }], value: { bool_match: true } };
  const route = { timeout: "0s", idle_timeout: "0s" };
  return {
    stat_prefix: "route-services",
    codec_type: "HTTP1",
    // What the first turn wrote of the client stays.
    skip_xff_append: true,
    forward_client_cert_details: "ALWAYS_FORWARD_ONLY",
    server_header_transformation: "PASS_THROUGH",
    generate_request_id: false,
    stream_idle_timeout: "0s",
    proxy_100_continue: true,
    max_request_headers_kb: Math.min(http.maxRequestHeaderKb + ADDED_KB, MOST_HEADERS_KB),
    common_http_protocol_options: { max_headers_count: http.maxRequestHeaders + ADDED_HEADERS },
    route_config: {
      name: "route-services",
      virtual_hosts: [
        {
          name: "route-services",
          domains: ["*"],
          retry_policy: { retry_on: "connect-failure", num_retries: 2 },
          routes: [
            { match: { prefix: "/", dynamic_metadata: [marked] }, route: { ...route, cluster: OWN_CLUSTER } },
            { match: { prefix: "/" }, route: { ...route, cluster: SERVICES_CLUSTER } },
          ],
        },
      ],
    },
    http_filters: [
      { name: "cf-mesh.route-service", typed_config: check(options, options.direction.outbound) },
      {
        name: "envoy.filters.http.dynamic_forward_proxy",
        typed_config: {
          "@type": type("extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig"),
          dns_cache_config: DNS_CACHE,
        },
      },
      {
        name: "envoy.filters.http.router",
        typed_config: { "@type": type("extensions.filters.http.router.v3.Router"), suppress_envoy_headers: true },
      },
    ],
    local_reply_config: { mappers: localReplies(replies, options.forwardedUrlHeader) },
  };
}

function check({ checkedHeaders, direction }: RouteServiceOptions, value: string) {
  return {
    "@type": type("extensions.filters.http.ext_authz.v3.ExtAuthz"),
    transport_api_version: "V3",
    grpc_service: {
      envoy_grpc: { cluster_name: CHECK_CLUSTER },
      timeout: CHECK_TIMEOUT,
      initial_metadata: [{ key: direction.key, value }],
    },
    allowed_headers: { patterns: checkedHeaders.map((exact) => ({ exact })) },
    clear_route_cache: true,
    failure_mode_allow: false,
    status_on_error: { code: "ServiceUnavailable" },
  };
}

function pipeCluster(name: string, path: string) {
  return {
    name,
    type: "STATIC",
    connect_timeout: CONNECT_TIMEOUT,
    circuit_breakers: CIRCUIT_BREAKERS,
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path } } } }] }],
    },
  };
}

function pipeListener(name: string, path: string, connectionManager: object) {
  return {
    name,
    address: { pipe: { path, mode: 0o600 } },
    filter_chains: [
      {
        filters: [
          {
            name: "envoy.filters.network.http_connection_manager",
            typed_config: {
              "@type": type("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
              ...connectionManager,
            },
          },
        ],
      },
    ],
  };
}
