import type { Api, Caller } from "./api.js";
import { deleteApp } from "./app-actions.js";
import type { Space } from "./records.js";
import { deleteRoute } from "./route-actions.js";

/** With its apps, routes and services. */
export async function deleteSpace(api: Api, caller: Caller, space: Space): Promise<void> {
  const { store } = api;
  for (const app of store.appsOfSpace(space.guid)) await deleteApp(api, caller, app);
  for (const route of store.routesOfSpace(space.guid)) await deleteRoute(api, caller, route);
  for (const instance of store.instancesOfSpace(space.guid)) store.serviceInstances.delete(instance);
  for (const role of store.roles.all()) if (role.spaceGuid === space.guid) store.roles.delete(role);
  store.spaces.delete(space);
}
