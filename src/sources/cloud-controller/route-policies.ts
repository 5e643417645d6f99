/** Which callers the routes of domains that enforce route policies take. */
import { readPolicySources, type ReadSources } from "../../entries/route-policies.js";

export interface RoutePolicy {
  readonly guid: string;
  readonly routeGuid: string;
  /** "cf:app:GUID" */
  readonly source: string;
}

/** Few routes have some. */
export class RoutePolicies {
  readonly #byRoute = new Map<string, readonly RoutePolicy[]>();

  /** Whether the policies of this route were read, even if there are none. */
  has(routeGuid: string): boolean {
    return this.#byRoute.has(routeGuid);
  }

  sourcesOf(routeGuid: string): ReadSources {
    return readPolicySources((this.#byRoute.get(routeGuid) ?? []).map(({ source }) => source));
  }

  /** Makes `policies` all that these routes have. */
  replace(routeGuids: Iterable<string>, policies: readonly RoutePolicy[]): void {
    const found = new Map<string, RoutePolicy[]>([...routeGuids].map((guid) => [guid, []]));
    for (const policy of policies) found.get(policy.routeGuid)?.push(policy);
    for (const [guid, own] of found) this.#byRoute.set(guid, own);
  }

  /** Those of a route, as they were read for another directory. */
  takeOver(routeGuid: string, from: RoutePolicies): void {
    const policies = from.#byRoute.get(routeGuid);
    if (policies) this.#byRoute.set(routeGuid, policies);
  }

  /** They may be others now. */
  forget(routeGuids: Iterable<string>): void {
    for (const guid of routeGuids) this.#byRoute.delete(guid);
  }

  /** The routes of these policies. */
  routesOf(policyGuids: ReadonlySet<string>): readonly string[] {
    return [...this.#byRoute]
      .filter(([, policies]) => policies.some(({ guid }) => policyGuids.has(guid)))
      .map(([routeGuid]) => routeGuid);
  }
}
