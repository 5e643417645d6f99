/** Pure: a route of the Cloud Controller, joined with its domain, apps, space and route service, as an entry of the mesh log. */
import type { RouteInit } from "../../entries/entries.js";
import { compareText } from "../../lib/compare-text.js";
import type { Directory, DomainFacts } from "./directory.js";
import type { CcRoute } from "./resources.js";

/**
 * Annotations of other owners, of 5,000 characters each, have no place in every router. Cloud Controller wants a prefix to
 * be a DNS name, so "cf-mesh" alone is for the one that doesn't mind.
 */
const MESH_ANNOTATION = /^cf-mesh(\.[^/]+)?\//;
const ALGORITHMS = ["round-robin", "least-connection", "hash"];

/**
 * A destination whose app has several processes of its type (a rolling deployment) becomes one per process, each with
 * the weight of the destination; one whose app has none keeps its place with an empty process guid.
 *
 * Returns  undefined when the directory doesn't know the route's domain: there is no host then. Apps and spaces that it
 *          doesn't know have empty names.
 */
export function routeEntry(route: CcRoute, directory: Directory): RouteInit | undefined {
  const domain = directory.domains.get(route.relationships.domain.data.guid);
  if (domain === undefined) return undefined;
  const space = directory.spaces.get(route.relationships.space.data.guid);
  const protocol = route.protocol ?? domain.protocol;
  const options = optionsOf(route, domain, directory);
  return {
    guid: route.guid,
    host: (route.host === "" ? domain.name : `${route.host}.${domain.name}`).toLowerCase(),
    path: route.path,
    internal: domain.internal,
    protocol,
    ...(options && { options }),
    destinations: destinationsOf(route, protocol, directory, domain),
    sourceRevision: route.updated_at ?? route.created_at,
    labels: { organizationName: space?.organizationName ?? "", spaceName: space?.name ?? "" },
    port: protocol === "tcp" ? (route.port ?? 0) : 0,
    annotations: annotationsOf(route),
    routeServiceUrl: directory.bindings.urlOf(route.guid),
  };
}

/** The guids of the apps that a route leads to, each once. */
export function appGuidsOf(route: CcRoute): readonly string[] {
  return [...new Set(route.destinations.map(({ app }) => app.guid))];
}

/** undefined where none is set. An algorithm of a newer platform is left to the router's default. */
function optionsOf({ guid, options }: CcRoute, { routePolicyScope }: DomainFacts, { policies }: Directory) {
  const loadbalancing = options?.loadbalancing ?? "";
  const wanted = {
    loadbalancing: ALGORITHMS.includes(loadbalancing) ? loadbalancing : "",
    hashHeader: options?.hash_header ?? "",
    hashBalance: String(options?.hash_balance ?? ""),
    routePolicyScope,
    routePolicySources: routePolicyScope === "" ? [] : policies.sourcesOf(guid).sources,
  };
  return Object.values(wanted).every((value) => value.length === 0) ? undefined : wanted;
}

/** Keys with their prefix. */
function annotationsOf({ metadata }: CcRoute) {
  return Object.entries(metadata?.annotations ?? {})
    .flatMap(([name, value]) => (MESH_ANNOTATION.test(name) && typeof value === "string" ? [{ name, value }] : []))
    .sort((a, b) => compareText(a.name, b.name));
}

/** The app's own space, which need not be the route's. */
function ownerOf(appGuid: string, { apps, spaces }: Directory) {
  const spaceGuid = apps.get(appGuid)?.spaceGuid ?? "";
  return { spaceGuid, organizationGuid: spaces.get(spaceGuid)?.organizationGuid ?? "" };
}

function destinationsOf(route: CcRoute, protocol: string, directory: Directory, { routePolicyScope }: DomainFacts) {
  return route.destinations
    .flatMap((destination) => {
      const { app } = destination;
      const owner = routePolicyScope === "" ? undefined : ownerOf(app.guid, directory);
      const found = directory.processGuids(app.guid, app.process.type);
      return (found.length > 0 ? found : [""]).map((processGuid) => ({
        processGuid,
        appGuid: app.guid,
        weight: destination.weight ?? 0,
        port: destination.port,
        protocol: destination.protocol ?? (protocol === "tcp" ? "tcp" : "http1"),
        appName: directory.apps.get(app.guid)?.name ?? "",
        processType: app.process.type,
        ...owner,
      }));
    })
    .sort(
      (a, b) =>
        compareText(a.processGuid, b.processGuid) ||
        a.port - b.port ||
        compareText(a.appGuid, b.appGuid) ||
        compareText(a.protocol, b.protocol) ||
        a.weight - b.weight,
    );
}
