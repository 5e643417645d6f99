/** What the API of a process tells of its jobs. */
import type { JobView } from "../api/job-api.js";
import { dumpRoutes } from "../model/dump-routes.js";
import { jobMetrics } from "./metrics.js";
import type { Mesh } from "./up.js";

/** @param mesh asked each time; undefined while the jobs start. */
export function jobView(version: string, mesh: () => Pick<Mesh, "router" | "status"> | undefined): JobView {
  const status = () => mesh()?.status;
  const ownMetrics = jobMetrics(version, status);
  return {
    status: () => status() ?? {},
    metrics: async () => (await ownMetrics()) + ((await mesh()?.router?.metrics()) ?? ""),
    routes() {
      const table = mesh()?.router?.table;
      return table && dumpRoutes(table);
    },
    health() {
      const current = status();
      if (!current) return "starting";
      const { router } = current;
      if (!router) return undefined;
      // Gorouter's word for it, which load balancers' logs are searched for.
      if (router.isDraining) return "draining";
      if (!router.isReady) return "starting: Envoy does not know all routes yet";
      return router.envoy.isRunning ? undefined : "Envoy does not run";
    },
    readiness() {
      const current = status();
      if (!current) return "starting";
      const { router, sources } = current;
      if (router && !router.isReady) return "Envoy does not know all routes yet";
      const unread = sources
        .filter(({ state, lastSyncMs }) => state !== "following" && lastSyncMs === undefined)
        .map(({ name }) => name);
      return unread.length > 0 ? `not read completely yet: ${unread.join(", ")}` : undefined;
    },
  };
}
