/** Which routes are bound to a service that their requests go to first. */

export interface RouteBinding {
  readonly guid: string;
  readonly routeGuid: string;
  readonly serviceInstanceGuid: string;
  /** "" while the binding is being made. */
  readonly url: string;
}

/** Few routes have one. */
export class RouteBindings {
  readonly #byRoute = new Map<string, RouteBinding>();

  /** "" where the route is bound to none. */
  urlOf(routeGuid: string): string {
    return this.#byRoute.get(routeGuid)?.url ?? "";
  }

  set(binding: RouteBinding): void {
    this.#byRoute.set(binding.routeGuid, binding);
  }

  /** Makes `bindings` all that these routes have. */
  replace(routeGuids: Iterable<string>, bindings: readonly RouteBinding[]): void {
    for (const guid of routeGuids) this.#byRoute.delete(guid);
    for (const binding of bindings) this.set(binding);
  }

  /** The routes of bindings, by the guids of these or of their service instances. */
  routesOf(guids: ReadonlySet<string>): readonly string[] {
    return [...this.#byRoute.values()]
      .filter(({ guid, serviceInstanceGuid }) => guids.has(guid) || guids.has(serviceInstanceGuid))
      .map(({ routeGuid }) => routeGuid);
  }
}
