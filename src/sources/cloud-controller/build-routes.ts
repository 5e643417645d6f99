/** From a page of routes to values of the mesh log. */
import { encodeRoute } from "../../entries/entries.js";
import type { AppFacts, Directory } from "./directory.js";
import { givingWay } from "./giving-way.js";
import { type FetchList, readApps, readRoutePolicies, readSpaces, takeDomains } from "./lookups.js";
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
}

export interface BuildContext {
  readonly fetch: FetchList;
  readonly directory: Directory;
  readonly refusals: Refusals;
}

export interface BuildOptions {
  /** Look up apps without a process for a destination too; else only those that the directory doesn't know. */
  readonly lookUpProcesses: boolean;
  /** Puts apps that were looked up into the directory, undefined ones are gone; for who has more to do then. */
  readonly learn?: (apps: ReadonlyMap<string, AppFacts | undefined>) => void;
}

/** Builds the routes of a page that was read with include=domain. Throws what `fetch` throws. */
export async function buildRoutes(page: Page, context: BuildContext, options: BuildOptions): Promise<BuiltPage> {
  const { directory, refusals } = context;
  takeDomains(page, directory, refusals);
  const refused: (string | undefined)[] = [];
  const routes: CcRoute[] = [];
  for await (const resource of givingWay(page.resources)) {
    const route = refusals.accept("route", check(RouteSchema, resource));
    if (route) routes.push(route);
    else refused.push(guidOf(resource));
  }
  await learnApps(routes, context, options);
  await learnPolicies(routes, context);
  await learnSpaces(routes, context);
  const built: BuiltRoute[] = [];
  for await (const route of givingWay(routes)) {
    const entry = routeEntry(route, directory);
    if (entry) {
      built.push({ guid: route.guid, appGuids: appGuidsOf(route), value: encodeRoute(entry) });
      continue;
    }
    const domain = route.relationships.domain.data.guid;
    refusals.refuse("route", route.guid, `relationships.domain: domain ${domain} did not come with it`);
    refused.push(route.guid);
  }
  return {
    routes: built,
    refused: refused.filter((guid) => guid !== undefined),
    someUnnamed: refused.includes(undefined),
  };
}

async function learnApps(
  routes: readonly CcRoute[],
  { fetch, directory, refusals }: BuildContext,
  { lookUpProcesses, learn = (apps) => apps.forEach((facts, guid) => directory.setApp(guid, facts)) }: BuildOptions,
): Promise<void> {
  const unknown = new Set<string>();
  for (const { destinations } of routes) {
    for (const { app } of destinations) {
      const lacks = lookUpProcesses && directory.processGuids(app.guid, app.process.type).length === 0;
      if (lacks || !directory.apps.has(app.guid)) unknown.add(app.guid);
    }
  }
  if (unknown.size > 0) learn(await readApps(fetch, unknown, refusals));
}

/** Of routes whose domain enforces them alone: a Cloud Controller without such domains may have no policies at all. */
async function learnPolicies(routes: readonly CcRoute[], { fetch, refusals, directory }: BuildContext): Promise<void> {
  const unknown = routes
    .filter((route) => isPoliced(route, directory) && !directory.policies.has(route.guid))
    .map(({ guid }) => guid);
  if (unknown.length === 0) return;
  directory.policies.replace(unknown, await readRoutePolicies(fetch, unknown, refusals));
  for (const guid of unknown) {
    for (const problem of directory.policies.sourcesOf(guid).problems) {
      refusals.note("route", guid, `route policies: ${problem}`);
    }
  }
}

function isPoliced({ relationships }: CcRoute, { domains }: Directory): boolean {
  return (domains.get(relationships.domain.data.guid)?.routePolicyScope ?? "") !== "";
}

async function learnSpaces(routes: readonly CcRoute[], { fetch, refusals, directory }: BuildContext): Promise<void> {
  const unknown = new Set<string>();
  const want = (guid: string) => {
    if (guid !== "" && !directory.spaces.has(guid)) unknown.add(guid);
  };
  for (const route of routes) {
    want(route.relationships.space.data.guid);
    // A scope compares callers with the app's own space.
    if (!isPoliced(route, directory)) continue;
    for (const { app } of route.destinations) want(directory.apps.get(app.guid)?.spaceGuid ?? "");
  }
  for (const [guid, facts] of await readSpaces(fetch, unknown, refusals)) directory.spaces.set(guid, facts);
}
