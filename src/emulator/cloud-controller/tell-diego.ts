import type { Api } from "./api.js";

/** Of a change to a route: every process that it leads to. The route's own updated_at stays, as Cloud Controller's does. */
export async function tellDiego({ store, launcher }: Api, routeGuid: string): Promise<void> {
  for (const { appGuid, processType } of store.destinationsOfRoute(routeGuid)) {
    const process = store.process(appGuid, processType);
    if (process !== undefined) await launcher.refresh(process);
  }
}
