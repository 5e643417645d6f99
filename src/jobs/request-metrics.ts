/**
 * What is measured of requests, by Gorouter's names, so that dashboards and alerts go on; and by app and by route, for a
 * bounded number of them.
 *
 * Source   metrics_prometheus/metrics.go and config/config.go (buckets) of Gorouter, routing-release.
 */
import { Counter, Histogram, type Registry } from "prom-client";
import { hasClientLeft, responseTimeUs } from "../access-log/access-line.js";
import type { RequestRecord } from "../access-log/record.js";
import { ROUTE_SERVICE_CLUSTER } from "../compile/names.js";
import type { RequestMetricsConfig } from "../config/router-access-log.js";
import type { Clock } from "../lib/clock.js";
import { BoundedNames } from "./bounded-names.js";

const MS_BUCKETS = [1, 2, 4, 6, 8, 10, 20, 40, 50, 100, 500, 1_000];
const SECONDS_BUCKETS = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6];
const ROUTE_SECONDS_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

const STATUS_GROUPS = ["xxx", "xxx", "2xx", "3xx", "4xx", "5xx"];
const CLIENT_LEFT_GROUP = "4xx";

/** The router's own answers that Gorouter counts as rejected: it knew of no app to send the request to. */
const REJECTIONS: ReadonlySet<string> = new Set([
  "empty_host",
  "invalid_cf_app_instance_header",
  "invalid_cf_process_instance_header",
  "no_endpoints",
  "unknown_route",
]);

/** Envoy's flags for an app that could not be reached, or ended a request without an answer. */
const NO_ANSWER: ReadonlySet<string> = new Set(["LR", "UC", "UF", "UPE", "UR", "UT"]);

/** What Gorouter's tag says of endpoints that Diego's route-emitter registers: apps. */
const APP_COMPONENT = "route-emitter";
/** Gorouter's word for endpoints that are no app. */
const NO_APP = "gorouter";

/** An app or a route that had no request for so long gives its place to another. */
const IDLE_MS = 15 * 60_000;

const US_PER_MS = 1_000;
const US_PER_S = 1_000_000;

export type RequestMeter = (record: RequestRecord) => void;

/** Adds the metrics to the registry; the meter counts a request in them. */
export function requestMetrics(registry: Registry, { apps, routes }: RequestMetricsConfig, clock: Clock): RequestMeter {
  const registers = [registry];
  const counter = (name: string, help: string) => new Counter({ name, help, registers });
  const counterOf = <Label extends string>(name: string, help: string, labelNames: readonly Label[]) =>
    new Counter({ name, help, labelNames: [...labelNames], registers });
  const totalRequests = counterOf("total_requests", "number of routing requests", ["component"]);
  const rejectedRequests = counter("rejected_requests", "number of rejected requests");
  const badGateways = counter("bad_gateways", "number of bad gateway errors received from backends");
  const responses = counterOf("responses", "number of responses", ["status_group"]);
  const routeServices = counterOf("responses_route_services", "number of responses for route services", [
    "status_group",
  ]);
  const backendInvalidId = counter("backend_invalid_id", "number of bad backend id errors received from backends");
  const backendInvalidTlsCert = counter(
    "backend_invalid_tls_cert",
    "number of tls certificate errors received from backends",
  );
  const backendTlsHandshakeFailed = counter("backend_tls_handshake_failed", "number of backend handshake errors");
  const backendExhaustedConns = counter(
    "backend_exhausted_conns",
    "number of errors related to backend connection limit reached",
  );
  const websocketUpgrades = counter("websocket_upgrades", "websocket upgrade to websocket");
  const websocketFailures = counter("websocket_failures", "websocket failure");
  const latency = new Histogram({
    name: "latency",
    help: "routing response latency in ms",
    labelNames: ["component"],
    buckets: MS_BUCKETS,
    registers,
  });
  const gorouterTime = new Histogram({
    name: "gorouter_time",
    help: "gorouter time per request in seconds",
    buckets: MS_BUCKETS,
    registers,
  });
  const meters = [
    ...(apps > 0 ? [appMetrics(registers, apps, clock)] : []),
    ...(routes > 0 ? [routeMetrics(registers, routes, clock)] : []),
  ];

  const byComponent = ["", APP_COMPONENT].map((component) => ({
    requests: totalRequests.labels(component),
    latency: latency.labels(component),
  }));
  const byStatusGroup = new Map([...new Set(STATUS_GROUPS)].map((group) => [group, responses.labels(group)]));

  function countFailure({ flags, failureReason }: RequestRecord): void {
    const words = flags.split(",");
    if (words.includes("UO")) backendExhaustedConns.inc();
    // Envoy writes underscores for the spaces of its reasons.
    else if (failureReason.includes("SAN_matcher")) backendInvalidId.inc();
    else if (failureReason.includes("CERTIFICATE_VERIFY_FAILED")) backendInvalidTlsCert.inc();
    else if (failureReason.includes("TLS_error")) backendTlsHandshakeFailed.inc();
    else if (words.some((word) => NO_ANSWER.has(word))) badGateways.inc();
  }

  /** What Gorouter counts of a request that it had an endpoint for. */
  function countRouted(record: RequestRecord): void {
    const { appId, attempts } = record;
    const component = byComponent[appId === "" ? 0 : 1];
    component?.requests.inc(Math.max(1, attempts ?? 1));
    component?.latency.observe(responseTimeUs(record) / US_PER_MS);
    byStatusGroup.get(statusGroup(record))?.inc();
    for (const meter of meters) meter(record);
  }

  function countAnswered(record: RequestRecord, responseUs: number, appUs: number): void {
    countRouted(record);
    gorouterTime.observe(Math.max(0, responseUs - appUs) / US_PER_S);
  }

  function countUnanswered(record: RequestRecord): void {
    const { backend, routerError, status = 0 } = record;
    if (backend !== "") countRouted(record);
    // An answer that broke off has its status, but no end. Apps may send the header of router errors, too.
    if (backend !== "" && status > 0 && status < 500) return;
    if (REJECTIONS.has(routerError)) rejectedRequests.inc();
    else countFailure(record);
  }

  return (record) => {
    const { kind, cluster, appUs, responseUs, backend, status, upgrade } = record;
    // No app got it yet: it comes back from the route service as a request of its own.
    if (cluster === ROUTE_SERVICE_CLUSTER) {
      if (kind !== "fault") routeServices.labels(statusGroup(record)).inc();
      return;
    }
    // A request with a fault is told of twice: what both records say is counted once.
    if (appUs !== undefined && responseUs !== undefined) {
      if (kind !== "fault") countAnswered(record, responseUs, appUs);
    } else if (kind !== "plain") countUnanswered(record);
    if (backend === "" || upgrade.toLowerCase() !== "websocket") return;
    if (status === 101 || appUs !== undefined) websocketUpgrades.inc();
    else websocketFailures.inc();
  };
}

