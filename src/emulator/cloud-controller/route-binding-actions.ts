import { type Api, type Caller, newResource, now } from "./api.js";
import { recordRouteBindingEvent } from "./audit-events.js";
import { unprocessable } from "./errors.js";
import type { Route, RouteBinding, ServiceInstance } from "./records.js";
import { tellDiego } from "./tell-diego.js";

/**
 * Throws   422 in Cloud Controller's words.
 * Source   ServiceRouteBindingCreate of cloud_controller_ng.
 */
export async function bindRoute(
  api: Api,
  caller: Caller,
  instance: ServiceInstance,
  route: Route,
): Promise<RouteBinding> {
  const { store } = api;
  const [bound] = store.bindingsOfRoute(route.guid);
  if (!instance.routeServiceUrl) throw unprocessable("This service instance does not support route binding");
  if (store.domains.require(route.domainGuid).internal) {
    throw unprocessable("Route services cannot be bound to internal routes");
  }
  if (route.spaceGuid !== instance.spaceGuid) {
    throw unprocessable("The service instance and the route are in different spaces");
  }
  if (bound?.serviceInstanceGuid === instance.guid) {
    throw unprocessable("The route and service instance are already bound");
  }
  if (bound) throw unprocessable("A route may only be bound to a single service instance");
  const binding = store.routeBindings.add({
    ...newResource(api),
    routeGuid: route.guid,
    serviceInstanceGuid: instance.guid,
    routeServiceUrl: instance.routeServiceUrl,
  });
  recordRouteBindingEvent(api, caller, "create", binding);
  await tellDiego(api, route.guid);
  return binding;
}

export async function deleteBinding(api: Api, caller: Caller, binding: RouteBinding): Promise<void> {
  api.store.routeBindings.delete(binding);
  recordRouteBindingEvent(api, caller, "delete", binding);
  await tellDiego(api, binding.routeGuid);
}

/** Its bindings take the URL along. Throws 422 where none is left for them. */
export async function useNewUrl(api: Api, instance: ServiceInstance, url: string | null): Promise<void> {
  const bindings = api.store.bindingsOfInstance(instance.guid);
  if (!url && bindings.length > 0) {
    throw unprocessable("Cannot clear route_service_url of a service instance that is bound to routes");
  }
  instance.routeServiceUrl = url;
  for (const binding of bindings) {
    binding.routeServiceUrl = url ?? "";
    binding.updatedAt = now(api);
    await tellDiego(api, binding.routeGuid);
  }
}
