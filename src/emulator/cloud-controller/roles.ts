import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { type Api, link, newResource, presentTimes, toOne, type User } from "./api.js";
import { parseBody, relationship } from "./body.js";
import { notFound, unprocessable } from "./errors.js";
import { acceptJob } from "./jobs.js";
import { list } from "./list.js";
import { includeOrganizations, presentSpace } from "./presenters.js";
import type { Role, Space } from "./records.js";
import { includeUsers } from "./users.js";

const ORGANIZATION_ROLES = [
  "organization_user",
  "organization_auditor",
  "organization_billing_manager",
  "organization_manager",
] as const;
const SPACE_ROLES = ["space_auditor", "space_developer", "space_manager", "space_supporter"] as const;

const createSchema = z.strictObject({
  type: z.enum([...ORGANIZATION_ROLES, ...SPACE_ROLES], "must be one of the allowed types"),
  relationships: z.strictObject({
    // By guid, or by name as the CLI does.
    user: z.strictObject({
      data: z.union([
        z.strictObject({ guid: z.string() }),
        z.strictObject({ username: z.string(), origin: z.string().optional() }),
      ]),
    }),
    organization: relationship("organization").optional(),
    space: relationship("space").optional(),
  }),
});

/** Roles are stored and shown; what a caller may do depends on the scopes of its token alone. */
export function serveRoles(server: FastifyInstance, api: Api): void {
  const { store } = api;

  server.get("/v3/roles", (request) =>
    list(api, request, {
      items: () => store.roles.all(),
      present: (role) => present(api, role),
      filters: {
        types: (role, types) => types.has(role.type),
        user_guids: (role, guids) => guids.has(role.userGuid),
        organization_guids: (role, guids) => guids.has(role.organizationGuid ?? ""),
        space_guids: (role, guids) => guids.has(role.spaceGuid ?? ""),
      },
      includes: {
        user: (roles) => includeUsers(api, new Set(roles.map(({ userGuid }) => userGuid))),
        space: (roles) => ({ spaces: spacesOf(api, roles).map((space) => presentSpace(api, space)) }),
        organization: (roles) => includeOrganizations(api, organizationsOf(roles)),
      },
    }),
  );
  server.post("/v3/roles", (request, reply) => {
    const { type, relationships } = parseBody(request, createSchema);
    const organizationGuid = relationships.organization?.data.guid ?? null;
    const spaceGuid = relationships.space?.data.guid ?? null;
    checkPlace(api, type, organizationGuid, spaceGuid);
    const user = findUser(api, relationships.user.data);
    const userGuid = user.guid;
    const isSame = (role: Role) =>
      role.type === type &&
      role.userGuid === userGuid &&
      role.organizationGuid === organizationGuid &&
      role.spaceGuid === spaceGuid;
    if (store.roles.all().some(isSame)) {
      throw unprocessable(
        `User '${user.name}' already has '${type}' role ${describePlace(api, organizationGuid, spaceGuid)}.`,
      );
    }
    const role = store.roles.add({ ...newResource(api), type, userGuid, organizationGuid, spaceGuid });
    return reply.status(201).send(present(api, role));
  });
  server.get<{ Params: { guid: string } }>("/v3/roles/:guid", (request) =>
    present(api, find(api, request.params.guid)),
  );
  server.delete<{ Params: { guid: string } }>("/v3/roles/:guid", (request, reply) => {
    store.roles.delete(find(api, request.params.guid));
    return acceptJob(api, reply, "role.delete");
  });
}

function spacesOf(api: Api, roles: readonly Role[]): readonly Space[] {
  const guids = new Set(roles.flatMap(({ spaceGuid }) => (spaceGuid === null ? [] : [spaceGuid])));
  return [...guids].map((guid) => api.store.spaces.require(guid));
}

function organizationsOf(roles: readonly Role[]): readonly { readonly organizationGuid: string }[] {
  return roles.flatMap(({ organizationGuid }) => (organizationGuid === null ? [] : [{ organizationGuid }]));
}

function findUser(api: Api, wanted: { readonly guid: string } | { readonly username: string }): User {
  const found = api
    .users()
    .find((user) => ("guid" in wanted ? user.guid === wanted.guid : user.name === wanted.username));
  if (found !== undefined) return found;
  throw unprocessable(
    "guid" in wanted
      ? "Invalid user. Ensure that the user exists and you have access to it."
      : `No user exists with the username '${wanted.username}'.`,
  );
}

function checkPlace(api: Api, type: string, organizationGuid: string | null, spaceGuid: string | null): void {
  if (SPACE_ROLES.some((name) => name === type)) {
    if (api.store.spaces.get(spaceGuid ?? "") === undefined) {
      throw unprocessable("Invalid space. Ensure that the space exists and you have access to it.");
    }
  } else if (api.store.organizations.get(organizationGuid ?? "") === undefined) {
    throw unprocessable("Invalid organization. Ensure the organization exists and you have access to it.");
  }
}

function describePlace(api: Api, organizationGuid: string | null, spaceGuid: string | null): string {
  return spaceGuid === null
    ? `in organization '${api.store.organizations.require(organizationGuid ?? "").name}'`
    : `in space '${api.store.spaces.require(spaceGuid).name}'`;
}

function find(api: Api, guid: string): Role {
  const role = api.store.roles.get(guid);
  if (role === undefined) throw notFound("Role");
  return role;
}

function present(api: Api, role: Role): object {
  return {
    ...presentTimes(role),
    type: role.type,
    relationships: {
      user: toOne(role.userGuid),
      organization: toOne(role.organizationGuid),
      space: toOne(role.spaceGuid),
    },
    links: { self: link(api, `/v3/roles/${role.guid}`) },
  };
}
