/**
 * Keeps `route.cc.*` as the Cloud Controller says: by full reads, and between them by reading what changes point to.
 *
 * What is known to need a read stays on a list until that read was written, so that a failure loses nothing.
 */
import { KEY_SPACES } from "../../entries/keys.js";
import type { Clock } from "../../lib/clock.js";
import type { KeySpaceWriter, Want, WriteCounts } from "../../log/key-space-writer.js";
import { buildRoutes, type BuiltPage, type BuiltRoute } from "./build-routes.js";
import { type AppFacts, Directory, sameApp } from "./directory.js";
import { EventFeed } from "./event-feed.js";
import { FullRead } from "./full-read.js";
import { readWholeList } from "./list.js";
import { type FetchList, GUIDS_PER_READ, readApps, readAppsOfProcesses, readRouteBindings } from "./lookups.js";
import type { Refusals } from "./refusals.js";
import { guidOf, type Page, updatedAt } from "./resources.js";
import { RouteIndex } from "./route-index.js";
import { OVERLAP_MS, timestampOf } from "./timestamps.js";
import { Todo } from "./todo.js";

/** What somebody else saw change: a reason to read it now. */
export interface RefreshHint {
  /** Apps that may have another name, other processes and other routes. */
  readonly appGuids?: readonly string[];
  /** Processes that may be new, or have other routes. */
  readonly processGuids?: readonly string[];
  readonly routeGuids?: readonly string[];
  /** Something did change: a read that shows nothing new came too early, and is repeated once. */
  readonly isCertain?: boolean;
}

export interface RouteSyncOptions {
  readonly fetch: FetchList;
  /** The Cloud Controller's time, Unix ms; undefined while it told none. */
  readonly serverMs: () => number | undefined;
  readonly writer: KeySpaceWriter;
  readonly refusals: Refusals;
  readonly clock: Clock;
  readonly pageSize: number;
}

const KEY_SPACE = KEY_SPACES.cloudControllerRoutes;
/**
 * Up to so many routes, the read of what is new asks for the newest of all routes, and so learns their number as well:
 * routes that vanish without a trace (with their domain) are missed at once. Beyond, counting costs the Cloud
 * Controller's database too much; the next full read finds them.
 */
const COUNTED_ROUTES = 20_000;
const NEWEST = 200;
/** How long something whose deletion was asked for is looked at again and again. */
const LEAVING_MS = 60_000;
const WRITE_BATCH = 1000;

export class RouteSync {
  readonly #options: RouteSyncOptions;
  #index = new RouteIndex();
  #directory = new Directory();
  /** Malformed routes that the log has no value of: the Cloud Controller counts them, the index doesn't. */
  #strangers = new Set<string>();
  #fullRead: FullRead | undefined;
  #events: EventFeed;
  #updatesSinceMs: number;
  /** Routes written and deleted, but for those of full reads. */
  #changeCount = 0;
  readonly #apps = new Todo();
  /** Apps whose routes are to be asked for by the app: new ones may lead to it that nobody told of. */
  readonly #appsWithRoutes = new Todo();
  readonly #processes = new Todo();
  readonly #routes = new Todo();
  /** Those whose bindings may be others now. */
  readonly #serviceInstances = new Todo();
  /** By guid, the time until which it is looked at. */
  readonly #leavingRoutes = new Map<string, number>();
  readonly #leavingApps = new Map<string, number>();

  /** Changes since `sinceMs` of the Cloud Controller's clock are followed. */
  constructor(sinceMs: number, options: RouteSyncOptions) {
    this.#options = options;
    this.#events = new EventFeed(sinceMs);
    this.#updatesSinceMs = sinceMs;
  }

  hint({ appGuids = [], processGuids = [], routeGuids = [] }: RefreshHint): void {
    this.#apps.add(appGuids);
    this.#appsWithRoutes.add(appGuids);
    this.#processes.add(processGuids);
    this.#routes.add(routeGuids);
  }

