/** Changes of a foundation through its API, without end: routes come and go, weights and instances move. */
import { Connection, isServed } from "./connection.js";
import { type BenchFoundation, FOUNDATION_DOMAIN } from "./foundation-main.js";

/** Routes of the churn that stand at once; one more, and the oldest goes. */
const MAX_ROUTES = 50;
const MAX_INSTANCES = 3;
const SERVED_TIMEOUT_MS = 30_000;
/** Of each kind in a round; a change of instances starts processes, which costs the machine most. */
const ROUND = ["route", "weights", "route", "weights", "route", "weights", "route", "instances"] as const;

interface ChurnRoute {
  readonly guid: string;
  readonly host: string;
}

export interface ChurnCounts {
  routes: number;
  weights: number;
  instances: number;
  requests: number;
  /** Answers other than 200 of routes that were served before and stand, as a text each. */
  readonly failures: string[];
}

export class Churn {
  readonly #foundation: BenchFoundation;
  readonly #connection: Connection;
  readonly #relationships: object;
  /** The oldest first. */
  readonly #routes: ChurnRoute[] = [];
  #lastHosts: readonly string[] = [];
  #step = 0;
  readonly counts: ChurnCounts = { routes: 0, weights: 0, instances: 0, requests: 0, failures: [] };

  static async open(foundation: BenchFoundation, port: number, signal: AbortSignal): Promise<Churn> {
    const guid = async (path: string) => {
      const { resources } = (await call(foundation, "GET", path)) as { resources: { guid: string }[] };
      return resources[0]?.guid ?? "";
    };
    const space = await guid("/v3/spaces?names=dev");
    const domain = await guid(`/v3/domains?names=${FOUNDATION_DOMAIN}`);
    const relationships = { space: { data: { guid: space } }, domain: { data: { guid: domain } } };
    return new Churn(foundation, await Connection.open(port, signal), relationships);
  }

  private constructor(foundation: BenchFoundation, connection: Connection, relationships: object) {
    this.#foundation = foundation;
    this.#connection = connection;
    this.#relationships = relationships;
  }

  /** Hosts that have a route now. */
  get hosts(): readonly string[] {
    return this.#routes.map(({ host }) => host);
  }

  /** The latest hosts whose route is gone. */
  get goneHosts(): readonly string[] {
    return this.#lastHosts;
  }

  /** One change, and a request to each of some routes that stand. */
  async step(): Promise<void> {
    const kind = ROUND[this.#step % ROUND.length] ?? "route";
    this.#step += 1;
    if (kind === "route") await this.#newRoute();
    if (kind === "weights") await this.#weigh();
    if (kind === "instances") await this.#scale();
    this.counts[kind === "route" ? "routes" : kind] += 1;
    for (let asked = 0; asked < 5; asked += 1) await this.#ask(this.#anyRoute());
  }

  close(): void {
    this.#connection.close();
  }

  async #newRoute(): Promise<void> {
    const host = `soak-${this.counts.routes}`;
    const body = { host, relationships: this.#relationships };
    const { guid } = (await call(this.#foundation, "POST", "/v3/routes", body)) as { guid: string };
    const route = { guid, host: `${host}.${FOUNDATION_DOMAIN}` };
    await this.#weighRoute(route);
    await this.#connection.until(route.host, SERVED_TIMEOUT_MS, isServed);
    this.#routes.push(route);
    if (this.#routes.length <= MAX_ROUTES) return;
    const oldest = this.#routes.shift();
    if (!oldest) return;
    await call(this.#foundation, "DELETE", `/v3/routes/${oldest.guid}`);
    this.#lastHosts = [...this.#lastHosts, oldest.host].slice(-MAX_ROUTES);
  }

  async #weigh(): Promise<void> {
    await this.#weighRoute(this.#anyRoute());
  }

  async #weighRoute({ guid }: ChurnRoute): Promise<void> {
    const weight = 1 + Math.floor(Math.random() * 99);
    const [one, two] = this.#foundation.apps;
    const destinations = [
      { app: { guid: one }, weight },
      { app: { guid: two }, weight: 100 - weight },
    ];
    await call(this.#foundation, "PATCH", `/v3/routes/${guid}/destinations`, { destinations });
  }

  async #scale(): Promise<void> {
    const [one, two] = this.#foundation.apps;
    const app = this.counts.instances % 2 === 0 ? one : two;
    // In turns, so that each change is one.
    const instances = 1 + ((this.counts.instances >> 1) % MAX_INSTANCES);
    await call(this.#foundation, "POST", `/v3/apps/${app}/processes/web/actions/scale`, { instances });
  }

  async #ask({ host }: ChurnRoute): Promise<void> {
    const answer = await this.#connection.get(host);
    this.counts.requests += 1;
    if (!isServed(answer)) this.counts.failures.push(`${host}: ${answer.status} ${answer.body.trim()}`);
  }

  #anyRoute(): ChurnRoute {
    const route = this.#routes[Math.floor(Math.random() * this.#routes.length)];
    if (!route) throw new Error("a churn begins with a route");
    return route;
  }
}

async function call(foundation: BenchFoundation, method: string, path: string, body?: object): Promise<unknown> {
  const answer = await fetch(`${foundation.apiUrl}${path}`, {
    method,
    headers: { authorization: foundation.token },
    ...(body && { body: JSON.stringify(body) }),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return text === "" ? undefined : JSON.parse(text);
}
