/**
 * Envoy's bootstrap file: one static listener that finds a request's scope, and asks the agent for all the rest.
 * Written as the JSON that Envoy documents; Envoy itself checks it (`--mode validate` in the tests).
 */

/** A filter that runs while a request has no route. */
export interface SearchFilter {
  readonly name: string;
  /** Its Lua; undefined for one that fetches what is missing from the agent. */
  readonly lua: string | undefined;
}

export interface BootstrapOptions {
  readonly nodeId: string;
  readonly listenAddress: string;
  readonly listenPort: number;
  /** Unix socket of Envoy's admin API; Envoy makes it with mode 0600. */
  readonly adminSocketPath: string;
  /** Unix socket of the agent's xDS server. */
  readonly xdsSocketPath: string;
  /** The request header that carries the scope's key within Envoy. */
  readonly scopeHeader: string;
  /** In the order in which they run; the second place is kept for fetching what the exact host lacks. */
  readonly search: readonly SearchFilter[];
  /** What clusters name for TLS to apps. Envoy reads the files when it starts. */
  readonly secrets: readonly Secret[];
}

/** A CA, or a certificate with its key, under a name; PEM files. */
export type Secret =
  | { readonly name: string; readonly caFile: string }
  | { readonly name: string; readonly certificateFile: string; readonly keyFile: string };

const type = (name: string) => `type.googleapis.com/envoy.${name}`;
const ADS = { ads: {}, resource_api_version: "V3" };
const XDS_CLUSTER = "cf-mesh-agent";

/** Prefixes of the statistics that are kept: those whose number does not grow with the routes. */
const STATS = [
  `cluster.${XDS_CLUSTER}.`,
  "cluster_manager.",
  "control_plane.",
  "http.router.downstream_",
  "http.router.no_",
  "http.router.rq_",
  "listener.",
  "listener_manager.",
  "main_thread.",
  "overload.",
  "server.",
];

/** How long a host's first request waits for what the agent is asked for: its routes, then their cluster. */
const ON_DEMAND_TIMEOUT = "5s";

export function bootstrap(options: BootstrapOptions): string {
  return `${JSON.stringify(bootstrapJson(options), undefined, 2)}\n`;
}

function bootstrapJson(options: BootstrapOptions) {
  return {
    node: { id: options.nodeId, cluster: "istio-router" },
    admin: { address: { pipe: { path: options.adminSocketPath, mode: 0o600 } }, ignore_global_conn_limit: true },
    // A mesh with a million hosts has no use for a million of each counter: what is shown per route comes from the
    // hosts' own counters on /clusters.
    stats_config: { stats_matcher: { inclusion_list: { patterns: STATS.map((prefix) => ({ prefix })) } } },
    deferred_stat_options: { enable_deferred_creation_stats: true },
    dynamic_resources: {
      // Clusters come on demand. This is for those that the agent sends unasked: before routes that change over to them.
      cds_config: ADS,
      ads_config: {
        api_type: "DELTA_GRPC",
        transport_api_version: "V3",
        // Each answer would carry 300 KB of node metadata otherwise.
        set_node_on_first_message_only: true,
        grpc_services: [
          {
            envoy_grpc: {
              cluster_name: XDS_CLUSTER,
              // A host's first request waits for the agent, so look for one that restarts more often than each 30 s.
              retry_policy: { retry_back_off: { base_interval: "0.05s", max_interval: "0.5s" } },
            },
          },
        ],
      },
    },
    static_resources: {
      secrets: options.secrets.map(secret),
      clusters: [xdsCluster(options.xdsSocketPath)],
      listeners: [listener(options)],
    },
  };
}

function secret(of: Secret) {
  if ("caFile" in of) return { name: of.name, validation_context: { trusted_ca: { filename: of.caFile } } };
  const { name, certificateFile, keyFile } = of;
  return {
    name,
    tls_certificate: { certificate_chain: { filename: certificateFile }, private_key: { filename: keyFile } },
  };
}

function xdsCluster(socketPath: string) {
  return {
    name: XDS_CLUSTER,
    type: "STATIC",
    connect_timeout: "1s",
    typed_extension_protocol_options: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": type("extensions.upstreams.http.v3.HttpProtocolOptions"),
        explicit_http_config: {
          http2_protocol_options: {
            initial_stream_window_size: 16 * 1024 * 1024,
            initial_connection_window_size: 16 * 1024 * 1024,
            // Notices an agent that hangs without closing its socket.
            connection_keepalive: { interval: "30s", timeout: "20s" },
          },
        },
      },
    },
    load_assignment: {
      cluster_name: XDS_CLUSTER,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path: socketPath } } } }] }],
    },
  };
}

