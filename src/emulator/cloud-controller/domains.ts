import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { type Api, type Caller, newResource, now } from "./api.js";
import { callerOf } from "./authentication.js";
import { mergeMetadata, metadataField, parseBody, relationship, stringField } from "./body.js";
import { notFound, unprocessable } from "./errors.js";
import { acceptJob } from "./jobs.js";
import { list, type Listing, queryOf } from "./list.js";
import { findOrganization } from "./organizations.js";
import { presentDomain } from "./presenters.js";
import type { Domain } from "./records.js";
import { deleteRoute } from "./route-actions.js";
import { isUsableBy, protocolOf } from "./store.js";
import { ROUTER_GROUPS } from "../routing-api/router-groups.js";

const createSchema = z
  .strictObject({
    name: stringField
      .min(3, "is too short (minimum is 3 characters)")
      .max(253, "is too long (maximum is 253 characters)")
      .regex(/\./, 'must contain at least one "."')
      .regex(/^[a-z0-9\-.]*$/i, "must consist of alphanumeric characters and hyphens")
      .regex(/^([^.]{0,63}\.)*[^.]{0,63}$/, "subdomains must each be at most 63 characters")
      .regex(
        /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/i,
        "does not comply with RFC 1035 standards",
      ),
    internal: z.boolean("must be a boolean").nullish(),
    router_group: z.strictObject({ guid: z.string("guid must be a string") }, "must be an object").nullish(),
    relationships: z.strictObject({ organization: relationship("organization").optional() }).optional(),
    enforce_route_policies: z.boolean("must be a boolean").nullish(),
    route_policies_scope: z.enum(["any", "org", "space"], "must be one of 'any', 'org', 'space'").nullish(),
    metadata: metadataField,
  })
  .refine((body) => !(body.internal === true && body.relationships !== undefined), {
    error: "Cannot associate an internal domain with an organization",
  })
  .refine((body) => !(body.internal === true && body.router_group), {
    error: "Internal domains cannot be associated to a router group.",
  })
  .refine((body) => !(body.relationships !== undefined && body.router_group), {
    error: "Domains scoped to an organization cannot be associated to a router group.",
  })
  .refine((body) => !(body.internal === true && body.enforce_route_policies === true), {
    error: "Internal domains cannot have route policy enforcement. Internal routes bypass GoRouter.",
  })
  .refine((body) => !(body.router_group && body.enforce_route_policies === true), {
    error:
      "Domains with a router group cannot have route policy enforcement. TCP routes do not support mTLS policy enforcement.",
  })
  .refine((body) => !(body.enforce_route_policies === true && !body.route_policies_scope), {
    path: ["route_policies_scope"],
    error: "is required when enforce_route_policies is true",
  });

export interface NewDomain {
  readonly name: string;
  readonly internal?: boolean;
  readonly routerGroupGuid?: string;
  readonly organizationGuid?: string;
  /** Left out: it enforces no route policies. */
  readonly routePoliciesScope?: Domain["routePoliciesScope"];
}

