/** What clients of the copilot API said, in memory: routes with their mappings, associations, and who has which address. */
import type { Route } from "../../entries/entries.js";
import { compareText } from "../../lib/compare-text.js";

export interface ToldRoute {
  readonly guid: string;
  /** Lower case; "" for a route that has mappings, and was not told itself. */
  readonly host: string;
  /** "" or begins with "/". */
  readonly path: string;
  readonly internal: boolean;
  /** IPv4; "" when it has none. */
  readonly vip: string;
}

export interface MappedRoute extends ToldRoute {
  /** By process guid. */
  readonly weights: ReadonlyMap<string, number>;
}

export const NO_WEIGHTS: ReadonlyMap<string, number> = new Map();

/** A route that has mappings alone: routers pass it over. */
export function untold(guid: string, weights = NO_WEIGHTS): MappedRoute {
  return { guid, host: "", path: "", internal: false, vip: "", weights };
}

export class Picture {
  readonly #routes = new Map<string, MappedRoute>();
  readonly #associations = new Map<string, readonly string[]>();
  readonly #routeByVip = new Map<string, string>();
  /** Routes that have an address, by their host: most hosts have one. */
  readonly #routesByHost = new Map<string, readonly MappedRoute[]>();

  get routes(): ReadonlyMap<string, MappedRoute> {
    return this.#routes;
  }

  /** Diego's process guids by Cloud Controller's. */
  get associations(): ReadonlyMap<string, readonly string[]> {
    return this.#associations;
  }

  putRoute(route: MappedRoute): void {
    if (this.#routes.has(route.guid)) this.removeRoute(route.guid);
    this.#routes.set(route.guid, route);
    if (route.vip === "") return;
    this.#routeByVip.set(route.vip, route.guid);
    const others = this.#routesByHost.get(route.host) ?? [];
    this.#routesByHost.set(route.host, [...others, route].sort(byPathAndGuid));
  }

  removeRoute(guid: string): void {
    const route = this.#routes.get(guid);
    if (!route) return;
    this.#routes.delete(guid);
    if (route.vip === "") return;
    this.#routeByVip.delete(route.vip);
    const others = this.#routesByHost.get(route.host)?.filter((other) => other !== route) ?? [];
    if (others.length > 0) this.#routesByHost.set(route.host, others);
    else this.#routesByHost.delete(route.host);
  }

  putAssociation(processGuid: string, lrpProcessGuids: readonly string[]): void {
    this.#associations.set(processGuid, lrpProcessGuids);
  }

  removeAssociation(processGuid: string): void {
    this.#associations.delete(processGuid);
  }

  /** The guid of the route that has the address. */
  holderOf(vip: string): string | undefined {
    return this.#routeByVip.get(vip);
  }

  /** The address of a host, lower case; of several routes the one without a path, or with the first, decides. */
  vipOf(host: string): string | undefined {
    return this.#routesByHost.get(host)?.[0]?.vip;
  }
}

function byPathAndGuid(a: MappedRoute, b: MappedRoute): number {
  return compareText(a.path, b.path) || compareText(a.guid, b.guid);
}

export function routeOfEntry({ guid, host, path, internal, vip, destinations }: Route): MappedRoute {
  const weights = new Map(destinations.map(({ processGuid, weight }) => [processGuid, weight]));
  return { guid, host, path, internal, vip, weights };
}
