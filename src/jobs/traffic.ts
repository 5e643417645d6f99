/** Where requests go, by route and app: from the counters that Envoy keeps for each endpoint. */
import { hostOfCluster } from "../compile/names.js";
import type { ClusterHost } from "../envoy/admin.js";
import { groupOf } from "../model/hosts.js";
import type { RoutingTable } from "../model/routing-table.js";

export interface RouteTraffic {
  /** Host and path: "shop.example.com/cart". */
  readonly route: string;
  readonly requestsPerSecond: number;
  /** Requests since the sample before, by the name of the app. */
  readonly requestsByApp: ReadonlyMap<string, number>;
}

/** Turns counters that only grow into traffic between two samples. */
export class TrafficMeter {
  readonly #table: RoutingTable;
  #counts = new Map<string, number>();
  #sampledMs: number | undefined;

  constructor(table: RoutingTable) {
    this.#table = table;
  }

  /** Routes that had requests since the last sample, in the order of their names; none at the first. */
  sample(endpoints: readonly ClusterHost[], nowMs: number): readonly RouteTraffic[] {
    const counts = new Map<string, number>();
    const byRoute = new Map<string, Map<string, number>>();
    for (const { cluster, address, port, stats } of endpoints) {
      const place = cluster.lastIndexOf("|");
      if (place < 0) continue;
      const key = `${cluster} ${address}:${port}`;
      const total = stats.get("rq_total") ?? 0;
      counts.set(key, total);
      const before = this.#counts.get(key) ?? 0;
      // An endpoint that went and came back counts from zero again.
      const requests = total >= before ? total - before : total;
      if (requests === 0) continue;
      const route = cluster.slice(0, place);
      const apps = byRoute.get(route) ?? new Map<string, number>();
      byRoute.set(route, apps);
      const app = this.#appNames(cluster).get(`${address}:${port}`) ?? "another";
      apps.set(app, (apps.get(app) ?? 0) + requests);
    }
    const seconds = this.#sampledMs === undefined ? undefined : (nowMs - this.#sampledMs) / 1_000;
    this.#counts = counts;
    this.#sampledMs = nowMs;
    if (seconds === undefined) return [];
    return [...byRoute]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([route, requestsByApp]) => ({
        route,
        requestsPerSecond: [...requestsByApp.values()].reduce((sum, count) => sum + count, 0) / seconds,
        requestsByApp,
      }));
  }

  /** Names of apps by the addresses of their instances, of all that a cluster's host leads to. */
  #appNames(cluster: string): ReadonlyMap<string, string> {
    const names = new Map<string, string>();
    for (const { paths } of this.#table.group(groupOf(hostOfCluster(cluster)))?.hosts ?? []) {
      for (const { destination, instances } of paths.flatMap(({ destinations }) => destinations)) {
        for (const { address, ports } of instances) {
          for (const { hostPort } of ports) {
            names.set(`${address}:${hostPort}`, destination.appName || destination.appGuid);
          }
        }
      }
    }
    return names;
  }
}
