/** Where requests go, by route and app, and what they are answered: from counters that Envoy keeps. */
import { hostOfCluster } from "../compile/names.js";
import type { ClusterHost, EnvoyAdmin } from "../envoy/admin.js";
import { groupOf } from "../model/hosts.js";
import type { RoutingTable } from "../model/routing-table.js";
import { allShares } from "../model/split.js";

/** What is looked back on: long enough for a share to mean something, short enough to see it move. */
export const WINDOW_MS = 5_000;

export interface RouteTraffic {
  /** Host and path: "shop.example.com/cart". */
  readonly route: string;
  readonly requestsPerSecond: number;
  /** Requests within the window, by the name of the app. */
  readonly requestsByApp: ReadonlyMap<string, number>;
  /** Had requests since the sample before. */
  readonly isMoving: boolean;
}

export interface AnswerTraffic {
  readonly answersPerSecond: number;
  /** Answers within the window by the class of their status ("2xx"), those of the router itself among them. */
  readonly countByClass: ReadonlyMap<string, number>;
  /** Requests that no route was found for: 404 from the router itself. */
  readonly withoutRoute: number;
  readonly isMoving: boolean;
}

/** Of the last WINDOW_MS. */
export interface Traffic {
  /** Routes that had requests, in the order of their names. */
  readonly routes: readonly RouteTraffic[];
  /** undefined when nothing was answered. */
  readonly answers: AnswerTraffic | undefined;
}

export interface Counters {
  readonly endpoints: readonly ClusterHost[];
  /** By name without its prefix: "downstream_rq_2xx", "no_route". */
  readonly answers: ReadonlyMap<string, number>;
}

/** What is no app of anyone: api, uaa and the like. */
const NO_APP = "platform";

const PREFIX = "http.router.";
const CLASS_PREFIX = "downstream_rq_";
const WITHOUT_ROUTE = "no_route";

/** Reads what TrafficMeter.sample takes. */
export async function readCounters(admin: EnvoyAdmin): Promise<Counters> {
  const filter = `^${PREFIX.replaceAll(".", "\\.")}(${CLASS_PREFIX}[2345]xx|${WITHOUT_ROUTE})$`;
  const [endpoints, stats] = await Promise.all([admin.clusters(), admin.stats(filter)]);
  return { endpoints, answers: new Map([...stats].map(([name, value]) => [name.slice(PREFIX.length), value])) };
}

/** What came between a sample and the one before. */
interface Step {
  readonly fromMs: number;
  readonly toMs: number;
  readonly requests: ReadonlyMap<string, ReadonlyMap<string, number>>;
  readonly answers: ReadonlyMap<string, number>;
}

/** Turns counters that only grow into the traffic of a sliding window. */
export class TrafficMeter {
  readonly #table: RoutingTable;
  #before: { readonly counts: ReadonlyMap<string, number>; readonly ms: number } | undefined;
  #steps: Step[] = [];

  constructor(table: RoutingTable) {
    this.#table = table;
  }

  /** Nothing at the first: what was before is not of the window. */
  sample({ endpoints, answers }: Counters, nowMs: number): Traffic {
    const before = this.#before;
    const counts = new Map<string, number>();
    const grown = (key: string, total: number): number => {
      counts.set(key, total);
      const known = before?.counts.get(key) ?? 0;
      // A counter that went and came back begins at zero again.
      return total >= known ? total - known : total;
    };
    const requests = new Map<string, Map<string, number>>();
    for (const { cluster, address, port, stats } of endpoints) {
      const place = cluster.indexOf("|");
      if (place < 0) continue;
      const count = grown(`${cluster} ${address}:${port}`, stats.get("rq_total") ?? 0);
      if (count === 0) continue;
      const app = this.#appNames(cluster).get(`${address}:${port}`) ?? "another";
      add(requests, cluster.slice(0, place), app, count);
    }
    const answered = new Map([...answers].map(([name, total]) => [name, grown(name, total)]));
    this.#before = { counts, ms: nowMs };
    if (before === undefined) return { routes: [], answers: undefined };
    this.#steps = this.#steps.filter(({ fromMs }) => fromMs >= nowMs - WINDOW_MS);
    this.#steps.push({ fromMs: before.ms, toMs: nowMs, requests, answers: answered });
    return this.#traffic();
  }

  #traffic(): Traffic {
    const seconds = ((this.#steps.at(-1)?.toMs ?? 0) - (this.#steps[0]?.fromMs ?? 0)) / 1_000;
    const latest = this.#steps.at(-1);
    const byRoute = new Map<string, Map<string, number>>();
    const answers = new Map<string, number>();
    for (const step of this.#steps) {
      for (const [route, apps] of step.requests) {
        for (const [app, count] of apps) add(byRoute, route, app, count);
      }
      for (const [name, count] of step.answers) answers.set(name, (answers.get(name) ?? 0) + count);
    }
    const routes = [...byRoute]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([route, requestsByApp]) => ({
        route,
        requestsPerSecond: sum(requestsByApp) / seconds,
        requestsByApp,
        isMoving: latest?.requests.has(route) ?? false,
      }));
    const withoutRoute = answers.get(WITHOUT_ROUTE) ?? 0;
    answers.delete(WITHOUT_ROUTE);
    const total = sum(answers);
    if (total === 0) return { routes, answers: undefined };
    const countByClass = new Map(
      [...answers].filter(([, count]) => count > 0).map(([name, count]) => [name.slice(CLASS_PREFIX.length), count]),
    );
    const isMoving = sum(latest?.answers ?? new Map()) > 0;
    return { routes, answers: { answersPerSecond: total / seconds, countByClass, withoutRoute, isMoving } };
  }

  /** Names of apps by the addresses of their instances, of all that a cluster's host leads to. */
  #appNames(cluster: string): ReadonlyMap<string, string> {
    const names = new Map<string, string>();
    for (const { paths } of this.#table.group(groupOf(hostOfCluster(cluster)))?.hosts ?? []) {
      for (const { address, port, appName } of paths.flatMap(allShares).flatMap(({ endpoints }) => endpoints)) {
        names.set(`${address}:${port}`, appName || NO_APP);
      }
    }
    return names;
  }
}

function add(counts: Map<string, Map<string, number>>, route: string, app: string, count: number): void {
  const apps = counts.get(route) ?? new Map<string, number>();
  counts.set(route, apps);
  apps.set(app, (apps.get(app) ?? 0) + count);
}

function sum(counts: ReadonlyMap<string, number>): number {
  return [...counts.values()].reduce((total, count) => total + count, 0);
}
