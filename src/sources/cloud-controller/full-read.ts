/** One read of everything: all routes, and what they are joined with. */
import { buildRoutes, type BuiltRoute } from "./build-routes.js";
import { type AppFacts, Directory } from "./directory.js";
import { readWholeList } from "./list.js";
import {
  batches,
  type FetchList,
  ROUTE_BINDINGS,
  routeBindingsOf,
  takeApp,
  takeProcess,
  takeSpaces,
} from "./lookups.js";
import { givingWay } from "./giving-way.js";
import { PackedEntries } from "./packed-entries.js";
import type { Refusals } from "./refusals.js";
import type { Page } from "./resources.js";
import { RouteIndex } from "./route-index.js";
import type { Query } from "./cc-client.js";

export interface FullReadOptions {
  readonly fetch: FetchList;
  readonly refusals: Refusals;
  readonly pageSize: number;
  /** Pages of one list asked for at a time. */
  readonly concurrency: number;
}

export class FullRead {
  /** Values of all routes, by guid. */
  readonly entries = new PackedEntries();
  readonly index = new RouteIndex();
  readonly directory = new Directory();
  /** Guids of malformed routes: what the log has of them stays. */
  readonly refused = new Set<string>();
  readonly #options: FullReadOptions;
  /** Routes and apps that were read on their own since this read began: newer than what its pages say. */
  readonly #newerRoutes = new Set<string>();
  readonly #newerApps = new Map<string, AppFacts | undefined>();
  #someUnnamed = false;

  constructor(options: FullReadOptions) {
    this.#options = options;
  }

  /** False when a malformed route came without its guid: no missing one can be said to be gone. */
  get maySayGone(): boolean {
    return !this.#someUnnamed;
  }

  /**
   * Reads everything. Routes of `knownGuids()` that didn't come up are asked for by guid, before they count as gone.
   *
   * Throws  when any part fails; nothing of this read is to be used then.
   */
  async run(knownGuids: () => Iterable<string>): Promise<void> {
    const { refusals } = this.#options;
    await this.#readList("/v3/spaces", { include: "organization" }, (page) =>
      takeSpaces(page, this.directory, refusals),
    );
    await this.#readList("/v3/apps", {}, async (page) => {
      for await (const resource of givingWay(page.resources)) takeApp(resource, this.directory, refusals);
    });
    await this.#readList("/v3/processes", {}, async (page) => {
      for await (const resource of givingWay(page.resources)) takeProcess(resource, this.directory, refusals);
    });
    await this.#readList(ROUTE_BINDINGS, {}, (page) => {
      for (const binding of routeBindingsOf(page, refusals)) {
        if (!this.#newerRoutes.has(binding.routeGuid)) this.directory.bindings.set(binding);
      }
    });
    for (const [guid, facts] of this.#newerApps) this.directory.setApp(guid, facts);
    await this.#readList("/v3/routes", { include: "domain" }, (page) => this.#takeRoutes(page));
    const missing = [...knownGuids()].filter((guid) => !this.#knows(guid));
    for (const guids of batches(missing)) {
      const query = { guids: guids.join(","), include: "domain", per_page: guids.length };
      await this.#takeRoutes(await this.#options.fetch("/v3/routes", query));
    }
  }

  /** A route as it was read on its own meanwhile; undefined: it is gone. */
  setRoute(guid: string, route: BuiltRoute | undefined): void {
    this.#newerRoutes.add(guid);
    if (route) this.#set(route);
    else {
      this.entries.delete(guid);
      this.index.delete(guid);
    }
  }

  /** An app as it was read on its own meanwhile; undefined: it is gone. */
  setApp(guid: string, facts: AppFacts | undefined): void {
    this.#newerApps.set(guid, facts);
    this.directory.setApp(guid, facts);
  }

  async #takeRoutes(page: Page): Promise<void> {
    const { fetch, refusals } = this.#options;
    const { directory } = this;
    const built = await buildRoutes(page, { fetch, directory, refusals }, { lookUpProcesses: false });
    for (const route of built.routes) {
      if (!this.#newerRoutes.has(route.guid)) this.#set(route);
    }
    for (const guid of built.refused) this.refused.add(guid);
    this.#someUnnamed ||= built.someUnnamed;
  }

  #set(route: BuiltRoute): void {
    this.entries.set(route.guid, route.value);
    this.index.set(route.guid, route.appGuids);
    this.refused.delete(route.guid);
  }

  #knows(guid: string): boolean {
    return this.entries.has(guid) || this.refused.has(guid) || this.#newerRoutes.has(guid);
  }

  async #readList(path: string, query: Query, take: (page: Page) => Promise<void> | void): Promise<void> {
    const { fetch, pageSize, concurrency } = this.#options;
    await readWholeList((more) => fetch(path, more), { query, pageSize, concurrency }, take);
  }
}
