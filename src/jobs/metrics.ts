/** What a process of the mesh measures of itself, for Prometheus: read when it is asked for, so that it costs nothing else. */
import { collectDefaultMetrics, Counter, Gauge, Registry } from "prom-client";
import type { MessageCounts, SourceStatus } from "../sources/source.js";
import type { MeshStatus } from "./up.js";

const STATES: readonly SourceStatus["state"][] = ["starting", "following", "retrying"];
const MS_PER_SECOND = 1_000;

/** The text of /metrics. `status` is asked each time; undefined while the jobs start. */
export function jobMetrics(version: string, status: () => MeshStatus | undefined): () => Promise<string> {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, prefix: "cf_mesh_" });

  /** A value, or one for each set of labels. */
  function measure(
    name: string,
    help: string,
    labels: readonly string[],
    read: (status: MeshStatus, set: (value: number, labels?: Readonly<Record<string, string>>) => void) => void,
  ): void {
    new Gauge({
      name: `cf_mesh_${name}`,
      help,
      labelNames: [...labels],
      registers: [registry],
      collect() {
        this.reset();
        // Of what there is not, nothing is said: reset leaves a 0 where there are no labels.
        if (labels.length === 0) this.remove();
        const current = status();
        if (!current) return;
        read(current, (value, of) => (of === undefined ? this.set(value) : this.set(of, value)));
      },
    });
  }

  /** By the name that Gorouter has for it; it tells component and action apart, which dashboards add up. */
  function measureMessages(
    name: string,
    help: string,
    labels: Readonly<Record<string, string>>,
    read: keyof MessageCounts,
  ) {
    new Counter({
      name,
      help,
      labelNames: Object.keys(labels),
      registers: [registry],
      collect() {
        this.reset();
        for (const { messages } of status()?.sources ?? []) if (messages) this.inc({ ...labels }, messages[read]);
      },
    });
  }

  measureMessages(
    "registry_message",
    "number of route registration messages",
    { component: "", action: "" },
    "registered",
  );
  measureMessages("unregistry_message", "number of unregister messages", { component: "" }, "unregistered");
  measureMessages("routes_pruned", "number of pruned routes", {}, "pruned");
  /** What Gorouter says of its subscription: here the program takes each message at once, and has endpoints wait, or refuses them. */
  function measureWaiting(name: string, help: string, read: keyof MessageCounts) {
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.reset();
        for (const { messages } of status()?.sources ?? []) if (messages) this.inc(messages[read]);
      },
    });
  }

  measureWaiting("buffered_messages", "number of registered endpoints that are not in the log yet", "waiting");
  measureWaiting("total_dropped_messages", "number of registered endpoints that were too many", "dropped");
  measure("build_info", "1, with the version of the program", ["version"], (_, set) => set(1, { version }));
  measure("source_state", "1 for the state that a source is in", ["source", "state"], ({ sources }, set) => {
    for (const { name, state } of sources) {
      for (const each of STATES) set(each === state ? 1 : 0, { source: name, state: each });
    }
  });
  measure(
    "source_last_sync_timestamp_seconds",
    "Unix time of a source's last complete read",
    ["source"],
    ({ sources }, set) => {
      for (const { name, lastSyncMs } of sources) {
        if (lastSyncMs !== undefined) set(lastSyncMs / MS_PER_SECOND, { source: name });
      }
    },
  );
  measure(
    "source_leader",
    "1 where this process writes what the source says, 0 where it stands by",
    ["source"],
    ({ sources }, set) => {
      for (const { name, role } of sources) set(role === "leader" ? 1 : 0, { source: name });
    },
  );
  measure("mirror_stored", "1 while the mirror's disk holds what is served", [], ({ router }, set) => {
    if (router?.mirror) set(router.mirror.isStored ? 1 : 0);
  });
  measure(
    "mirror_current_timestamp_seconds",
    "Unix time when the router last had all that the log has",
    [],
    ({ router }, set) => {
      if (router?.mirror?.currentMs !== undefined) set(router.mirror.currentMs / MS_PER_SECOND);
    },
  );
  measure("mirror_behind_writes", "Writes of the log that the router does not have yet", [], ({ router }, set) => {
    if (router?.mirror?.logSequence !== undefined) set(Math.max(0, router.mirror.logSequence - router.mirror.sequence));
  });
  measure(
    "source_messages_refused_total",
    "Registrations that a source could not take since the process started: they are malformed",
    ["source"],
    ({ sources }, set) => {
      for (const { name, messages } of sources) if (messages) set(messages.refused, { source: name });
    },
  );
  measure("source_requests", "Requests that a source sent in the last minute", ["source"], ({ sources }, set) => {
    for (const { name, requests } of sources) if (requests) set(requests.lastMinute, { source: name });
  });
  measure(
    "source_rate_limit_remaining",
    "Requests that the platform still allows a source in the current interval, as far as it says",
    ["source"],
    ({ sources }, set) => {
      for (const { name, requests } of sources) {
        if (requests?.rateLimitRemaining !== undefined) set(requests.rateLimitRemaining, { source: name });
      }
    },
  );
  measure(
    "credentials_replaced_total",
    "New certificates and secrets that were taken since the process started",
    [],
    ({ credentials }, set) => set(credentials.replacedCount),
  );
  measure(
    "credentials_refused",
    "1 for a file whose present contents can't be used: those of before are",
    ["file"],
    ({ credentials }, set) => {
      for (const key of credentials.refused) set(1, { file: key });
    },
  );
  measure(
    "certificate_end_timestamp_seconds",
    "Unix time when a certificate that is in use ends",
    ["file"],
    ({ credentials }, set) => {
      for (const [key, ms] of Object.entries(credentials.certificateEndsMs)) set(ms / MS_PER_SECOND, { file: key });
    },
  );
  measure("router_ready", "1 once Envoy has confirmed a complete table", [], ({ router }, set) => {
    if (router) set(router.isReady ? 1 : 0);
  });
  measure("router_routes", "Routes that can be reached from outside", [], ({ router }, set) => {
    if (router) set(router.routeCount);
  });
  measure(
    "router_annotation_problems",
    "Annotations of routes that can't be followed and are ignored",
    [],
    ({ router }, set) => {
      if (router) set(router.annotationProblemCount);
    },
  );
  measure("router_log_sequence", "The newest write of the mesh log that the table holds", [], ({ router }, set) => {
    if (router) set(router.sequence);
  });
  measure("envoy_up", "1 while Envoy runs", [], ({ router }, set) => {
    if (router) set(router.envoy.isRunning ? 1 : 0);
  });
  measure("envoy_restarts_total", "How often Envoy ended by itself since the agent began", [], ({ router }, set) => {
    if (router) set(router.envoy.failureCount);
  });
  measure("xds_connected_proxies", "Envoys connected to the agent", [], ({ router }, set) => {
    if (router) set(router.proxies.length);
  });
  measure("xds_refused_resources", "Resources that an Envoy does not accept now", [], ({ router }, set) => {
    if (router) set(router.proxies.reduce((sum, { refusals }) => sum + refusals.length, 0));
  });
  const perType = [
    ["xds_pushes_total", "Responses sent since the proxy connected", "pushes"],
    ["xds_acks_total", "Responses confirmed since the proxy connected", "acks"],
    ["xds_nacks_total", "Responses refused since the proxy connected", "nacks"],
    ["xds_pending_resources", "Changed, and not sent yet", "pending"],
    ["xds_held_resources", "What the proxy holds", "heldCount"],
  ] as const;
  for (const [name, help, field] of perType) {
    measure(name, help, ["type"], ({ router }, set) => {
      const byType = new Map<string, number>();
      for (const { typeUrl, [field]: count } of router?.proxies.flatMap(({ types }) => types) ?? []) {
        const type = typeUrl.slice(typeUrl.lastIndexOf(".") + 1);
        byType.set(type, (byType.get(type) ?? 0) + count);
      }
      for (const [type, count] of byType) set(count, { type });
    });
  }
  return () => registry.metrics();
}
