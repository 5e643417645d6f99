/** What is done with each request, from its headers to its route. */
import { accessLog } from "./access-log.js";
import { instanceFilters } from "./instance-filters.js";
import { ADS, type } from "./json.js";
import { localReplies } from "./local-replies.js";
import type { BootstrapOptions } from "./options.js";
import { ON_DEMAND_TIMEOUT, onDemandFilter, searchFilter } from "./search-filters.js";

export function connectionManager({ scopeHeader, search, instances, ...options }: BootstrapOptions) {
  return {
    stat_prefix: "router",
    access_log: accessLog(options.accessLog),
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
      ...instanceFilters(instances),
      {
        name: "envoy.filters.http.router",
        typed_config: { "@type": type("extensions.filters.http.router.v3.Router") },
      },
    ],
    local_reply_config: { mappers: localReplies() },
  };
}
