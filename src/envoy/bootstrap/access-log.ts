/**
 * What Envoy tells the agent of each request that ended. OpenTelemetry's logger, since it sends one text per request, of
 * just what was asked for: that is what costs. Nothing here makes a request wait: records are gathered and sent together,
 * and dropped and counted when the agent does not take them.
 */
import { http2Cluster } from "./agent-cluster.js";
import { ACCESS_LOG_CLUSTER, type } from "./json.js";

export interface AccessLogOptions {
  /** Unix socket of the agent's server for records. */
  readonly socketPath: string;
  readonly records: readonly WantedRecord[];
  /** Where the metadata of a request says true when it is marked. */
  readonly mark: { readonly filter: string; readonly key: string };
}

export interface WantedRecord {
  /** The text, by Envoy's command operators. */
  readonly format: string;
  /** faults: not of requests that an app answered with a status below 400, and whose answer was sent to its end. */
  readonly of: "all" | "faults" | "marked";
}

/** What a worker gathers before it sends, or for so long. */
const BUFFER_BYTES = 64 * 1024;
const FLUSH_INTERVAL = "0.5s";

/** How long an agent may take for one sending. */
const TIMEOUT = "5s";
/** Sendings that may wait for the agent at a time, of all workers: with their size, the memory that a hung agent costs. */
const MAX_WAITING = 64;
/** An agent that restarts is back before these are used up. */
const RETRIES = { num_retries: 10, retry_back_off: { base_interval: "0.5s", max_interval: "2s" } };

export function accessLog(options: AccessLogOptions | undefined) {
  if (!options) return [];
  const { filter, key } = options.mark;
  const matcher = { filter, path: [{ key }], value: { bool_match: true } };
  const filters = {
    all: {},
    faults: { filter: FAULTS },
    marked: { filter: { metadata_filter: { matcher, match_if_key_not_found: false } } },
  };
  return options.records.map(({ format, of }) => ({
    name: "cf-mesh.access-log",
    ...filters[of],
    typed_config: {
      "@type": type("extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig"),
      // Deprecated by 1.40, which takes neither size nor interval nor retries from anywhere else.
      common_config: {
        log_name: "requests",
        transport_api_version: "V3",
        buffer_size_bytes: BUFFER_BYTES,
        buffer_flush_interval: FLUSH_INTERVAL,
        grpc_service: { timeout: TIMEOUT, envoy_grpc: { cluster_name: ACCESS_LOG_CLUSTER } },
        grpc_stream_retry_policy: RETRIES,
      },
      disable_builtin_labels: true,
      body: { string_value: format },
    },
  }));
}

const status = (op: "GE" | "LE", value: number) => ({
  status_code_filter: { comparison: { op, value: { default_value: value, runtime_key: `cf-mesh.access-log.${op}` } } },
});
/** A flag tells of each fault that Envoy knows; upgrades and answers of its own that have none are told by their status. */
const FAULTS = { or_filter: { filters: [{ response_flag_filter: {} }, status("GE", 400), status("LE", 199)] } };

export function accessLogClusters(options: AccessLogOptions | undefined) {
  if (!options) return [];
  return [
    {
      ...http2Cluster(ACCESS_LOG_CLUSTER, options.socketPath),
      circuit_breakers: {
        thresholds: [{ max_requests: MAX_WAITING, max_pending_requests: MAX_WAITING, max_retries: MAX_WAITING }],
      },
    },
  ];
}
