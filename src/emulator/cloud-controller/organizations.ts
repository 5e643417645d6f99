import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { type Api, type Caller, newResource, now } from "./api.js";
import { callerOf } from "./authentication.js";
import { mergeMetadata, metadataField, nameField, parseBody } from "./body.js";
import { notFound, unprocessable } from "./errors.js";
import { acceptJob } from "./jobs.js";
import { list, TIME_ORDERS } from "./list.js";
import type { Organization } from "./records.js";
import { presentOrganization } from "./presenters.js";
import { deleteSpace } from "./space-actions.js";

const bodySchema = z.strictObject({
  name: nameField,
  suspended: z.boolean("must be a boolean").optional(),
  metadata: metadataField,
});

export function serveOrganizations(server: FastifyInstance, api: Api): void {
  const { store } = api;
  const path = "/v3/organizations/:guid";

  server.get("/v3/organizations", (request) =>
    list(api, request, {
      items: () => store.organizations.all(),
      present: (organization) => presentOrganization(api, organization),
      filters: { names: (organization, names) => names.has(organization.name) },
      orders: { ...TIME_ORDERS, name: (organization) => organization.name },
    }),
  );
  server.post("/v3/organizations", (request, reply) => {
    const body = parseBody(request, bodySchema);
    const organization = createOrganization(api, body.name);
    organization.suspended = body.suspended ?? false;
    organization.metadata = mergeMetadata(organization.metadata, body.metadata);
    return reply.status(201).send(presentOrganization(api, organization));
  });
  server.get<{ Params: { guid: string } }>(path, (request) =>
    presentOrganization(api, findOrganization(api, request.params.guid)),
  );
  server.patch<{ Params: { guid: string } }>(path, (request) => {
    const organization = findOrganization(api, request.params.guid);
    const body = parseBody(request, bodySchema.partial());
    if (body.name !== undefined && body.name !== organization.name) {
      checkNameIsFree(api, body.name);
      organization.name = body.name;
    }
    organization.suspended = body.suspended ?? organization.suspended;
    organization.metadata = mergeMetadata(organization.metadata, body.metadata);
    organization.updatedAt = now(api);
    return presentOrganization(api, organization);
  });
  server.delete<{ Params: { guid: string } }>(path, async (request, reply) => {
    await deleteOrganization(api, callerOf(request), findOrganization(api, request.params.guid));
    return acceptJob(api, reply, "organization.delete");
  });
}

/** Throws 422 when the name is taken. */
export function createOrganization(api: Api, name: string): Organization {
  checkNameIsFree(api, name);
  return api.store.organizations.add({ ...newResource(api), name, suspended: false });
}

export function findOrganization(api: Api, guid: string): Organization {
  const organization = api.store.organizations.get(guid);
  if (organization === undefined) throw notFound("Organization");
  return organization;
}

function checkNameIsFree(api: Api, name: string): void {
  const isSame = (other: Organization) => other.name.toLowerCase() === name.toLowerCase();
  if (api.store.organizations.all().some(isSame)) throw unprocessable(`Organization '${name}' already exists.`);
}

async function deleteOrganization(api: Api, caller: Caller, organization: Organization): Promise<void> {
  const { store } = api;
  for (const space of store.spacesOfOrganization(organization.guid)) await deleteSpace(api, caller, space);
  for (const domain of store.domains.all()) {
    if (domain.organizationGuid === organization.guid) store.domains.delete(domain);
  }
  for (const role of store.roles.all()) if (role.organizationGuid === organization.guid) store.roles.delete(role);
  store.organizations.delete(organization);
}
