import { z } from "zod";
import { type Api, type Caller, newResource, now } from "./api.js";
import { recordRouteEvent } from "./audit-events.js";
import { parseFields } from "./body.js";
import { changeDestinations } from "./destination-actions.js";
import { unprocessable } from "./errors.js";
import type { Domain, Route, RouteOptions, Space } from "./records.js";
import { deleteBinding } from "./route-binding-actions.js";
import { mergeRouteOptions } from "./route-options.js";
import { isUsableBy, protocolOf } from "./store.js";
import { tellDiego } from "./tell-diego.js";

export interface NewRoute {
  readonly spaceGuid: string;
  readonly domainGuid: string;
  readonly host?: string;
  readonly path?: string;
  /** Of TCP routes; left out, or 0, for any free one. */
  readonly port?: number;
  readonly options?: unknown;
}

export const hostField = z
  .string("must be a string")
  .max(63, "is too long (maximum is 63 characters)")
  .regex(/^([\w-]+|\*)?$/, 'must be either "*" or contain only alphanumeric characters, "_", or "-"');
export const pathField = z
  .string("must be a string")
  .max(128, "is too long (maximum is 128 characters)")
  .regex(/^(\/.*)?$/, "must begin with /")
  .regex(/^[^?]*$/, "cannot contain ?")
  .regex(/^(?!\/$)/, "cannot be exactly /");

/** Throws 422 for a host or path that did not come through a body's schema. */
export function checkRouteFields(fields: { readonly host: string; readonly path?: string }): void {
  parseFields(fields, z.object({ host: hostField, path: pathField.optional() }));
}

const TCP_PORTS = { first: 1024, last: 1123 };

/**
 * Throws   422 in Cloud Controller's words; clients look for "Route already exists".
 * Source   RouteCreate and the Route model of cloud_controller_ng.
 */
export function createRoute(api: Api, caller: Caller, fields: NewRoute): Route {
  const { store } = api;
  const space = store.spaces.get(fields.spaceGuid);
  const domain = store.domains.get(fields.domainGuid);
  if (space === undefined) {
    throw unprocessable("Invalid space. Ensure that the space exists and you have access to it.");
  }
  if (domain === undefined) {
    throw unprocessable("Invalid domain. Ensure that the domain exists and you have access to it.");
  }
  const host = (fields.host ?? "").toLowerCase();
  const path = fields.path ?? "";
  const port = fields.port === undefined || fields.port === 0 ? null : fields.port;
  if (!isUsableBy(domain, space.organizationGuid)) {
    const organization = store.organizations.require(space.organizationGuid).name;
    throw unprocessable(`Invalid domain. Domain '${domain.name}' is not available in organization '${organization}'.`);
  }
  if (protocolOf(domain) === "tcp") checkTcpAddress(api, domain, host, path, port);
  else checkHttpAddress(api, space, domain, host, path, port);

  const route = store.routes.add({
    ...newResource(api),
    host,
    path,
    port: protocolOf(domain) === "tcp" ? (port ?? freePort(api, domain)) : null,
    spaceGuid: space.guid,
    domainGuid: domain.guid,
    options: optionsOf(api, {}, fields.options),
  });
  const relationships = { space: { data: { guid: space.guid } }, domain: { data: { guid: domain.guid } } };
  recordRouteEvent(api, caller, "audit.route.create", route, {
    request: { host, path, port: route.port, relationships },
  });
  return route;
}

/** Merges the options, and tells Diego. Leaves no audit event, as Cloud Controller does not either. */
export async function changeRouteOptions(api: Api, route: Route, change: unknown): Promise<void> {
  route.options = optionsOf(api, route.options, change);
  route.updatedAt = now(api);
  await tellDiego(api, route.guid);
}

export async function deleteRoute(api: Api, caller: Caller, route: Route): Promise<void> {
  recordRouteEvent(api, caller, "audit.route.delete-request", route, { request: { recursive: true } });
  await changeDestinations(api, caller, route, { remove: api.store.destinationsOfRoute(route.guid), add: [] });
  for (const binding of api.store.bindingsOfRoute(route.guid)) await deleteBinding(api, caller, binding);
  for (const policy of api.store.policiesOfRoute(route.guid)) api.store.routePolicies.delete(policy);
  api.store.routes.delete(route);
}

function optionsOf(api: Api, old: RouteOptions, change: unknown): RouteOptions {
  if (change === undefined) return old;
  return mergeRouteOptions(old, change, api.store.isEnabled("hash_based_routing"));
}

function checkTcpAddress(api: Api, domain: Domain, host: string, path: string, port: number | null): void {
  if (host !== "") throw unprocessable("Hosts are not supported for TCP routes.");
  if (path !== "") throw unprocessable("Paths are not supported for TCP routes.");
  if (port === null) return;
  if (api.store.routesOfHost(domain.guid, "").some((route) => route.port === port)) {
    throw unprocessable(`Route already exists with port '${port}' for domain '${domain.name}'.`);
  }
  if (isPortTaken(api, domain, port)) {
    throw unprocessable(`Port '${port}' is not available. Try a different port or use a different domain.`);
  }
}

/** Domains of one router group share its ports. */
function isPortTaken(api: Api, domain: Domain, port: number): boolean {
  return api.store.domains
    .all()
    .filter((other) => other.routerGroupGuid === domain.routerGroupGuid)
    .some((other) => api.store.routesOfHost(other.guid, "").some((route) => route.port === port));
}

function freePort(api: Api, domain: Domain): number {
  for (let port = TCP_PORTS.first; port <= TCP_PORTS.last; port += 1) {
    if (!isPortTaken(api, domain, port)) return port;
  }
  throw unprocessable(`There are no more ports available for router group: ${domain.routerGroupGuid ?? ""}.`);
}

function checkHttpAddress(
  api: Api,
  space: Space,
  domain: Domain,
  host: string,
  path: string,
  port: number | null,
): void {
  const { store } = api;
  const isShared = domain.organizationGuid === null;
  if (port !== null) throw unprocessable("Routes with protocol 'http' do not support ports.");
  if (domain.internal && host === "*") throw unprocessable("Wildcard hosts are not supported for internal domains.");
  if (domain.internal && path !== "") throw unprocessable("Paths are not supported for internal domains.");
  if (isShared && host === "") {
    throw unprocessable("Missing host. Routes in shared domains must have a host defined.");
  }
  const hostname = store.hostnameOf({ host, domainGuid: domain.guid });
  if (host !== "" && store.domainsNamed(hostname).length > 0) {
    throw unprocessable(`Route conflicts with domain '${hostname}'.`);
  }
  if (hostname.length > 253) {
    throw unprocessable("Host combined with domain name must be no more than 253 characters.");
  }
  const siblings = store.routesOfHost(domain.guid, host);
  const isSamePath = siblings.some((route) => route.path === path);
  // On a shared domain, a host belongs to one space, whatever the path.
  const isForeign = isShared && siblings.some((route) => route.spaceGuid !== space.guid);
  if (isSamePath || isForeign) throw unprocessable(`Route already exists ${describeAddress(domain, host, path)}.`);
}

function describeAddress(domain: Domain, host: string, path: string): string {
  const parts = [...(host === "" ? [] : [`host '${host}'`]), ...(path === "" ? [] : [`path '${path}'`])];
  return `${parts.length > 0 ? `with ${parts.join(" and ")} ` : ""}for domain '${domain.name}'`;
}
