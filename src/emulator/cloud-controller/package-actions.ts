import type { Api } from "./api.js";
import type { App, Droplet, Package } from "./records.js";

/** Of each app, beside its current droplet; Cloud Controller's defaults. */
const MAX_PACKAGES = 5;
const MAX_DROPLETS = 5;

export async function deletePackage(api: Api, one: Package): Promise<void> {
  api.store.packages.delete(one);
  await api.bits.deletePackage(one.guid);
}

export async function deleteDroplet(api: Api, droplet: Droplet): Promise<void> {
  api.store.droplets.delete(droplet);
  await api.bits.deleteDroplet(droplet, api.store.droplets.all());
}

/** Keeps an app's newest packages. One that is being staged is among them, as staging takes the newest. */
export async function expirePackages(api: Api, app: App): Promise<void> {
  const ready = api.store.packagesOfApp(app.guid).filter(({ state }) => state === "READY");
  for (const one of ready.slice(0, -MAX_PACKAGES)) await deletePackage(api, one);
}

/** Keeps an app's newest droplets, its current one, and those that a deployment may go back to. */
export async function expireDroplets(api: Api, app: App): Promise<void> {
  const { store } = api;
  const kept = new Set([
    app.dropletGuid,
    ...store
      .deploymentsOfApp(app.guid)
      .filter(({ reason }) => reason === "DEPLOYING" || reason === "PAUSED")
      .flatMap(({ dropletGuid, previousDropletGuid }) => [dropletGuid, previousDropletGuid]),
  ]);
  for (const droplet of store.dropletsOfApp(app.guid).slice(0, -MAX_DROPLETS)) {
    if (!kept.has(droplet.guid)) await deleteDroplet(api, droplet);
  }
}
