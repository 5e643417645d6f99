/** Reads by guid: what a change points to, and what a route is joined with. */
import { type AppFacts, Directory, type DomainFacts, type SpaceFacts } from "./directory.js";
import type { Query } from "./cc-client.js";
import { readWholeList } from "./list.js";
import type { Refusals } from "./refusals.js";
import {
  AppSchema,
  check,
  DomainSchema,
  guidOf,
  OrganizationSchema,
  type Page,
  ProcessSchema,
  RouteBindingSchema,
  RoutePolicySchema,
  SpaceSchema,
} from "./resources.js";
import type { RouteBinding } from "./route-bindings.js";
import type { RoutePolicy } from "./route-policies.js";
import { policyScope } from "../../entries/route-policies.js";

/** Reads one page of the list at a path of the API. */
export type FetchList = (path: string, query: Query) => Promise<Page>;

export const ROUTE_BINDINGS = "/v3/service_route_bindings";
/** 200 guids make a URL of 8 KB, which every proxy in between takes. */
export const GUIDS_PER_READ = 200;
const CONCURRENCY = 2;
/** The largest that the API allows: what is looked up by 200 guids fits in one, but for apps with many processes. */
const PER_PAGE = 5000;

/**
 * Returns  the apps as they are; undefined for those that are gone. Malformed ones don't come up: nothing is known
 *          of them.
 */
export async function readApps(
  fetch: FetchList,
  appGuids: Iterable<string>,
  refusals: Refusals,
): Promise<ReadonlyMap<string, AppFacts | undefined>> {
  const found = new Map<string, AppFacts | undefined>();
  for (const guids of batches(appGuids)) {
    const directory = new Directory();
    const malformed = new Set<string | undefined>();
    await readList(fetch, "/v3/apps", { guids: guids.join(",") }, (page) => {
      for (const resource of page.resources) {
        if (!takeApp(resource, directory, refusals)) malformed.add(guidOf(resource));
      }
    });
    const named = new Set(directory.apps.keys());
    await readList(fetch, "/v3/processes", { app_guids: guids.join(",") }, (page) => {
      for (const resource of page.resources) takeProcess(resource, directory, refusals);
    });
    for (const guid of guids) {
      if (!malformed.has(guid) && !malformed.has(undefined)) {
        found.set(guid, named.has(guid) ? directory.apps.get(guid) : undefined);
      }
    }
  }
  return found;
}

/** Returns  the apps of the processes that are there. */
export async function readAppsOfProcesses(
  fetch: FetchList,
  processGuids: Iterable<string>,
  refusals: Refusals,
): Promise<ReadonlySet<string>> {
  const directory = new Directory();
  for (const guids of batches(processGuids)) {
    await readList(fetch, "/v3/processes", { guids: guids.join(",") }, (page) => {
      for (const resource of page.resources) takeProcess(resource, directory, refusals);
    });
  }
  return new Set(directory.apps.keys());
}

/** Returns  the spaces that are there. */
export async function readSpaces(
  fetch: FetchList,
  spaceGuids: Iterable<string>,
  refusals: Refusals,
): Promise<ReadonlyMap<string, SpaceFacts>> {
  const directory = new Directory();
  for (const guids of batches(spaceGuids)) {
    await readList(fetch, "/v3/spaces", { guids: guids.join(","), include: "organization" }, (page) =>
      takeSpaces(page, directory, refusals),
    );
  }
  return directory.spaces;
}

/** Returns  the bindings of these routes, or of these service instances. */
export async function readRouteBindings(
  fetch: FetchList,
  filter: "route_guids" | "service_instance_guids",
  guids: Iterable<string>,
  refusals: Refusals,
): Promise<readonly RouteBinding[]> {
  const bindings: RouteBinding[] = [];
  for (const batch of batches(guids)) {
    await readList(fetch, ROUTE_BINDINGS, { [filter]: batch.join(",") }, (page) => {
      bindings.push(...routeBindingsOf(page, refusals));
    });
  }
  return bindings;
}

