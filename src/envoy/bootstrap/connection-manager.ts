/** What is done with each request, from its headers to its route. */
import { accessLog } from "./access-log.js";
import { clientCertRuleFilters } from "./client-cert-rules.js";
import type { Entrance } from "./entrance.js";
import { misdirectedFilter } from "./client-domains.js";
import { clientCertFilters, forwardedClientCert } from "./forwarded-client-cert.js";
import { forwardedProtoFilters, trustedHops } from "./forwarded-proto.js";
import { earlyHeaderMutation, responseHeaderFilter, traceFilters, upstreamHeaderMutation } from "./headers.js";
import { healthCheckFilters } from "./health-check.js";
import { instanceFilters } from "./instance-filters.js";
import { ADS, type } from "./json.js";
import { localReplies } from "./local-replies.js";
import type { BootstrapOptions } from "./options.js";
import { returnFilters, signedRequests } from "./route-services.js";
import { ON_DEMAND_TIMEOUT, onDemandFilter, searchFilter } from "./search-filters.js";
import { traceHeaderFilters, tracing } from "./tracing.js";

/** Offers that a server may pass over, and every server does: the request is served as it is. */
const IGNORED_UPGRADES = [
  { exact: "h2c", ignore_case: true },
  { prefix: "TLS/", ignore_case: true },
];

export function connectionManager(options: BootstrapOptions, entrance: Entrance) {
  const { search, instances, headers, http } = options;
  const { clients, domain } = entrance;
  const marks = domain && options.tls?.marks;
  const callerHeader = marks?.callerHeader;
  const signed = signedRequests(options.routeServices);
  // A domain says for itself what becomes of certificates, of requests from route services as well.
  const clientCert = domain
    ? { mode: domain.forwardedClientCert, signed: undefined, format: domain.xfccFormat }
    : { mode: headers.forwardedClientCert, signed, format: "raw" as const };
  return {
    stat_prefix: "router",
    access_log: accessLog(options.accessLog),
    codec_type: "AUTO",
    use_remote_address: true,
    xff_num_trusted_hops: trustedHops(headers.forwardedProto, signed),
    server_header_transformation: "PASS_THROUGH",
    generate_request_id: false,
    ...forwardedClientCert(clientCert.mode, entrance.isTls, clientCert.signed),
    // Idle connections end as on Gorouter; streams that are in use (WebSocket) do not.
    common_http_protocol_options: {
      idle_timeout: milliseconds(http.idleTimeoutMs),
      max_headers_count: http.maxRequestHeaders,
    },
    ...(http.requestHeadersTimeoutMs > 0 && { request_headers_timeout: milliseconds(http.requestHeadersTimeoutMs) }),
    max_request_headers_kb: http.maxRequestHeaderKb,
    // Bounds the wait for routes, which Envoy has no time limit for: a request that has its route takes the route's own,
    // which is none.
    stream_idle_timeout: ON_DEMAND_TIMEOUT,
    http_protocol_options: { accept_http_10: true, enable_trailers: true, ignore_http_11_upgrade: IGNORED_UPGRADES },
    http2_protocol_options: { allow_connect: true },
    upgrade_configs: http.upgradeTypes.map((upgrade_type) => ({ upgrade_type })),
    // The app says whether it wants the body.
    proxy_100_continue: true,
    early_header_mutation_extensions: [earlyHeaderMutation(headers, callerHeader)],
    scoped_routes: {
      name: "cf-mesh",
      // The host without its port.
      scope_key_builder: {
        fragments: [{ header_value_extractor: { name: headers.scopeHeader, element_separator: ":", index: 0 } }],
      },
      rds_config_source: ADS,
      scoped_rds: { scoped_rds_config_source: ADS },
    },
    http_filters: [
      // The search filters' place in this list does not matter to those before them: they see no route.
      responseHeaderFilter(headers),
      ...traceFilters(headers),
      ...healthCheckFilters(http.healthCheckUserAgent),
      ...(marks ? [misdirectedFilter(marks, domain)] : clientCertRuleFilters(clients?.rules ?? [])),
      ...(clients || domain ? clientCertFilters(clientCert) : []),
      ...forwardedProtoFilters(headers.forwardedProto, entrance, signed),
      ...traceHeaderFilters(options.traceHeaders),
      searchFilter(search),
      onDemandFilter("cf-mesh.on-demand"),
      ...returnFilters(options.routeServices, entrance, headers.forwardedClientCert),
      instanceFilters(instances),
      {
        name: "envoy.filters.http.router",
        typed_config: {
          "@type": type("extensions.filters.http.router.v3.Router"),
          suppress_envoy_headers: true,
          upstream_http_filters: [
            upstreamHeaderMutation(headers, signed, callerHeader),
            {
              name: "envoy.filters.http.upstream_codec",
              typed_config: { "@type": type("extensions.filters.http.upstream_codec.v3.UpstreamCodec") },
            },
          ],
        },
      },
    ],
    ...(options.spans && tracing(options.spans)),
    local_reply_config: { mappers: localReplies(options.localReplies) },
  };
}

const MS_PER_SECOND = 1_000;
const milliseconds = (ms: number) => `${ms / MS_PER_SECOND}s`;
