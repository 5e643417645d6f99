import { type Api, type Caller, newResource } from "./api.js";
import { recordRoutePolicyEvent } from "./audit-events.js";
import { unprocessable } from "./errors.js";
import type { Route, RoutePolicy } from "./records.js";
import { tellDiego } from "./tell-diego.js";

const EVERYBODY = "cf:any";

/**
 * Throws   422 in Cloud Controller's words.
 * Source   RoutePolicyCreate, RoutePoliciesController and the RoutePolicy model of cloud_controller_ng.
 */
export async function createRoutePolicy(api: Api, caller: Caller, route: Route, source: string): Promise<RoutePolicy> {
  const { store } = api;
  const domain = store.domains.require(route.domainGuid);
  if (domain.internal) {
    throw unprocessable(
      "Cannot create route policies for routes on internal domains. Internal routes use container-to-container networking and bypass GoRouter.",
    );
  }
  if (domain.routePoliciesScope === null) {
    throw unprocessable(
      `Cannot create route policies for route '${route.guid}': the route's domain does not have enforce_route_policies enabled.`,
    );
  }
  if (domain.routePoliciesScope === "space" && source.startsWith("cf:org:")) {
    throw unprocessable(`Source '${source}' is not allowed: domain's route_policies_scope is 'space'.`);
  }
  const siblings = store.policiesOfRoute(route.guid);
  if (source === EVERYBODY && siblings.length > 0) {
    throw unprocessable("source 'cf:any' cannot coexist with other route policies on the same route");
  }
  if (siblings.some((other) => other.source === EVERYBODY)) {
    throw unprocessable("source cannot coexist with the existing 'cf:any' policy on this route");
  }
  if (siblings.some((other) => other.source === source)) {
    throw unprocessable(`A route policy with source '${source}' already exists for this route.`);
  }
  const policy = store.routePolicies.add({ ...newResource(api), routeGuid: route.guid, source });
  await tellDiego(api, route.guid);
  recordRoutePolicyEvent(api, caller, "create", policy, { source, route_guid: route.guid });
  return policy;
}

export async function deleteRoutePolicy(api: Api, caller: Caller, policy: RoutePolicy): Promise<void> {
  api.store.routePolicies.delete(policy);
  await tellDiego(api, policy.routeGuid);
  recordRoutePolicyEvent(api, caller, "delete", policy, undefined);
}
