import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { type Api, link } from "./api.js";
import { callerOf } from "./authentication.js";
import { objectBody, parseBody } from "./body.js";
import {
  changeDestinationProtocol,
  deleteDestination,
  insertDestinations,
  replaceDestinations,
} from "./destination-actions.js";
import { DESTINATION_PROTOCOLS, parseDestinations } from "./destination-input.js";
import { unprocessable } from "./errors.js";
import { queryOf } from "./list.js";
import { presentDestination } from "./presenters.js";
import { unknownParameterMessage, valuesOf } from "./query.js";
import type { Destination, Route } from "./records.js";
import { findRoute } from "./routes.js";

const updateSchema = z.strictObject({
  protocol: z.enum(DESTINATION_PROTOCOLS, "must be 'http1', 'http2' or 'tcp'.").nullish(),
});
const FILTERS = ["guids", "app_guids"];

export function serveDestinations(server: FastifyInstance, api: Api): void {
  const { store } = api;
  const path = "/v3/routes/:guid/destinations";
  const presentAll = (route: Route) => present(api, route, store.destinationsOfRoute(route.guid));

  server.get<{ Params: { guid: string } }>(path, (request) => {
    const route = findRoute(api, request.params.guid);
    const query = queryOf(request);
    const unknown = [...query.keys()].filter((key) => !FILTERS.includes(key));
    if (unknown.length > 0) throw unprocessable(unknownParameterMessage(unknown, FILTERS));
    const guids = valuesOf(query, "guids");
    const appGuids = valuesOf(query, "app_guids");
    const matching = store
      .destinationsOfRoute(route.guid)
      .filter((one) => (guids?.has(one.guid) ?? true) && (appGuids?.has(one.appGuid) ?? true));
    return present(api, route, matching);
  });
  server.post<{ Params: { guid: string } }>(path, async (request) => {
    const route = findRoute(api, request.params.guid);
    const inputs = parseDestinations(objectBody(request), "insert");
    await insertDestinations(api, callerOf(request), route, inputs);
    return presentAll(route);
  });
  server.patch<{ Params: { guid: string } }>(path, async (request) => {
    const route = findRoute(api, request.params.guid);
    const inputs = parseDestinations(objectBody(request), "replace");
    await replaceDestinations(api, callerOf(request), route, inputs);
    return presentAll(route);
  });
  server.patch<{ Params: { guid: string; destination: string } }>(`${path}/:destination`, async (request) => {
    const route = findRoute(api, request.params.guid);
    const body = parseBody(request, updateSchema);
    const destination = findDestination(api, route, request.params.destination);
    await changeDestinationProtocol(api, route, destination, body.protocol ?? null);
    return { ...presentDestination(destination), links: linksOf(api, route, "destinations") };
  });
  server.delete<{ Params: { guid: string; destination: string } }>(`${path}/:destination`, async (request, reply) => {
    const route = findRoute(api, request.params.guid);
    const destination = findDestination(api, route, request.params.destination);
    await deleteDestination(api, callerOf(request), route, destination);
    return reply.status(204).send();
  });
}

function findDestination(api: Api, route: Route, guid: string): Destination {
  const destination = api.store.destinations.get(guid);
  if (destination?.routeGuid !== route.guid) {
    throw unprocessable("Unable to unmap route from destination. Ensure the route has a destination with this guid.");
  }
  return destination;
}

function present(api: Api, route: Route, destinations: readonly Destination[]): object {
  const sorted = [...destinations].sort((a, b) => (a.guid < b.guid ? -1 : 1));
  return { destinations: sorted.map(presentDestination), links: linksOf(api, route, "self") };
}

function linksOf(api: Api, route: Route, ownName: "self" | "destinations"): object {
  const path = `/v3/routes/${route.guid}`;
  return { [ownName]: link(api, `${path}/destinations`), route: link(api, path) };
}