/** Returns  the policies of these routes. One that is not understood is left out: it lets nobody in. */
export async function readRoutePolicies(
  fetch: FetchList,
  routeGuids: Iterable<string>,
  refusals: Refusals,
): Promise<readonly RoutePolicy[]> {
  const policies: RoutePolicy[] = [];
  for (const batch of batches(routeGuids)) {
    await readList(fetch, "/v3/route_policies", { route_guids: batch.join(",") }, (page) => {
      for (const resource of page.resources) {
        const policy = refusals.accept("route policy", check(RoutePolicySchema, resource));
        if (!policy) continue;
        const { guid, source, relationships } = policy;
        policies.push({ guid, source, routeGuid: relationships.route.data.guid });
      }
    });
  }
  return policies;
}

export function routeBindingsOf(page: Page, refusals: Refusals): readonly RouteBinding[] {
  return page.resources.flatMap((resource) => {
    const binding = refusals.accept("route binding", check(RouteBindingSchema, resource));
    if (!binding) return [];
    const { route, service_instance: serviceInstance } = binding.relationships;
    return {
      guid: binding.guid,
      routeGuid: route.data.guid,
      serviceInstanceGuid: serviceInstance.data.guid,
      url: binding.route_service_url ?? "",
    };
  });
}

/** Returns  whether it was well. */
export function takeApp(resource: unknown, directory: Directory, refusals: Refusals): boolean {
  const app = refusals.accept("app", check(AppSchema, resource));
  if (app) directory.nameApp(app.guid, app.name, app.relationships?.space.data.guid ?? "");
  return app !== undefined;
}

export function takeProcess(resource: unknown, directory: Directory, refusals: Refusals): void {
  const process = refusals.accept("process", check(ProcessSchema, resource));
  if (process) {
    directory.addProcess(process.relationships.app.data.guid, { guid: process.guid, type: process.type });
  }
}

export function takeSpaces(page: Page, directory: Directory, refusals: Refusals): void {
  const names = new Map<string, string>();
  for (const resource of page.included?.organizations ?? []) {
    const organization = refusals.accept("organization", check(OrganizationSchema, resource));
    if (organization) names.set(organization.guid, organization.name);
  }
  for (const resource of page.resources) {
    const space = refusals.accept("space", check(SpaceSchema, resource));
    if (!space) continue;
    const { guid: organizationGuid } = space.relationships.organization.data;
    const organizationName = names.get(organizationGuid) ?? "";
    directory.spaces.set(space.guid, { name: space.name, organizationGuid, organizationName });
  }
}

export function takeDomains(page: Page, directory: Directory, refusals: Refusals): void {
  for (const resource of page.included?.domains ?? []) {
    const domain = refusals.accept("domain", check(DomainSchema, resource));
    if (!domain) continue;
    const protocol: DomainFacts["protocol"] = domain.supported_protocols?.[0] === "tcp" ? "tcp" : "http";
    const routePolicyScope = domain.enforce_route_policies ? domain.route_policies_scope || "none" : "";
    if (routePolicyScope !== "" && policyScope(routePolicyScope) === undefined) {
      const problem = `route_policies_scope: ${JSON.stringify(routePolicyScope)} is not known: its routes let nobody in`;
      refusals.note("domain", domain.guid, problem);
    }
    directory.domains.set(domain.guid, {
      name: domain.name.toLowerCase(),
      internal: domain.internal,
      protocol,
      routePolicyScope,
    });
  }
}

export function* batches(guids: Iterable<string>): IterableIterator<readonly string[]> {
  const all = [...guids];
  for (let start = 0; start < all.length; start += GUIDS_PER_READ) yield all.slice(start, start + GUIDS_PER_READ);
}

function readList(fetch: FetchList, path: string, query: Query, take: (page: Page) => void): Promise<void> {
  const options = { query, pageSize: PER_PAGE, concurrency: CONCURRENCY };
  return readWholeList((more) => fetch(path, more), options, take);
}
