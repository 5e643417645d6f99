/** Makes apps as their manifests want them. Source: AppApplyManifest and ManifestRouteUpdate of cloud_controller_ng. */
import { randomBytes } from "node:crypto";
import { type Api, type Caller, now } from "./api.js";
import { createApp, ensureProcess } from "./app-actions.js";
import { recordAppEvent } from "./audit-events.js";
import { mergeMetadata } from "./body.js";
import { changeDestinations, insertDestinations } from "./destination-actions.js";
import { defaultDomain } from "./domains.js";
import { ApiError, CompoundError, notFound, unprocessable } from "./errors.js";
import type { ManifestApp, ManifestHealthCheck, ManifestProcess, ManifestRoute } from "./manifest.js";
import { type Scale, scaleProcess } from "./processes.js";
import type { App, HealthCheck, Route, Space } from "./records.js";
import { changeRouteOptions, checkRouteFields, createRoute } from "./route-actions.js";

/**
 * Apps that are not there are made, stopped. What a manifest does not mention stays as it is.
 *
 * Throws   what is wrong with the first app that can't be made so, behind "For application 'NAME': "; apps before it are
 *          changed then, and it may be in part.
 */
export async function applyManifest(
  api: Api,
  caller: Caller,
  space: Space,
  manifests: readonly ManifestApp[],
): Promise<void> {
  for (const manifest of manifests) {
    try {
      await applyOne(api, caller, space, manifest);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const errors = error instanceof CompoundError ? error.errors : [error];
      const named = errors.map(
        ({ status, code, title, message }) =>
          new ApiError(status, code, title, `For application '${manifest.name}': ${message}`),
      );
      throw new CompoundError(named);
    }
  }
}

async function applyOne(api: Api, caller: Caller, space: Space, manifest: ManifestApp): Promise<void> {
  const { store } = api;
  const [service] = manifest.services;
  if (service !== undefined) throw notFound(`Service instance '${service}'`);
  const app =
    store.appsOfSpace(space.guid).find(({ name }) => name === manifest.name) ??
    createApp(api, caller, { name: manifest.name, spaceGuid: space.guid });
  app.buildpacks = manifest.buildpacks ?? app.buildpacks;
  app.stack = manifest.stack ?? app.stack;
  app.environmentVariables = { ...app.environmentVariables, ...manifest.environment };
  app.metadata = mergeMetadata(app.metadata, manifest.metadata);
  app.updatedAt = now(api);
  recordAppEvent(api, caller, "audit.app.apply_manifest", app, { request: { manifest: describe(manifest) } });
  for (const process of manifest.processes) await applyProcess(api, caller, app, process);
  await applyRoutes(api, caller, app, manifest);
}

/** As events show it: what is in the environment may be secret. */
function describe({ source }: ManifestApp): object {
  return source["env"] === undefined ? source : { ...source, env: "[PRIVATE DATA HIDDEN]" };
}

async function applyProcess(api: Api, caller: Caller, app: App, wanted: ManifestProcess): Promise<void> {
  const process = ensureProcess(api, app, wanted.type);
  if (wanted.command !== undefined) process.command = wanted.command;
  process.healthCheck = mergeHealthCheck(process.healthCheck, wanted.healthCheck);
  process.readinessHealthCheck = mergeHealthCheck(process.readinessHealthCheck, wanted.readinessHealthCheck);
  const change: Scale = {
    ...(wanted.instances !== undefined && { instances: wanted.instances }),
    ...(wanted.memoryMb !== undefined && { memoryMb: wanted.memoryMb }),
    ...(wanted.diskMb !== undefined && { diskMb: wanted.diskMb }),
    ...(wanted.logRateLimitBytesPerSecond !== undefined && {
      logRateLimitBytesPerSecond: wanted.logRateLimitBytesPerSecond,
    }),
  };
  if (Object.keys(change).length > 0) await scaleProcess(api, caller, process, change);
}

function mergeHealthCheck(old: HealthCheck, change: ManifestHealthCheck): HealthCheck {
  return { type: change.type ?? old.type, data: { ...old.data, ...change.data } };
}

async function applyRoutes(api: Api, caller: Caller, app: App, manifest: ManifestApp): Promise<void> {
  if (manifest.noRoute) {
    await unmapAll(api, caller, app);
    return;
  }
  if (manifest.routes.length > 0) {
    // No route is mapped before all of them are there.
    const routes: [Route, ManifestRoute][] = [];
    for (const wanted of manifest.routes) routes.push([await findOrCreateRoute(api, caller, app, wanted), wanted]);
    for (const [route, wanted] of routes) await map(api, caller, app, route, wanted);
    return;
  }
  const hasRoute = api.store.destinationsOfApp(app.guid).length > 0;
  if (hasRoute || !(manifest.randomRoute || manifest.defaultRoute)) return;
  const host = manifest.randomRoute ? `${app.name}-${randomBytes(4).toString("hex")}` : app.name;
  await mapDefaultRoute(api, caller, app, host);
}

