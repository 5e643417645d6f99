import type { FastifyInstance } from "fastify";
import { type Api, emptyMetadata, link, presentTimes, type User } from "./api.js";
import { notFound } from "./errors.js";
import { list } from "./list.js";
import type { Resource } from "./records.js";

export function serveUsers(server: FastifyInstance, api: Api): void {
  server.get("/v3/users", (request) =>
    list(api, request, {
      items: () => api.users().map(asResource),
      present: (user) => presentUser(api, user),
      filters: {
        usernames: (user, names) => names.has(user.name),
        partial_usernames: (user, parts) => [...parts].some((part) => user.name.includes(part)),
        origins: (_user, origins) => origins.has("uaa"),
      },
    }),
  );
  server.get<{ Params: { guid: string } }>("/v3/users/:guid", (request) => {
    const user = api.users().find(({ guid }) => guid === request.params.guid);
    if (user === undefined) throw notFound("User");
    return presentUser(api, asResource(user));
  });
}

/** For `include=user`. */
export function includeUsers(api: Api, guids: ReadonlySet<string>) {
  const users = api.users().filter(({ guid }) => guids.has(guid));
  return { users: users.map((user) => presentUser(api, asResource(user))) };
}

function asResource(user: User): Resource & User {
  return { ...user, createdAt: 0, updatedAt: 0, metadata: emptyMetadata() };
}

function presentUser(api: Api, user: Resource & User): object {
  return {
    ...presentTimes(user),
    username: user.name,
    presentation_name: user.name,
    origin: "uaa",
    metadata: user.metadata,
    links: { self: link(api, `/v3/users/${user.guid}`) },
  };
}
