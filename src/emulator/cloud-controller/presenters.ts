/** How resources that others include are shown. */
import { type Api, link, presentTimes, timestamp, toOne } from "./api.js";
import type { Command, Destination, Domain, Organization, Space } from "./records.js";
import { protocolOf } from "./store.js";

export function presentOrganization(api: Api, organization: Organization): object {
  const path = `/v3/organizations/${organization.guid}`;
  return {
    ...presentTimes(organization),
    name: organization.name,
    suspended: organization.suspended,
    relationships: { quota: { data: null } },
    metadata: organization.metadata,
    links: {
      self: link(api, path),
      domains: link(api, `${path}/domains`),
      default_domain: link(api, `${path}/domains/default`),
    },
  };
}

export function presentSpace(api: Api, space: Space): object {
  return {
    ...presentTimes(space),
    name: space.name,
    suspended: api.store.organizationOf(space.guid).suspended,
    relationships: { organization: toOne(space.organizationGuid), quota: { data: null } },
    metadata: space.metadata,
    links: {
      self: link(api, `/v3/spaces/${space.guid}`),
      organization: link(api, `/v3/organizations/${space.organizationGuid}`),
    },
  };
}

/** For `include=space`: the spaces of these resources, each once. */
export function includeSpaces(api: Api, items: readonly { readonly spaceGuid: string }[]) {
  return { spaces: spacesOf(api, items).map((space) => presentSpace(api, space)) };
}

/** For `include=space.organization`: the spaces, and their organizations. */
export function includeSpacesAndOrganizations(api: Api, items: readonly { readonly spaceGuid: string }[]) {
  return { ...includeSpaces(api, items), ...includeOrganizations(api, spacesOf(api, items)) };
}

export function includeOrganizations(api: Api, spaces: readonly Pick<Space, "organizationGuid">[]) {
  const guids = new Set(spaces.map((space) => space.organizationGuid));
  return {
    organizations: [...guids].map((guid) => presentOrganization(api, api.store.organizations.require(guid))),
  };
}

function spacesOf(api: Api, items: readonly { readonly spaceGuid: string }[]): readonly Space[] {
  return [...new Set(items.map((item) => item.spaceGuid))].map((guid) => api.store.spaces.require(guid));
}

export function presentDomain(api: Api, domain: Domain): object {
  const path = `/v3/domains/${domain.guid}`;
  const { organizationGuid, routePoliciesScope, routerGroupGuid } = domain;
  return {
    ...presentTimes(domain),
    name: domain.name,
    internal: domain.internal,
    router_group: routerGroupGuid === null ? null : { guid: routerGroupGuid },
    supported_protocols: [protocolOf(domain)],
    ...(routePoliciesScope !== null && { enforce_route_policies: true, route_policies_scope: routePoliciesScope }),
    relationships: { organization: toOne(organizationGuid), shared_organizations: { data: [] } },
    metadata: domain.metadata,
    links: {
      self: link(api, path),
      route_reservations: link(api, `${path}/route_reservations`),
      ...(organizationGuid === null
        ? {}
        : {
            organization: link(api, `/v3/organizations/${organizationGuid}`),
            shared_organizations: link(api, `${path}/relationships/shared_organizations`),
          }),
      ...(routerGroupGuid === null ? {} : { router_group: link(api, `/routing/v1/router_groups/${routerGroupGuid}`) }),
    },
  };
}

/** As a user would type it. */
export function commandText(command: Command): string {
  return typeof command === "string" ? command : command.join(" ");
}

export function presentDestination(destination: Destination): object {
  return {
    guid: destination.guid,
    app: { guid: destination.appGuid, process: { type: destination.processType } },
    weight: destination.weight,
    port: destination.port,
    protocol: destination.protocol,
    created_at: timestamp(destination.createdAt),
    updated_at: timestamp(destination.updatedAt),
  };
}