async function unmapAll(api: Api, caller: Caller, app: App): Promise<void> {
  const { store } = api;
  const destinations = store.destinationsOfApp(app.guid);
  for (const route of new Set(destinations.map(({ routeGuid }) => store.routes.require(routeGuid)))) {
    const remove = destinations.filter(({ routeGuid }) => routeGuid === route.guid);
    await changeDestinations(api, caller, route, { remove, add: [] });
  }
}

async function mapDefaultRoute(api: Api, caller: Caller, app: App, host: string): Promise<void> {
  const { store } = api;
  const domain = defaultDomain(api, store.organizationOf(app.spaceGuid).guid);
  if (domain === undefined) throw unprocessable("No default domains available");
  const existing = store.routesOfHost(domain.guid, host.toLowerCase()).find(({ path }) => path === "");
  if (existing === undefined) checkRouteFields({ host });
  const isForeign = existing !== undefined && existing.spaceGuid !== app.spaceGuid;
  if (isForeign) throw unprocessable("Routes cannot be mapped to destinations in different spaces");
  const route = existing ?? createRoute(api, caller, { spaceGuid: app.spaceGuid, domainGuid: domain.guid, host });
  await map(api, caller, app, route, { route: store.urlOf(route), protocol: undefined, options: undefined });
}

async function findOrCreateRoute(api: Api, caller: Caller, app: App, wanted: ManifestRoute): Promise<Route> {
  const { store } = api;
  const { name, path, port } = split(wanted.route);
  for (const { host, domainName } of candidates(name)) {
    const [domain] = store.domainsNamed(domainName);
    if (domain === undefined) continue;
    const existing = store
      .routesOfHost(domain.guid, host)
      .find((route) => route.path === path && (route.port ?? undefined) === port);
    return await inContext(wanted, async () => {
      if (existing === undefined) {
        checkRouteFields({ host, path });
        const place = { spaceGuid: app.spaceGuid, domainGuid: domain.guid };
        const options = wanted.options === undefined ? {} : { options: wanted.options };
        return createRoute(api, caller, { ...place, host, path, ...(port !== undefined && { port }), ...options });
      }
      if (existing.spaceGuid !== app.spaceGuid) {
        throw unprocessable("Routes cannot be mapped to destinations in different spaces");
      }
      if (wanted.options !== undefined) await changeRouteOptions(api, existing, wanted.options);
      return existing;
    });
  }
  throw unprocessable(`For route '${wanted.route}': No domains exist for route ${wanted.route}`);
}

async function map(api: Api, caller: Caller, app: App, route: Route, wanted: ManifestRoute): Promise<void> {
  const { store } = api;
  const mapped = store
    .destinationsOfRoute(route.guid)
    .find(({ appGuid, processType }) => appGuid === app.guid && processType === "web");
  if (mapped !== undefined && (wanted.protocol === undefined || wanted.protocol === mapped.protocol)) return;
  await inContext(wanted, async () => {
    if (mapped !== undefined) await changeDestinations(api, caller, route, { remove: [mapped], add: [] });
    await insertDestinations(api, caller, route, [
      { appGuid: app.guid, processType: "web", port: mapped?.port, weight: undefined, protocol: wanted.protocol },
    ]);
  });
}

async function inContext<T>({ route }: ManifestRoute, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    throw new ApiError(error.status, error.code, error.title, `For route '${route}': ${error.message}`);
  }
}

function split(text: string): { readonly name: string; readonly path: string; readonly port: number | undefined } {
  const [, name = "", port, path = ""] = /^(?:https?:\/\/)?([^/:]+)(?::(\d+))?(\/.*)?$/.exec(text) ?? [];
  return {
    name: name.toLowerCase(),
    path: path === "/" ? "" : path,
    port: port === undefined ? undefined : Number(port),
  };
}

/** The whole name may be a domain, or its first label a host. */
function candidates(name: string): readonly { readonly host: string; readonly domainName: string }[] {
  const dot = name.indexOf(".");
  const firstIsHost = { host: name.slice(0, dot), domainName: name.slice(dot + 1) };
  return firstIsHost.host === "*" ? [firstIsHost] : [{ host: "", domainName: name }, firstIsHost];
}
