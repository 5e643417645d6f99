/** Who may call the routes of domains that enforce route policies. */
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { type Api, link, now, presentTimes, toOne } from "./api.js";
import { presentApp } from "./apps.js";
import { recordRoutePolicyEvent } from "./audit-events.js";
import { callerOf } from "./authentication.js";
import { mergeMetadata, metadataField, parseBody, relationships, stringField } from "./body.js";
import { notFound } from "./errors.js";
import { type Include, list } from "./list.js";
import { presentOrganization, presentSpace } from "./presenters.js";
import type { RoutePolicy } from "./records.js";
import { createRoutePolicy, deleteRoutePolicy } from "./route-policy-actions.js";
import { findRoute, presentRoute } from "./routes.js";

const createSchema = z.strictObject({
  source: stringField.regex(
    /^cf:(any|(app|space|org):[0-9a-f-]+)$/,
    "must be in format 'cf:app:<uuid>', 'cf:space:<uuid>', 'cf:org:<uuid>', or 'cf:any'",
  ),
  relationships: relationships("route"),
  metadata: metadataField,
});
const updateSchema = z.strictObject({ metadata: metadataField });

type ByGuid = { Params: { guid: string } };

export function serveRoutePolicies(server: FastifyInstance, api: Api): void {
  const { store } = api;
  const path = "/v3/route_policies/:guid";

  server.get("/v3/route_policies", (request) =>
    list(api, request, {
      items: () => store.routePolicies.all(),
      present: (policy) => presentPolicy(api, policy),
      filters: {
        route_guids: ({ routeGuid }, guids) => guids.has(routeGuid),
        space_guids: ({ routeGuid }, guids) => guids.has(store.routes.require(routeGuid).spaceGuid),
        sources: ({ source }, sources) => sources.has(source),
        source_guids: (policy, guids) => guids.has(sourceOf(policy).guid),
      },
      includes: policyIncludes(api),
    }),
  );
  server.post("/v3/route_policies", async (request, reply) => {
    const { source, relationships: related, metadata } = parseBody(request, createSchema);
    const route = findRoute(api, related.route.data.guid);
    const policy = await createRoutePolicy(api, callerOf(request), route, source);
    policy.metadata = mergeMetadata(policy.metadata, metadata);
    return reply.status(201).send(presentPolicy(api, policy));
  });
  server.get<ByGuid>(path, (request) => presentPolicy(api, findPolicy(api, request.params.guid)));
  server.patch<ByGuid>(path, (request) => {
    const policy = findPolicy(api, request.params.guid);
    const { metadata } = parseBody(request, updateSchema);
    policy.metadata = mergeMetadata(policy.metadata, metadata);
    policy.updatedAt = now(api);
    recordRoutePolicyEvent(api, callerOf(request), "update", policy, { metadata });
    return presentPolicy(api, policy);
  });
  server.delete<ByGuid>(path, async (request, reply) => {
    await deleteRoutePolicy(api, callerOf(request), findPolicy(api, request.params.guid));
    return reply.status(204).send();
  });
}

/** Sources may be gone, or never have been: they are not shown then. */
function policyIncludes(api: Api): Readonly<Record<string, Include<RoutePolicy>>> {
  const { store } = api;
  const guidsOf = (policies: readonly RoutePolicy[], wanted: string) => [
    ...new Set(policies.map(sourceOf).flatMap(({ kind, guid }) => (kind === wanted ? [guid] : []))),
  ];
  return {
    route: (policies) => ({
      routes: [...new Set(policies.map(({ routeGuid }) => routeGuid))].map((guid) =>
        presentRoute(api, store.routes.require(guid)),
      ),
    }),
    source: (policies) => ({
      apps: guidsOf(policies, "app")
        .flatMap((guid) => store.apps.get(guid) ?? [])
        .map((app) => presentApp(api, app)),
      spaces: guidsOf(policies, "space")
        .flatMap((guid) => store.spaces.get(guid) ?? [])
        .map((space) => presentSpace(api, space)),
      organizations: guidsOf(policies, "org")
        .flatMap((guid) => store.organizations.get(guid) ?? [])
        .map((organization) => presentOrganization(api, organization)),
    }),
  };
}

function findPolicy(api: Api, guid: string): RoutePolicy {
  const policy = api.store.routePolicies.get(guid);
  if (policy === undefined) throw notFound("Route policy");
  return policy;
}

/** "cf:app:GUID"; "cf:any" has no guid. */
function sourceOf({ source }: RoutePolicy): { readonly kind: string; readonly guid: string } {
  const [, kind = "", guid = ""] = source.split(":");
  return { kind, guid };
}

function presentPolicy(api: Api, policy: RoutePolicy): object {
  const { kind, guid } = sourceOf(policy);
  return {
    ...presentTimes(policy),
    source: policy.source,
    metadata: policy.metadata,
    relationships: {
      route: toOne(policy.routeGuid),
      app: toOne(kind === "app" ? guid : null),
      space: toOne(kind === "space" ? guid : null),
      organization: toOne(kind === "org" ? guid : null),
    },
    links: {
      self: link(api, `/v3/route_policies/${policy.guid}`),
      route: link(api, `/v3/routes/${policy.routeGuid}`),
    },
  };
}