type Registers = Registry[];

function appMetrics(registers: Registers, limit: number, clock: Clock): RequestMeter {
  const latency = new Histogram({
    name: "http_latency_seconds",
    help: "the latency of http requests from gorouter and back in sec",
    labelNames: ["source_id"],
    buckets: SECONDS_BUCKETS,
    registers,
  });
  const requests = new Counter({
    name: "cf_mesh_app_requests_total",
    help: "Requests of an app by the class of their answer",
    labelNames: ["app_id", "status_group"],
    registers,
  });
  const names = new BoundedNames(limit, IDLE_MS, (name) => {
    latency.remove(name);
    for (const group of new Set(STATUS_GROUPS)) requests.remove(name, group);
  });
  return (record) => {
    const name = record.appId === "" ? NO_APP : names.take(record.appId, clock.now());
    latency.labels(name).observe(responseTimeUs(record) / US_PER_S);
    requests.labels(name, statusGroup(record)).inc();
  };
}

function routeMetrics(registers: Registers, limit: number, clock: Clock): RequestMeter {
  const latency = new Histogram({
    name: "cf_mesh_route_latency_seconds",
    help: "How long requests of a route took, from their first byte to the last of the answer",
    labelNames: ["route"],
    buckets: ROUTE_SECONDS_BUCKETS,
    registers,
  });
  const requests = new Counter({
    name: "cf_mesh_route_requests_total",
    help: "Requests of a route by the class of their answer",
    labelNames: ["route", "status_group"],
    registers,
  });
  const names = new BoundedNames(limit, IDLE_MS, (name) => {
    latency.remove(name);
    for (const group of new Set(STATUS_GROUPS)) requests.remove(name, group);
  });
  return (record) => {
    const place = record.cluster.indexOf("|");
    if (place < 0) return;
    const name = names.take(record.cluster.slice(0, place), clock.now());
    latency.labels(name).observe(responseTimeUs(record) / US_PER_S);
    requests.labels(name, statusGroup(record)).inc();
  };
}

function statusGroup(record: RequestRecord): string {
  if (hasClientLeft(record)) return CLIENT_LEFT_GROUP;
  return STATUS_GROUPS[Math.floor((record.status ?? 0) / 100)] ?? "xxx";
}
