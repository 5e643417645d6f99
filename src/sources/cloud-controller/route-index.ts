const NO_APPS: readonly string[] = [];

/** The routes that are in the log, with the apps that they lead to: the way from a changed app to its routes. */
export class RouteIndex {
  /** Nearly every route leads to one app, or none. */
  readonly #apps = new Map<string, string | readonly string[]>();
  /** One string per app instead of one per route of it. */
  readonly #shared = new Map<string, string>();

  get size(): number {
    return this.#apps.size;
  }

  has(routeGuid: string): boolean {
    return this.#apps.has(routeGuid);
  }

  guids(): IterableIterator<string> {
    return this.#apps.keys();
  }

  set(routeGuid: string, appGuids: readonly string[]): void {
    const [only, ...others] = appGuids.map((guid) => this.#share(guid));
    if (only === undefined) this.#apps.set(routeGuid, NO_APPS);
    else this.#apps.set(routeGuid, others.length === 0 ? only : [only, ...others]);
  }

  delete(routeGuid: string): void {
    this.#apps.delete(routeGuid);
  }

  /** Looks at every route: changes of apps are rare, and an index in this direction would be the larger one. */
  *routesOf(appGuids: ReadonlySet<string>): IterableIterator<string> {
    if (appGuids.size === 0) return;
    for (const [routeGuid, apps] of this.#apps) {
      if (typeof apps === "string" ? appGuids.has(apps) : apps.some((app) => appGuids.has(app))) yield routeGuid;
    }
  }

  #share(appGuid: string): string {
    const shared = this.#shared.get(appGuid);
    if (shared !== undefined) return shared;
    this.#shared.set(appGuid, appGuid);
    return appGuid;
  }
}
