/** What changes the destinations of a route. Source: UpdateRouteDestinations of cloud_controller_ng. */
import { randomUUID } from "node:crypto";
import { type Api, type Caller, now } from "./api.js";
import { recordMapping } from "./audit-events.js";
import { type DestinationInput } from "./destination-input.js";
import { unprocessable } from "./errors.js";
import { DEFAULT_PORT } from "./process-ports.js";
import type { Destination, DestinationProtocol, Process, Route } from "./records.js";
import { protocolOf } from "./store.js";

type Mapping = Pick<Destination, "appGuid" | "processType" | "port" | "weight" | "protocol">;

const MAX_DESTINATIONS = 100;

/** Adds to what is there; a destination that exists is passed over. Throws 422 on weighted routes. */
export async function insertDestinations(
  api: Api,
  caller: Caller,
  route: Route,
  inputs: readonly DestinationInput[],
): Promise<void> {
  const existing = api.store.destinationsOfRoute(route.guid);
  const wanted = toMappings(api, route, inputs);
  checkCount(existing.length + wanted.length);
  checkUnique(wanted);
  if (existing.some((destination) => destination.weight !== null)) {
    throw unprocessable("Destinations cannot be inserted when there are weighted destinations already configured.");
  }
  const add = wanted.filter((mapping) => {
    const same = existing.find((other) => address(other) === address(mapping));
    if (same !== undefined && same.protocol !== mapping.protocol) {
      throw unprocessable(
        `Cannot add destination with protocol: ${mapping.protocol}. Destination already exists for route: ` +
          `${api.store.urlOf(route)}, app: ${mapping.appGuid}, process: ${mapping.processType}, ` +
          `and protocol: ${same.protocol}.`,
      );
    }
    return same === undefined;
  });
  await changeDestinations(api, caller, route, { remove: [], add });
}

/** Makes these the route's only destinations. One that stays as it is, weight included, keeps its guid. */
export async function replaceDestinations(
  api: Api,
  caller: Caller,
  route: Route,
  inputs: readonly DestinationInput[],
): Promise<void> {
  const existing = api.store.destinationsOfRoute(route.guid);
  const wanted = toMappings(api, route, inputs);
  checkCount(wanted.length);
  checkUnique(wanted);
  const kept = new Set(wanted.map(identity));
  const present = new Set(existing.map(identity));
  await changeDestinations(api, caller, route, {
    remove: existing.filter((destination) => !kept.has(identity(destination))),
    add: wanted.filter((mapping) => !present.has(identity(mapping))),
  });
}

/** Throws 422 for a weighted one: its siblings' weights would no longer sum to 100. */
export async function deleteDestination(
  api: Api,
  caller: Caller,
  route: Route,
  destination: Destination,
): Promise<void> {
  if (destination.weight !== null) {
    throw unprocessable("Weighted destinations cannot be deleted individually.");
  }
  await changeDestinations(api, caller, route, { remove: [destination], add: [] });
}

/** Changes it in place: it keeps its guid. null takes the default of the route's protocol. */
export async function changeDestinationProtocol(
  api: Api,
  route: Route,
  destination: Destination,
  wanted: DestinationProtocol | null,
): Promise<void> {
  const protocol = wanted ?? defaultProtocol(api, route);
  checkProtocol(api, route, protocol);
  destination.protocol = protocol;
  destination.updatedAt = now(api);
  const process = api.store.process(destination.appGuid, destination.processType);
  if (process !== undefined) await touch(api, [process]);
}

/**
 * Removes and adds, records the events, and tells the processes that are concerned: their updated_at moves and Diego
 * gets their routes. The route's own updated_at stays, as Cloud Controller's does.
 */
export async function changeDestinations(
  api: Api,
  caller: Caller,
  route: Route,
  change: { readonly remove: readonly Destination[]; readonly add: readonly Mapping[] },
): Promise<void> {
  const { store } = api;
  for (const mapping of change.add) checkProtocol(api, route, mapping.protocol);
  const touched = new Set<Process>();
  for (const destination of change.remove) {
    store.destinations.delete(destination);
    recordMapping(api, caller, "audit.app.unmap-route", store.apps.require(destination.appGuid), destination);
    const process = store.process(destination.appGuid, destination.processType);
    if (process === undefined) continue;
    touched.add(process);
    closePort(api, process, destination.port);
  }
  for (const mapping of change.add) {
    const at = now(api);
    const destination = { guid: randomUUID(), createdAt: at, updatedAt: at, routeGuid: route.guid, ...mapping };
    store.destinations.add(destination);
    recordMapping(api, caller, "audit.app.map-route", store.apps.require(mapping.appGuid), destination);
    const process = store.process(mapping.appGuid, mapping.processType);
    if (process === undefined) continue;
    touched.add(process);
    process.ports = [...new Set([...(process.ports ?? []), mapping.port])];
  }
  await touch(api, [...touched]);
}

function closePort(api: Api, process: Process, port: number): void {
  const isUsed = api.store
    .destinationsOfApp(process.appGuid)
    .some((other) => other.processType === process.type && other.port === port);
  if (isUsed) return;
  const left = (process.ports ?? []).filter((open) => open !== port);
  process.ports = left.length > 0 ? left : null;
}

async function touch(api: Api, processes: readonly Process[]): Promise<void> {
  for (const process of processes) {
    process.updatedAt = now(api);
    await api.launcher.refresh(process);
  }
}

function toMappings(api: Api, route: Route, inputs: readonly DestinationInput[]): readonly Mapping[] {
  const { store } = api;
  const missing = new Set(inputs.map((input) => input.appGuid).filter((guid) => store.apps.get(guid) === undefined));
  if (missing.size > 0) {
    throw unprocessable(`App(s) with guid(s) "${[...missing].join('", "')}" do not exist.`);
  }
  if (inputs.some((input) => store.apps.require(input.appGuid).spaceGuid !== route.spaceGuid)) {
    throw unprocessable("Routes destinations must be in either the route's space or the route's shared spaces");
  }
  return inputs.map((input) => ({
    appGuid: input.appGuid,
    processType: input.processType,
    port: input.port ?? DEFAULT_PORT,
    weight: input.weight ?? null,
    protocol: input.protocol ?? defaultProtocol(api, route),
  }));
}

function defaultProtocol(api: Api, route: Route): DestinationProtocol {
  return protocolOf(api.store.domains.require(route.domainGuid)) === "tcp" ? "tcp" : "http1";
}

function checkProtocol(api: Api, route: Route, protocol: DestinationProtocol): void {
  const routeProtocol = protocolOf(api.store.domains.require(route.domainGuid));
  if ((routeProtocol === "tcp") === (protocol === "tcp")) return;
  const valid = routeProtocol === "tcp" ? "tcp" : "http1, http2";
  throw unprocessable(`Cannot use '${protocol}' protocol for ${routeProtocol} routes; valid options are: [${valid}].`);
}

function checkCount(count: number): void {
  if (count > MAX_DESTINATIONS) throw unprocessable("Routes can be mapped to at most 100 destinations.");
}

function checkUnique(mappings: readonly Mapping[]): void {
  if (new Set(mappings.map(identity)).size < mappings.length) {
    throw unprocessable("Destinations cannot contain duplicate entries");
  }
}

function address(mapping: Mapping): string {
  return JSON.stringify([mapping.appGuid, mapping.processType, mapping.port]);
}

function identity(mapping: Mapping): string {
  return JSON.stringify([mapping.appGuid, mapping.processType, mapping.port, mapping.weight, mapping.protocol]);
}
