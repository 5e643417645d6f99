/**
 * Envoy's bootstrap file: static listeners that find a request's scope, and ask the agent for all the rest.
 * Written as the JSON that Envoy documents; Envoy itself checks it (`--mode validate` in the tests).
 */
import { accessLogClusters } from "./access-log.js";
import { xdsCluster } from "./agent-cluster.js";
import { ADS, XDS_CLUSTER } from "./json.js";
import { listeners } from "./listener.js";
import type { BootstrapOptions } from "./options.js";
import { routeServiceClusters } from "./route-services.js";
import { collectorCluster } from "./tracing.js";

/**
 * Prefixes of the statistics that grow with the routes, which are not kept: what is shown per route comes from the hosts' own
 * counters on /clusters. Each ends with a dot: Envoy knows such a one by its beginning. A list of what is kept, or a
 * prefix that ends within a word, makes it remember all names that it refused, 9 kB for each host in use.
 */
const statsOfRoutes = (clusterStatName: string) => [`cluster.${clusterStatName}.`, "http.router.rds.", "vhost."];

const MAX_REGEX_SIZE = 4_000_000_000;

export function bootstrap(options: BootstrapOptions): string {
  return `${JSON.stringify(bootstrapJson(options), undefined, 2)}\n`;
}

function bootstrapJson(options: BootstrapOptions) {
  return {
    node: { id: options.nodeId, cluster: "istio-router" },
    admin: { address: { pipe: { path: options.adminSocketPath, mode: 0o600 } }, ignore_global_conn_limit: true },
    stats_config: {
      stats_matcher: {
        exclusion_list: { patterns: statsOfRoutes(options.clusterStatName).map((prefix) => ({ prefix })) },
      },
    },
    deferred_stat_options: { enable_deferred_creation_stats: true },
    // Envoy's own limit, 100, is less than a few guids take in a regular expression; RE2 takes time by the length of texts alone.
    layered_runtime: {
      layers: [{ name: "cf-mesh", static_layer: { "re2.max_program_size.error_level": MAX_REGEX_SIZE } }],
    },
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
      clusters: [
        xdsCluster(options.xdsSocketPath),
        ...accessLogClusters(options.accessLog),
        ...routeServiceClusters(options.routeServices),
        ...(options.spans ? [collectorCluster(options.spans)] : []),
      ],
      listeners: listeners(options),
    },
  };
}
