import { setTimeout as delay } from "node:timers/promises";
import type { EnvoyAdmin } from "../envoy/admin.js";
import type { XdsServer } from "../xds/server.js";
import { TYPE_URLS } from "./mesh-resources.js";

/**
 * Until the signal aborts: makes Envoy drop the clusters that no route leads to any more. Removing a cluster cuts its
 * connections, so those that still carry a request (a WebSocket, say) stay for the next round.
 */
export async function sweepClusters(
  xds: XdsServer,
  admin: EnvoyAdmin,
  intervalMs: number,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    await delay(intervalMs, undefined, { signal }).catch(() => undefined);
    const vanished = xds.vanished(TYPE_URLS.clusters);
    if (vanished.length === 0) continue;
    // An Envoy that does not answer now is asked in the next round.
    const endpoints = await admin.clusters().catch(() => undefined);
    if (!endpoints) continue;
    const busy = new Set(endpoints.filter(({ stats }) => stats.get("rq_active") !== 0).map(({ cluster }) => cluster));
    xds.retire(
      TYPE_URLS.clusters,
      vanished.filter((name) => !busy.has(name)),
    );
  }
}
