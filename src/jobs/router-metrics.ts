/** What a router measures beyond what all jobs do: its requests and its routing table, by Gorouter's names. */
import { readdir } from "node:fs/promises";
import { Gauge, Histogram, Registry } from "prom-client";
import type { RequestMetricsConfig } from "../config/router-access-log.js";
import type { EnvoyAdmin } from "../envoy/admin.js";
import { systemClock } from "../lib/clock.js";
import type { AccessLogStatus } from "./access-log.js";
import { type RequestMeter, requestMetrics } from "./request-metrics.js";

/** What is asked when the metrics are. */
export interface MeasuredRouter {
  readonly routeCount: number;
  /** Unix time in milliseconds when the table last was as the log is; undefined where it is at any time. */
  readonly currentMs: number | undefined;
  /** undefined while none runs. */
  readonly envoyPid: number | undefined;
  readonly admin: EnvoyAdmin;
  /** undefined where Envoy does not tell of its requests. */
  readonly requestLog: AccessLogStatus | undefined;
}

export interface RouterMetrics {
  /** Counts a request. */
  readonly count: RequestMeter;
  /** An endpoint has come that runs since this Unix time in nanoseconds; 0: nobody said it. */
  readonly countEndpoint: (sinceNs: bigint) => void;
  /** In Prometheus' text format. */
  text(): Promise<string>;
}

/** Those of Gorouter's config/config.go: so small that they tell nothing but that nothing is that fast. */
const REGISTRATION_MS_BUCKETS = [0.1, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4];
const NS_PER_MS = 1e6;

/** Those that found no place to wait, and those that the agent did not take in time or at all. */
const DROPPED = "access_logs.open_telemetry_access_log.logs_dropped";

/** @param router  undefined while it starts. */
export function routerMetrics(config: RequestMetricsConfig, router: () => MeasuredRouter | undefined): RouterMetrics {
  const registry = new Registry();
  const count: RequestMeter = config.enabled ? requestMetrics(registry, config, systemClock) : () => undefined;

  const registrationLatency = new Histogram({
    name: "route_registration_latency",
    help: "route registration latency in ms",
    buckets: REGISTRATION_MS_BUCKETS,
    registers: [registry],
  });
  const countEndpoint = (sinceNs: bigint) => {
    if (sinceNs <= 0n) return;
    // Clocks of cells are never quite the router's.
    registrationLatency.observe(Math.max(0, Date.now() - Number(sinceNs) / NS_PER_MS));
  };

  function measure(
    name: string,
    help: string,
    labelNames: readonly string[],
    read: (
      router: MeasuredRouter,
      set: (value: number, labels?: Readonly<Record<string, string>>) => void,
    ) => Promise<void> | void,
  ): void {
    new Gauge({
      name,
      help,
      labelNames: [...labelNames],
      registers: [registry],
      async collect() {
        this.reset();
        const current = router();
        if (current) await read(current, (value, labels) => (labels ? this.set(labels, value) : this.set(value)));
      },
    });
  }

  measure("total_routes", "number of total routes", [], ({ routeCount }, set) => set(routeCount));
  measure("ms_since_last_registry_update", "time since last registry update in ms", [], ({ currentMs }, set) =>
    set(currentMs === undefined ? 0 : Math.max(0, Date.now() - currentMs)),
  );
  measure("file_descriptors", "number of file descriptors found", [], async ({ envoyPid }, set) => {
    const counts = await Promise.all(["self", ...(envoyPid === undefined ? [] : [String(envoyPid)])].map(openFiles));
    const known = counts.filter((each) => each !== undefined);
    if (known.length > 0) set(known.reduce((sum, each) => sum + each, 0));
  });
  measure("cf_mesh_access_log_records_total", "Records of requests that came from Envoy", [], ({ requestLog }, set) => {
    if (requestLog) set(requestLog.requestCount + requestLog.faultCount);
  });
  measure(
    "cf_mesh_access_log_lost_total",
    "Records and lines that were lost: dropped by Envoy as the agent took none, not as they must be, or not written",
    ["where"],
    async ({ requestLog, admin }, set) => {
      if (!requestLog) return;
      set(requestLog.malformedCount, { where: "agent" });
      if (requestLog.lines) set(requestLog.lines.lostCount, { where: "file" });
      if (requestLog.appLines) set(requestLog.appLines.lostCount, { where: "loggregator" });
      // An Envoy that does not answer has said nothing of what it dropped.
      const stats = await admin.stats(`^${DROPPED.replaceAll(".", "\\.")}$`).catch(() => undefined);
      if (stats) set(stats.get(DROPPED) ?? 0, { where: "envoy" });
    },
  );
  return { count, countEndpoint, text: () => registry.metrics() };
}

/** undefined where the system does not tell. */
async function openFiles(process: string): Promise<number | undefined> {
  try {
    return (await readdir(`/proc/${process}/fd`)).length;
  } catch {
    return undefined;
  }
}