export function serveDomains(server: FastifyInstance, api: Api): void {
  const { store } = api;
  const path = "/v3/domains/:guid";
  const listing = (items: () => readonly Domain[]): Listing<Domain> => ({
    items,
    present: (domain) => presentDomain(api, domain),
    filters: {
      names: (domain, names) => names.has(domain.name),
      organization_guids: (domain, guids) => guids.has(domain.organizationGuid ?? ""),
    },
  });

  server.get("/v3/domains", (request) =>
    list(
      api,
      request,
      listing(() => store.domains.all()),
    ),
  );
  server.post("/v3/domains", (request, reply) => {
    const body = parseBody(request, createSchema);
    const organization = body.relationships?.organization;
    const domain = createDomain(api, {
      name: body.name,
      internal: body.internal ?? false,
      ...(body.router_group ? { routerGroupGuid: body.router_group.guid } : {}),
      ...(organization === undefined ? {} : { organizationGuid: organization.data.guid }),
      routePoliciesScope: body.enforce_route_policies === true ? (body.route_policies_scope ?? null) : null,
    });
    domain.metadata = mergeMetadata(domain.metadata, body.metadata);
    return reply.status(201).send(presentDomain(api, domain));
  });
  server.get<{ Params: { guid: string } }>(path, (request) => presentDomain(api, findDomain(api, request.params.guid)));
  server.patch<{ Params: { guid: string } }>(path, (request) => {
    const domain = findDomain(api, request.params.guid);
    const body = parseBody(request, z.strictObject({ metadata: metadataField }));
    domain.metadata = mergeMetadata(domain.metadata, body.metadata);
    domain.updatedAt = now(api);
    return presentDomain(api, domain);
  });
  server.delete<{ Params: { guid: string } }>(path, async (request, reply) => {
    await deleteDomain(api, callerOf(request), findDomain(api, request.params.guid));
    return acceptJob(api, reply, "domain.delete");
  });
  server.get<{ Params: { guid: string } }>(`${path}/route_reservations`, (request) => {
    const domain = findDomain(api, request.params.guid);
    const query = queryOf(request);
    const port = query.get("port") ?? "";
    const matches = store
      .routesOfHost(domain.guid, (query.get("host") ?? "").toLowerCase())
      .some((route) => route.path === (query.get("path") ?? "") && String(route.port ?? "") === port);
    return { matching_route: matches };
  });
  server.get<{ Params: { guid: string } }>("/v3/organizations/:guid/domains", (request) => {
    const organization = findOrganization(api, request.params.guid);
    const isVisible = (domain: Domain) => isUsableBy(domain, organization.guid);
    return list(
      api,
      request,
      listing(() => store.domains.all().filter(isVisible)),
    );
  });
  server.get<{ Params: { guid: string } }>("/v3/organizations/:guid/domains/default", (request) => {
    const organization = findOrganization(api, request.params.guid);
    const domain = defaultDomain(api, organization.guid);
    if (domain === undefined) throw notFound("Domain");
    return presentDomain(api, domain);
  });
}

/** Where apps get their default route: the first HTTP domain that the organization may use. */
export function defaultDomain(api: Api, organizationGuid: string): Domain | undefined {
  const candidates = api.store.domains
    .all()
    .filter((domain) => !domain.internal && protocolOf(domain) === "http" && isUsableBy(domain, organizationGuid));
  return candidates.find((domain) => domain.organizationGuid === null) ?? candidates[0];
}

/** Throws 422 when the name is taken, lies below another organization's domain, or the organization or router group is unknown. */
export function createDomain(api: Api, fields: NewDomain): Domain {
  const { store } = api;
  const name = fields.name.toLowerCase();
  const organizationGuid = fields.organizationGuid ?? null;
  if (organizationGuid !== null && store.organizations.get(organizationGuid) === undefined) {
    throw unprocessable(`Organization with guid '${organizationGuid}' does not exist or you do not have access to it.`);
  }
  const routerGroupGuid = fields.routerGroupGuid ?? null;
  if (routerGroupGuid !== null && !ROUTER_GROUPS.some(({ guid }) => guid === routerGroupGuid)) {
    throw unprocessable(`Router group with guid '${routerGroupGuid}' not found.`);
  }
  if (store.domainsNamed(name).length > 0) throw unprocessable(`The domain name "${name}" is already in use`);
  const isRoute = parents(name).some(({ host, parent }) =>
    store.domainsNamed(parent).some((domain) => store.routesOfHost(domain.guid, host).length > 0),
  );
  if (isRoute) throw unprocessable(`The domain name "${name}" is already in use by a route`);
  const reserved = parents(name)
    .flatMap(({ parent }) => store.domainsNamed(parent))
    .find((domain) => domain.organizationGuid !== null && domain.organizationGuid !== organizationGuid);
  if (reserved !== undefined) {
    throw unprocessable(
      `The domain name "${name}" cannot be created because "${reserved.name}" is already reserved by another domain`,
    );
  }
  return store.domains.add({
    ...newResource(api),
    name,
    internal: fields.internal ?? false,
    routerGroupGuid,
    organizationGuid,
    routePoliciesScope: fields.routePoliciesScope ?? null,
  });
}

/** Every way to split a name: "a.b.c" is "a" in "b.c", and "a.b" in "c". */
function parents(name: string): readonly { readonly host: string; readonly parent: string }[] {
  const labels = name.split(".");
  return labels
    .slice(1)
    .map((_, index) => ({ host: labels.slice(0, index + 1).join("."), parent: labels.slice(index + 1).join(".") }));
}

function findDomain(api: Api, guid: string): Domain {
  const domain = api.store.domains.get(guid);
  if (domain === undefined) throw notFound("Domain");
  return domain;
}

async function deleteDomain(api: Api, caller: Caller, domain: Domain): Promise<void> {
  for (const route of api.store.routes.all()) {
    if (route.domainGuid === domain.guid) await deleteRoute(api, caller, route);
  }
  api.store.domains.delete(domain);
}
