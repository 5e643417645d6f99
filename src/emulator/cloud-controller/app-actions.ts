import { randomUUID } from "node:crypto";
import { type Api, type Caller, newResource, now } from "./api.js";
import { recordAppEvent } from "./audit-events.js";
import { cancelBuilds } from "./build-actions.js";
import { changeDestinations } from "./destination-actions.js";
import { notUnique, unprocessable } from "./errors.js";
import { STACK } from "./lifecycle.js";
import { deleteDroplet, deletePackage } from "./package-actions.js";
import type { App, Droplet, Process } from "./records.js";

export interface NewApp {
  readonly name: string;
  readonly spaceGuid: string;
  readonly environmentVariables?: Readonly<Record<string, string>>;
  readonly buildpacks?: readonly string[];
  readonly stack?: string;
}

/** A stopped app with its web process. Throws 422 when the space is unknown, or the name taken in it. */
export function createApp(api: Api, caller: Caller, fields: NewApp): App {
  const { store } = api;
  if (store.spaces.get(fields.spaceGuid) === undefined) {
    throw unprocessable("Invalid space. Ensure that the space exists and you have access to it.");
  }
  checkNameIsFree(api, fields.name, fields.spaceGuid);
  const app = store.apps.add({
    ...newResource(api),
    name: fields.name,
    state: "STOPPED",
    spaceGuid: fields.spaceGuid,
    buildpacks: fields.buildpacks ?? [],
    stack: fields.stack ?? STACK,
    dropletGuid: null,
    environmentVariables: { ...fields.environmentVariables },
  });
  // The first web process shares the app's guid; clients are not to rely on it.
  store.processes.add(newProcess(api, app, "web", app.guid));
  recordAppEvent(api, caller, "audit.app.create", app, { request: { name: app.name } });
  return app;
}

export function renameApp(api: Api, app: App, name: string): void {
  if (name === app.name) return;
  checkNameIsFree(api, name, app.spaceGuid);
  app.name = name;
}

/** Throws 422 when the app has no droplet. An app that runs goes on running. */
export async function startApp(api: Api, caller: Caller, app: App): Promise<void> {
  checkDroplet(app);
  if (app.state === "STARTED") return;
  recordAppEvent(api, caller, "audit.app.start", app, {});
  touch(api, app);
  await api.launcher.start(app);
}

export async function stopApp(api: Api, caller: Caller, app: App): Promise<void> {
  if (app.state === "STOPPED") return;
  recordAppEvent(api, caller, "audit.app.stop", app, {});
  touch(api, app);
  await api.launcher.stop(app);
}

/** Stops it, then starts it in a new version: nothing of it runs in between. */
export async function restartApp(api: Api, caller: Caller, app: App): Promise<void> {
  checkDroplet(app);
  recordAppEvent(api, caller, "audit.app.restart", app, {});
  touch(api, app);
  await api.launcher.restart(app);
}

/** Throws 422 unless the droplet is the app's own. */
export function assignDroplet(api: Api, caller: Caller, app: App, dropletGuid: string): void {
  const droplet = api.store.droplets.get(dropletGuid);
  if (droplet?.appGuid !== app.guid) {
    throw unprocessable("Unable to assign current droplet. Ensure the droplet exists and belongs to this app.");
  }
  app.dropletGuid = droplet.guid;
  for (const type of Object.keys(droplet.processTypes)) ensureProcess(api, app, type);
  app.updatedAt = now(api);
  recordAppEvent(api, caller, "audit.app.droplet.mapped", app, { request: { droplet_guid: droplet.guid } });
}

/** A droplet of the app with the content of another. */
export function copyDroplet(api: Api, source: Droplet, app: App): Droplet {
  return api.store.droplets.add({
    ...newResource(api),
    appGuid: app.guid,
    packageGuid: null,
    name: source.name,
    detectOutput: source.detectOutput,
    processTypes: source.processTypes,
    workingDirectory: source.workingDirectory,
    path: source.path,
  });
}

/** With its destinations, processes and droplets; its routes stay. */
export async function deleteApp(api: Api, caller: Caller, app: App): Promise<void> {
  const { store } = api;
  recordAppEvent(api, caller, "audit.app.delete-request", app, { request: { recursive: true } });
  cancelBuilds(api, app);
  await api.launcher.stop(app);
  for (const destination of store.destinationsOfApp(app.guid)) {
    const route = store.routes.require(destination.routeGuid);
    await changeDestinations(api, caller, route, { remove: [destination], add: [] });
  }
  for (const process of store.processesOfApp(app.guid)) store.processes.delete(process);
  for (const deployment of store.deploymentsOfApp(app.guid)) store.deployments.delete(deployment);
  for (const droplet of store.dropletsOfApp(app.guid)) await deleteDroplet(api, droplet);
  for (const build of store.buildsOfApp(app.guid)) store.builds.delete(build);
  for (const one of store.packagesOfApp(app.guid)) await deletePackage(api, one);
  store.apps.delete(app);
  api.logs.forget(app.guid);
}

/** The app's process of this type. A new one has no instances but for web, and passes when it runs but for web. */
export function ensureProcess(api: Api, app: App, type: string): Process {
  const existing = api.store.process(app.guid, type);
  if (existing !== undefined) return existing;
  const process = newProcess(api, app, type, randomUUID());
  if (type === "web") return api.store.processes.add(process);
  const healthCheck = { type: "process", data: process.healthCheck.data };
  return api.store.processes.add({ ...process, instances: 0, healthCheck });
}

function newProcess(api: Api, app: App, type: string, guid: string): Process {
  return {
    ...newResource(api, guid),
    appGuid: app.guid,
    type,
    version: randomUUID(),
    retiringVersions: [],
    canaryInstances: null,
    command: null,
    instances: 1,
    memoryMb: 1024,
    diskMb: 1024,
    logRateLimitBytesPerSecond: -1,
    healthCheck: { type: "port", data: { timeout: null, invocation_timeout: null, interval: null } },
    readinessHealthCheck: { type: "process", data: { invocation_timeout: null, interval: null } },
    ports: null,
  };
}

function checkDroplet(app: App): void {
  if (app.dropletGuid === null) throw unprocessable("Assign a droplet before starting this app.");
}

function checkNameIsFree(api: Api, name: string, spaceGuid: string): void {
  const isSame = (other: App) => other.name.toLowerCase() === name.toLowerCase();
  if (api.store.appsOfSpace(spaceGuid).some(isSame)) throw notUnique(`App with the name '${name}' already exists.`);
}

function touch(api: Api, app: App): void {
  app.updatedAt = now(api);
  for (const process of api.store.processesOfApp(app.guid)) process.updatedAt = now(api);
}