  /**
   * Reads everything, so many pages at a time, beside whatever else goes on; writes nothing. Throws when any part of it
   * fails.
   */
  async readAll(fetch: FetchList, concurrency: number): Promise<FullRead> {
    const { refusals, pageSize } = this.#options;
    const read = new FullRead({ fetch, refusals, pageSize, concurrency });
    this.#fullRead = read;
    try {
      await read.run(() => this.#writtenGuids());
    } catch (error) {
      this.#fullRead = undefined;
      throw error;
    }
    return read;
  }

  /** Makes the key space what the read says. No other call may be under way. */
  async commit(read: FullRead): Promise<WriteCounts> {
    const { writer } = this.#options;
    const written = new Set(read.refused.size > 0 || !read.maySayGone ? this.#writtenGuids() : []);
    const kept = [...written].filter((guid) => !read.entries.has(guid) && (read.refused.has(guid) || !read.maySayGone));
    const counts =
      kept.length === 0 ? await writer.replaceAll(wantsOf(read)) : await this.#applyAll(read, new Set(kept));
    this.#index = read.index;
    this.#directory = read.directory;
    for (const guid of kept) this.#index.set(guid, []);
    this.#strangers = new Set([...read.refused].filter((guid) => !this.#index.has(guid)));
    this.#fullRead = undefined;
    return counts;
  }

  /** Reads what audit events point to, and writes it. */
  async followEvents(): Promise<void> {
    const { fetch, serverMs, refusals, clock } = this.#options;
    const { routeGuids, appGuids, bindingGuids, serviceInstanceGuids, policyGuids, leaving } = await this.#events.read(
      fetch,
      serverMs,
      refusals,
    );
    this.#routes.add(routeGuids);
    this.#routes.add(this.#directory.policies.routesOf(new Set(policyGuids)));
    this.#apps.add(appGuids);
    this.#routes.add(this.#directory.bindings.routesOf(new Set([...bindingGuids, ...serviceInstanceGuids])));
    this.#serviceInstances.add(serviceInstanceGuids);
    for (const guid of leaving.routeGuids) this.#leavingRoutes.set(guid, clock.now() + LEAVING_MS);
    for (const guid of leaving.appGuids) this.#leavingApps.set(guid, clock.now() + LEAVING_MS);
    this.#routes.add(stillLeaving(this.#leavingRoutes, clock.now()));
    this.#apps.add(stillLeaving(this.#leavingApps, clock.now()));
    await this.settle();
  }

  /**
   * Reads the routes that were created or updated, and writes them.
   *
   * Returns  whether there are as many routes as we know of; true as well where they were not counted.
   */
  async followUpdates(): Promise<boolean> {
    const { fetch, serverMs, pageSize } = this.#options;
    const askedAtMs = serverMs();
    // It may have gone back: what was told of a time to come was wrong.
    this.#updatesSinceMs = Math.min(this.#updatesSinceMs, askedAtMs ?? Infinity);
    const since = timestampOf(this.#updatesSinceMs - OVERLAP_MS);
    let total: number | undefined;
    let seenAll = false;
    if (this.#index.size <= COUNTED_ROUTES) {
      const page = await fetch("/v3/routes", { include: "domain", order_by: "-updated_at", per_page: NEWEST });
      const resources = page.resources.filter((resource) => (updatedAt(resource) ?? since) >= since);
      total = page.pagination.total_results;
      seenAll = resources.length < page.resources.length || page.resources.length >= total;
      await this.#take({ ...page, resources });
    }
    if (!seenAll) {
      const query = { include: "domain", "updated_ats[gte]": since };
      const options = { query, pageSize, concurrency: 1 };
      await readWholeList(
        (more) => fetch("/v3/routes", more),
        options,
        async (page) => {
          await this.#take(page);
        },
      );
    }
    this.#updatesSinceMs = askedAtMs ?? this.#updatesSinceMs;
    await this.settle();
    return total === undefined || total === this.#index.size + this.#strangers.size;
  }

  /** Reads what is known to need a read, and writes it. Returns whether it changed anything. */
  async settle(): Promise<boolean> {
    const { fetch, refusals, pageSize } = this.#options;
    const changesBefore = this.#changeCount;
    await this.#processes.work(GUIDS_PER_READ, async (guids) => {
      const known = this.#directory.appsOfProcesses(guids);
      this.#appsWithRoutes.add(known.values());
      const strangers = guids.filter((guid) => !known.has(guid));
      if (strangers.length === 0) return;
      const appGuids = await readAppsOfProcesses(fetch, strangers, refusals);
      this.#apps.add(appGuids);
      this.#appsWithRoutes.add(appGuids);
    });
    await this.#appsWithRoutes.work(GUIDS_PER_READ, async (guids) => {
      const query = { include: "domain", app_guids: guids.join(",") };
      const taken = new Set<string>();
      await readWholeList(
        (more) => fetch("/v3/routes", more),
        { query, pageSize, concurrency: 1 },
        async (page) => {
          await this.#learnBindings(page.resources.map(guidOf).filter((guid) => guid !== undefined));
          for (const { guid } of (await this.#take(page)).routes) taken.add(guid);
        },
      );
      // Those that led to these apps, and came up no more, may lead elsewhere now.
      for (const guid of this.#index.routesOf(new Set(guids))) if (!taken.has(guid)) this.#routes.add([guid]);
    });
    await this.#apps.work(GUIDS_PER_READ, async (guids) => {
      this.#learn(await readApps(fetch, guids, refusals));
    });
    await this.#serviceInstances.work(GUIDS_PER_READ, async (guids) => {
      const bindings = await readRouteBindings(fetch, "service_instance_guids", guids, refusals);
      this.#routes.add(bindings.map(({ routeGuid }) => routeGuid));
    });
    await this.#routes.work(GUIDS_PER_READ, async (guids) => {
      const query = { guids: guids.join(","), include: "domain", per_page: GUIDS_PER_READ };
      const [page] = await Promise.all([fetch("/v3/routes", query), this.#learnBindings(guids)]);
      const built = await this.#take(page);
      if (built.someUnnamed) return;
      const found = new Set([...built.routes.map(({ guid }) => guid), ...built.refused]);
      await this.#drop(guids.filter((guid) => !found.has(guid)));
    });
    return this.#changeCount > changesBefore;
  }

  /** No change of a binding shows in its route: whoever reads a route for a reason reads its binding, too. */
  async #learnBindings(routeGuids: readonly string[]): Promise<void> {
    if (routeGuids.length === 0) return;
    const { fetch, refusals } = this.#options;
    const bindings = await readRouteBindings(fetch, "route_guids", routeGuids, refusals);
    this.#directory.bindings.replace(routeGuids, bindings);
    this.#fullRead?.directory.bindings.replace(routeGuids, bindings);
  }

  /** Writes the routes of a page. */
  async #take(page: Page): Promise<BuiltPage> {
    const { fetch, refusals, writer } = this.#options;
    const context = { fetch, directory: this.#directory, refusals };
    const { policies } = this.#directory;
    // As with bindings: no change of a policy shows in its route.
    policies.forget(page.resources.map(guidOf).filter((guid) => guid !== undefined));
    const built = await buildRoutes(page, context, { lookUpProcesses: true, learn: (apps) => this.#learn(apps) });
    for (const { guid } of built.routes) this.#fullRead?.directory.policies.takeOver(guid, policies);
    const wants = built.routes.map(({ guid, value }) => ({ key: KEY_SPACE + guid, value }));
    if (wants.length > 0) this.#count(await writer.apply(wants));
    for (const route of built.routes) this.#known(route.guid, route);
    for (const guid of built.refused) if (!this.#index.has(guid)) this.#strangers.add(guid);
    return built;
  }

  /** Routes that are gone. */
  async #drop(guids: readonly string[]): Promise<void> {
    for (const guid of guids) this.#leavingRoutes.delete(guid);
    const written = guids.filter((guid) => this.#index.has(guid));
    if (written.length > 0) {
      this.#count(
        await this.#options.writer.apply(written.map((guid) => ({ key: KEY_SPACE + guid, value: undefined }))),
      );
    }
    for (const guid of guids) this.#known(guid, undefined);
  }

  #count({ written, deleted }: WriteCounts): void {
    this.#changeCount += written + deleted;
  }

  #known(guid: string, route: BuiltRoute | undefined): void {
    if (route) this.#index.set(guid, route.appGuids);
    else this.#index.delete(guid);
    this.#strangers.delete(guid);
    this.#fullRead?.setRoute(guid, route);
  }

  /** Routes that were built by what was known of these apps before are read again. */
  #learn(apps: ReadonlyMap<string, AppFacts | undefined>): void {
    const changed = new Set<string>();
    for (const [guid, facts] of apps) {
      if (facts === undefined) this.#leavingApps.delete(guid);
      if (sameApp(facts, this.#directory.apps.get(guid))) continue;
      this.#directory.setApp(guid, facts);
      this.#fullRead?.setApp(guid, facts);
      changed.add(guid);
    }
    this.#routes.add(this.#index.routesOf(changed));
  }

  *#writtenGuids(): IterableIterator<string> {
    for (const key of this.#options.writer.keys()) yield key.slice(KEY_SPACE.length);
  }

  async #applyAll(read: FullRead, kept: ReadonlySet<string>): Promise<WriteCounts> {
    const gone = [...this.#writtenGuids()].filter((guid) => !read.entries.has(guid) && !kept.has(guid));
    const wants: Iterator<Want> = wantsOf(read, gone);
    const sum = { written: 0, deleted: 0, unchanged: 0 };
    for (;;) {
      const batch = [];
      while (batch.length < WRITE_BATCH) {
        const next = wants.next();
        if (next.done) break;
        batch.push(next.value);
      }
      if (batch.length === 0) return sum;
      const counts = await this.#options.writer.apply(batch);
      sum.written += counts.written;
      sum.deleted += counts.deleted;
      sum.unchanged += counts.unchanged;
    }
  }
}

function* wantsOf(read: FullRead, gone: readonly string[] = []): IterableIterator<Want> {
  for (const [guid, value] of read.entries) yield { key: KEY_SPACE + guid, value };
  for (const guid of gone) yield { key: KEY_SPACE + guid, value: undefined };
}

/** The guids whose time has not run out; the others are forgotten. */
function stillLeaving(untilByGuid: Map<string, number>, nowMs: number): readonly string[] {
  for (const [guid, untilMs] of untilByGuid) if (untilMs <= nowMs) untilByGuid.delete(guid);
  return [...untilByGuid.keys()];
}
