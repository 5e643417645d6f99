import type { FastifyInstance, FastifyRequest } from "fastify";
import { z } from "zod";
import { type Api, link, now, presentTimes, toOne } from "./api.js";
import { callerOf } from "./authentication.js";
import { mergeMetadata, metadataField, parseBody, relationships } from "./body.js";
import { badQueryParameter, featureDisabled, notFound } from "./errors.js";
import { acceptJob } from "./jobs.js";
import { type Filter, type Include, list, type Listing, queryOf } from "./list.js";
import { includeSpaces, includeSpacesAndOrganizations, presentDestination, presentDomain } from "./presenters.js";
import { valuesOf } from "./query.js";
import type { Route } from "./records.js";
import { changeRouteOptions, createRoute, deleteRoute, hostField, pathField } from "./route-actions.js";
import { protocolOf } from "./store.js";

const createSchema = z.strictObject({
  host: hostField.nullish(),
  path: pathField.nullish(),
  port: z
    .int("must be an integer")
    .min(0, "must be greater than or equal to 0")
    .max(65535, "must be less than or equal to 65535")
    .nullish(),
  options: z.unknown().optional(),
  relationships: relationships("space", "domain"),
  metadata: metadataField,
});
const updateSchema = z.strictObject({ options: z.unknown().optional(), metadata: metadataField });

export function serveRoutes(server: FastifyInstance, api: Api): void {
  const { store } = api;
  const path = "/v3/routes/:guid";

  server.get("/v3/routes", (request) =>
    list(
      api,
      request,
      routeListing(api, () => store.routes.all()),
    ),
  );
  server.get<{ Params: { guid: string } }>("/v3/apps/:guid/routes", (request) => {
    const app = store.apps.get(request.params.guid);
    if (app === undefined) throw notFound("App");
    return list(
      api,
      request,
      routeListing(api, () => routesOfApp(api, app.guid)),
    );
  });
  server.post("/v3/routes", (request, reply) => {
    const caller = callerOf(request);
    if (!store.isEnabled("route_creation") && !caller.scopes.has("cloud_controller.admin")) {
      throw featureDisabled("route_creation");
    }
    const body = parseBody(request, createSchema);
    const route = createRoute(api, caller, {
      spaceGuid: body.relationships.space.data.guid,
      domainGuid: body.relationships.domain.data.guid,
      host: body.host ?? "",
      path: body.path ?? "",
      port: body.port ?? 0,
      options: body.options,
    });
    route.metadata = mergeMetadata(route.metadata, body.metadata);
    return reply.status(201).send(presentRoute(api, route));
  });
  server.get<{ Params: { guid: string } }>(path, (request) => {
    const route = findRoute(api, request.params.guid);
    const included = includedWith(api, request, route);
    return { ...presentRoute(api, route), ...(included === undefined ? {} : { included }) };
  });
  server.patch<{ Params: { guid: string } }>(path, async (request) => {
    const route = findRoute(api, request.params.guid);
    const body = parseBody(request, updateSchema);
    if (body.options !== undefined) await changeRouteOptions(api, route, body.options);
    route.metadata = mergeMetadata(route.metadata, body.metadata);
    route.updatedAt = now(api);
    return presentRoute(api, route);
  });
  server.delete<{ Params: { guid: string } }>(path, async (request, reply) => {
    await deleteRoute(api, callerOf(request), findRoute(api, request.params.guid));
    return acceptJob(api, reply, "route.delete");
  });
}

export function findRoute(api: Api, guid: string): Route {
  const route = api.store.routes.get(guid);
  if (route === undefined) throw notFound("Route");
  return route;
}

export function routesOfApp(api: Api, appGuid: string): readonly Route[] {
  const guids = new Set(api.store.destinationsOfApp(appGuid).map((destination) => destination.routeGuid));
  return [...guids].map((guid) => api.store.routes.require(guid));
}

function routeListing(api: Api, items: () => readonly Route[]): Listing<Route> {
  const { store } = api;
  const filters: Record<string, Filter<Route>> = {
    hosts: (route, hosts) => hosts.has(route.host),
    paths: (route, paths) => paths.has(route.path),
    ports: (route, ports) => ports.has(String(route.port ?? "")),
    domain_guids: (route, guids) => guids.has(route.domainGuid),
    app_guids: (route, guids) =>
      store.destinationsOfRoute(route.guid).some((destination) => guids.has(destination.appGuid)),
    space_guids: (route, guids) => guids.has(route.spaceGuid),
    organization_guids: (route, guids) => guids.has(store.spaces.require(route.spaceGuid).organizationGuid),
    service_instance_guids: (route, guids) =>
      store.bindingsOfRoute(route.guid).some((binding) => guids.has(binding.serviceInstanceGuid)),
  };
  return { items, present: (route) => presentRoute(api, route), filters, includes: routeIncludes(api) };
}

function routeIncludes(api: Api): Readonly<Record<string, Include<Route>>> {
  return {
    domain: (routes) => {
      const guids = new Set(routes.map((route) => route.domainGuid));
      return { domains: [...guids].map((guid) => presentDomain(api, api.store.domains.require(guid))) };
    },
    space: (routes) => includeSpaces(api, routes),
    "space.organization": (routes) => includeSpacesAndOrganizations(api, routes),
  };
}

function includedWith(api: Api, request: FastifyRequest, route: Route): object | undefined {
  const names = valuesOf(queryOf(request), "include");
  if (names === undefined) return undefined;
  const includes = routeIncludes(api);
  return [...names].reduce<object>((included, name) => {
    const include = includes[name];
    if (include === undefined) {
      const valid = Object.keys(includes).join("', '");
      throw badQueryParameter(`Invalid included resource: '${name}'. Valid included resources are: '${valid}'`);
    }
    return { ...included, ...include([route]) };
  }, {});
}

export function presentRoute(api: Api, route: Route): object {
  const { store } = api;
  const path = `/v3/routes/${route.guid}`;
  return {
    ...presentTimes(route),
    protocol: protocolOf(store.domains.require(route.domainGuid)),
    host: route.host,
    path: route.path,
    port: route.port,
    url: store.urlOf(route),
    destinations: sortedByGuid(store.destinationsOfRoute(route.guid)).map(presentDestination),
    options: route.options,
    metadata: route.metadata,
    relationships: { space: toOne(route.spaceGuid), domain: toOne(route.domainGuid) },
    links: {
      self: link(api, path),
      space: link(api, `/v3/spaces/${route.spaceGuid}`),
      destinations: link(api, `${path}/destinations`),
      domain: link(api, `/v3/domains/${route.domainGuid}`),
    },
  };
}

function sortedByGuid<T extends { readonly guid: string }>(items: readonly T[]): readonly T[] {
  return items.length < 2 ? items : [...items].sort((a, b) => (a.guid < b.guid ? -1 : 1));
}
