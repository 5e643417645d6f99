/** From a page of routes to values of the mesh log. */
import { encodeRoute } from "../../entries/entries.js";
import { type AppFacts, type Directory, sameApp } from "./directory.js";
import { type FetchList, readApps, readSpaces, takeDomains } from "./lookups.js";
import type { Refusals } from "./refusals.js";
import { type CcRoute, check, guidOf, type Page, RouteSchema } from "./resources.js";
import { appGuidsOf, routeEntry } from "./route-entry.js";

export interface BuiltRoute {
  readonly guid: string;
  readonly appGuids: readonly string[];
  readonly value: Uint8Array;
}

export interface BuiltPage {
  readonly routes: readonly BuiltRoute[];
  /** Guids of malformed routes. */
  readonly refused: readonly string[];
  /** Some malformed route didn't even show its guid: whether a guid is on this page can't be said. */
  readonly someUnnamed: boolean;
  /** Apps that turned out to be other than the directory knew them; it knows them now. */
  readonly changedApps: ReadonlyMap<string, AppFacts | undefined>;
}

/**
 * Builds the routes of a page that was read with include=domain. Apps and spaces that the directory doesn't know are
 * looked up; so are apps without a process for a destination, if `lookUpProcesses` says so.
 */
export async function buildRoutes(
  page: Page,
  { fetch, directory, refusals }: { fetch: FetchList; directory: Directory; refusals: Refusals },
  { lookUpProcesses }: { lookUpProcesses: boolean },
): Promise<BuiltPage> {
  takeDomains(page, directory, refusals);
  const refused: string[] = [];
  let someUnnamed = false;
  const routes: CcRoute[] = [];
  for (const resource of page.resources) {
    const route = refusals.accept("route", check(RouteSchema, resource), guidOf(resource));
    if (route) routes.push(route);
    else refuse(guidOf(resource));
  }
  function refuse(guid: string | undefined): void {
    if (guid === undefined) someUnnamed = true;
    else refused.push(guid);
  }

  const changedApps = await learnApps();
  await learnSpaces();
  const built: BuiltRoute[] = [];
  for (const route of routes) {
    const entry = routeEntry(route, directory);
    if (entry) {
      built.push({ guid: route.guid, appGuids: appGuidsOf(route), value: encodeRoute(entry) });
    } else {
      const domain = route.relationships.domain.data.guid;
      refusals.refuse("route", route.guid, `relationships.domain: domain ${domain} did not come with it`);
      refuse(route.guid);
    }
  }
  return { routes: built, refused, someUnnamed, changedApps };

  async function learnApps() {
    const unknown = new Set<string>();
    for (const { app } of routes.flatMap(({ destinations }) => destinations)) {
      const lacks = lookUpProcesses && directory.processGuids(app.guid, app.process.type).length === 0;
      if (lacks || !directory.apps.has(app.guid)) unknown.add(app.guid);
    }
    const changed = new Map<string, AppFacts | undefined>();
    for (const [guid, facts] of await readApps(fetch, unknown, refusals)) {
      if (!sameApp(facts, directory.apps.get(guid))) changed.set(guid, facts);
      directory.setApp(guid, facts);
    }
    return changed;
  }

  async function learnSpaces() {
    const guids = new Set(routes.map(({ relationships }) => relationships.space.data.guid));
    const unknown = [...guids].filter((guid) => !directory.spaces.has(guid));
    for (const [guid, facts] of await readSpaces(fetch, unknown, refusals)) directory.spaces.set(guid, facts);
  }
}