function listener(options: BootstrapOptions) {
  return {
    name: "http",
    address: { socket_address: { address: options.listenAddress, port_value: options.listenPort } },
    // A second Envoy on a taken port must fail, not share its connections.
    enable_reuse_port: false,
    filter_chains: [
      {
        filters: [
          {
            name: "envoy.filters.network.http_connection_manager",
            typed_config: {
              "@type": type("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
              ...connectionManager(options),
            },
          },
        ],
      },
    ],
  };
}

function connectionManager({ scopeHeader, search }: BootstrapOptions) {
  return {
    stat_prefix: "router",
    codec_type: "AUTO",
    use_remote_address: true,
    server_header_transformation: "PASS_THROUGH",
    generate_request_id: false,
    // Idle connections end as on Gorouter; streams that are in use (WebSocket) do not.
    common_http_protocol_options: { idle_timeout: "900s" },
    // Bounds the wait for routes, which Envoy has no time limit for: a request that has its route takes the route's own,
    // which is none.
    stream_idle_timeout: ON_DEMAND_TIMEOUT,
    http_protocol_options: { accept_http_10: true },
    upgrade_configs: [{ upgrade_type: "websocket" }],
    early_header_mutation_extensions: [
      {
        name: "envoy.http.early_header_mutation.header_mutation",
        typed_config: {
          "@type": type("extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"),
          mutations: [
            {
              append: {
                header: { key: scopeHeader, value: "%REQ(:authority)%" },
                // Whatever a client sends under this name counts for nothing.
                append_action: "OVERWRITE_IF_EXISTS_OR_ADD",
              },
            },
          ],
        },
      },
    ],
    scoped_routes: {
      name: "cf-mesh",
      // The host without its port.
      scope_key_builder: {
        fragments: [{ header_value_extractor: { name: scopeHeader, element_separator: ":", index: 0 } }],
      },
      rds_config_source: ADS,
      scoped_rds: { scoped_rds_config_source: ADS },
    },
    http_filters: [
      ...search.slice(0, 1).map(searchFilter),
      onDemandFilter("cf-mesh.on-demand"),
      ...search.slice(1).map(searchFilter),
      {
        name: "envoy.filters.http.router",
        typed_config: { "@type": type("extensions.filters.http.router.v3.Router") },
      },
    ],
    local_reply_config: { mappers: localReplies() },
  };
}

function searchFilter({ name, lua }: SearchFilter) {
  if (lua === undefined) return onDemandFilter(name);
  return {
    name,
    typed_config: { "@type": type("extensions.filters.http.lua.v3.Lua"), default_source_code: { inline_string: lua } },
  };
}

/** Fetches the routes of a scope, and the cluster of a route, when the first request for them comes. */
function onDemandFilter(name: string) {
  return {
    name,
    typed_config: {
      "@type": type("extensions.filters.http.on_demand.v3.OnDemand"),
      odcds: { source: ADS, timeout: ON_DEMAND_TIMEOUT },
    },
  };
}

/** Envoy's flag for a request that nothing moved on for too long: here, one that waited for its routes. */
const IDLE = "SI";

/** What the router itself answers, as Gorouter words it. */
function localReplies() {
  const reply = (flag: string, routerError: string, message: string, cacheControl: string) => ({
    filter: { response_flag_filter: { flags: [flag] } },
    ...(flag === IDLE && { status_code: 503 }),
    body_format_override: {
      text_format_source: { inline_string: `%RESPONSE_CODE% ${message}\n` },
      content_type: "text/plain; charset=utf-8",
    },
    headers_to_add: [
      { header: { key: "x-cf-routererror", value: routerError }, append_action: "OVERWRITE_IF_EXISTS_OR_ADD" },
      { header: { key: "x-content-type-options", value: "nosniff" }, append_action: "OVERWRITE_IF_EXISTS_OR_ADD" },
      { header: { key: "cache-control", value: cacheControl }, append_action: "OVERWRITE_IF_EXISTS_OR_ADD" },
    ],
  });
  return [
    reply(
      "NR",
      "unknown_route",
      "Not Found: Requested route ('%REQ(:authority)%') does not exist.",
      "no-cache, no-store",
    ),
    reply(
      "UH",
      "no_endpoints",
      "Service Unavailable: Requested route ('%REQ(:authority)%') has no available endpoints.",
      "public,max-age=2",
    ),
    reply(
      IDLE,
      "routes_unavailable",
      "Service Unavailable: Requested route ('%REQ(:authority)%') can not be looked up now.",
      "no-cache, no-store",
    ),
  ];
}
