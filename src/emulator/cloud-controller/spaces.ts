import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { type Api, newResource, now } from "./api.js";
import { callerOf } from "./authentication.js";
import { mergeMetadata, metadataField, nameField, parseBody, relationships } from "./body.js";
import { notFound, unprocessable } from "./errors.js";
import { acceptJob } from "./jobs.js";
import { list, queryOf, TIME_ORDERS } from "./list.js";
import { includeOrganizations, presentSpace } from "./presenters.js";
import type { Space } from "./records.js";
import { deleteRoute } from "./route-actions.js";
import { deleteSpace } from "./space-actions.js";

const createSchema = z.strictObject({
  name: nameField,
  relationships: relationships("organization"),
  metadata: metadataField,
});
const updateSchema = z.strictObject({ name: nameField.optional(), metadata: metadataField });

export function serveSpaces(server: FastifyInstance, api: Api): void {
  const { store } = api;
  const path = "/v3/spaces/:guid";

  server.get("/v3/spaces", (request) =>
    list(api, request, {
      items: () => store.spaces.all(),
      present: (space) => presentSpace(api, space),
      filters: {
        names: (space, names) => names.has(space.name),
        organization_guids: (space, guids) => guids.has(space.organizationGuid),
      },
      includes: { organization: (spaces) => includeOrganizations(api, spaces) },
      orders: { ...TIME_ORDERS, name: (space) => space.name },
    }),
  );
  server.post("/v3/spaces", (request, reply) => {
    const body = parseBody(request, createSchema);
    const space = createSpace(api, body.name, body.relationships.organization.data.guid);
    space.metadata = mergeMetadata(space.metadata, body.metadata);
    return reply.status(201).send(presentSpace(api, space));
  });
  server.get<{ Params: { guid: string } }>(path, (request) => presentSpace(api, findSpace(api, request.params.guid)));
  server.patch<{ Params: { guid: string } }>(path, (request) => {
    const space = findSpace(api, request.params.guid);
    const body = parseBody(request, updateSchema);
    if (body.name !== undefined && body.name !== space.name) {
      checkNameIsFree(api, body.name, space.organizationGuid);
      space.name = body.name;
    }
    space.metadata = mergeMetadata(space.metadata, body.metadata);
    space.updatedAt = now(api);
    return presentSpace(api, space);
  });
  server.delete<{ Params: { guid: string } }>(path, async (request, reply) => {
    await deleteSpace(api, callerOf(request), findSpace(api, request.params.guid));
    return acceptJob(api, reply, "space.delete");
  });
  server.delete<{ Params: { guid: string } }>(`${path}/routes`, async (request, reply) => {
    const space = findSpace(api, request.params.guid);
    if (queryOf(request).get("unmapped") !== "true") {
      throw unprocessable(
        "Mass delete not supported for mapped routes. Use 'unmapped=true' parameter to delete all unmapped routes.",
      );
    }
    for (const route of store.routesOfSpace(space.guid)) {
      if (store.destinationsOfRoute(route.guid).length === 0) await deleteRoute(api, callerOf(request), route);
    }
    return acceptJob(api, reply, "space.delete_unmapped_routes");
  });
}

/** Throws 422 when there is no such organization, or the name is taken in it. */
export function createSpace(api: Api, name: string, organizationGuid: string): Space {
  if (api.store.organizations.get(organizationGuid) === undefined) {
    throw unprocessable("Invalid organization. Ensure the organization exists and you have access to it.");
  }
  checkNameIsFree(api, name, organizationGuid);
  return api.store.spaces.add({ ...newResource(api), name, organizationGuid });
}

export function findSpace(api: Api, guid: string): Space {
  const space = api.store.spaces.get(guid);
  if (space === undefined) throw notFound("Space");
  return space;
}

function checkNameIsFree(api: Api, name: string, organizationGuid: string): void {
  const isSame = (other: Space) => other.name.toLowerCase() === name.toLowerCase();
  if (api.store.spacesOfOrganization(organizationGuid).some(isSame)) {
    throw unprocessable("Name must be unique per organization");
  }
}
