/** What comes from outside, checked once: messages of the copilot API in, words of this source out. Pure. */
import { isIPv4 } from "node:net";
import type { CapiDiegoProcessAssociation, Route, RouteMapping } from "../../gen/copilot/cloud_controller_pb.js";
import { invalidArgument } from "./faults.js";
import type { ToldRoute } from "./picture.js";

export type RouteFields = Pick<Route, "guid" | "host" | "path" | "internal" | "vip">;
export type MappingFields = Pick<RouteMapping, "capiProcessGuid" | "routeGuid" | "routeWeight">;
export type AssociationFields = Pick<CapiDiegoProcessAssociation, "capiProcessGuid" | "diegoProcessGuids">;

export interface ToldMapping {
  readonly routeGuid: string;
  readonly processGuid: string;
  readonly weight: number;
}

export interface ToldAssociation {
  readonly processGuid: string;
  /** In the order of the alphabet, each once. */
  readonly lrpProcessGuids: readonly string[];
}

/** With guids of this length, an entry of the log has room for that many of them. */
const MAX_GUID_LENGTH = 200;
export const MAX_GUIDS_PER_ENTRY = 4_000;

const MAX_WEIGHT = 128;
/** BulkSync knows no limit; Envoy adds the weights of a route up in 32 bits. */
const MAX_BULK_WEIGHT = 1_000_000;

const MAX_HOST_LENGTH = 253;
const MAX_PATH_LENGTH = 1_024;

/** A guid is a part of a key of the log, and a key of the maps that lists answer with: none that JavaScript knows. */
const GUID = /^[A-Za-z0-9][A-Za-z0-9_-]*$/;
const HOST = /^(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*$/;
/** No request has the others in its path. */
const PATH = /^\/[^?#\s\p{Cc}]*$/u;

/** Throws a Refusal, INVALID_ARGUMENT in copilot's words. */
export function checkedRoute(route: Route | undefined): ToldRoute {
  if (!route) throw invalidArgument("route is required");
  if (route.guid === "" || route.host === "") throw invalidArgument("route Guid and Host are required");
  return told(route, routeProblem(route), toldRoute);
}

/** Of DeleteRoute. Throws a Refusal. */
export function checkedRouteGuid(guid: string): string {
  if (guid === "") throw invalidArgument("route Guid is required");
  return guid;
}

/** Throws a Refusal. */
export function checkedMapping(mapping: RouteMapping | undefined): ToldMapping {
  return checkMapping(mapping, "RouteGUID and CapiProcessGUID are required");
}

/** Of UnmapRoute, which asks for a weight that it has no use for: clients send it. Throws a Refusal. */
export function checkedUnmapping(mapping: RouteMapping | undefined): ToldMapping {
  return checkMapping(mapping, "RouteGuid and CapiProcessGuid are required");
}

function checkMapping(mapping: RouteMapping | undefined, incomplete: string): ToldMapping {
  if (!mapping) throw invalidArgument("RouteMapping is required");
  if (mapping.routeGuid === "" || mapping.capiProcessGuid === "") throw invalidArgument(incomplete);
  if (mapping.routeWeight < 1 || mapping.routeWeight > MAX_WEIGHT) {
    throw invalidArgument(`RouteWeight must be between 1 and ${MAX_WEIGHT}`);
  }
  return told(mapping, mappingProblem(mapping), toldMapping);
}

/** Throws a Refusal. */
export function checkedAssociation(association: CapiDiegoProcessAssociation | undefined): ToldAssociation {
  if (!association) throw invalidArgument("CapiDiegoProcessAssociation is required");
  if (association.capiProcessGuid === "" || association.diegoProcessGuids.length === 0) {
    throw invalidArgument("CapiProcessGuid and DiegoProcessGuids are required");
  }
  return told(association, associationProblem(association), toldAssociation);
}

/** Of DeleteCapiDiegoProcessAssociation. Throws a Refusal. */
export function checkedProcessGuid(guid: string): string {
  if (guid === "") throw invalidArgument("CapiProcessGuid is required");
  return guid;
}

function told<Message, Told>(message: Message, problem: string | undefined, turn: (message: Message) => Told): Told {
  if (problem !== undefined) throw invalidArgument(problem);
  return turn(message);
}

/** Why the log can't hold it, or a proxy would refuse it; undefined when all is well. */
export function routeProblem({ guid, host, path, vip }: RouteFields): string | undefined {
  if (!isGuid(guid)) return guidProblem("route Guid", guid);
  if (host.length > MAX_HOST_LENGTH || !HOST.test(host.toLowerCase()))
    return `route Host is no host name: ${shown(host)}`;
  if (path !== "" && (path.length > MAX_PATH_LENGTH || !PATH.test(path))) {
    return `route Path must begin with "/", with no "?", "#" or space in it: ${shown(path)}`;
  }
  if (vip !== "" && !isIPv4(vip)) return `route Vip is no IPv4 address: ${shown(vip)}`;
  return undefined;
}

export function mappingProblem({ routeGuid, capiProcessGuid, routeWeight }: MappingFields): string | undefined {
  if (!isGuid(routeGuid)) return guidProblem("RouteGuid", routeGuid);
  if (!isGuid(capiProcessGuid)) return guidProblem("CapiProcessGuid", capiProcessGuid);
  if (routeWeight > MAX_BULK_WEIGHT) return `RouteWeight must be at most ${MAX_BULK_WEIGHT}, not ${routeWeight}`;
  return undefined;
}

export function associationProblem(association: AssociationFields): string | undefined {
  const { capiProcessGuid, diegoProcessGuids } = association;
  if (!isGuid(capiProcessGuid)) return guidProblem("CapiProcessGuid", capiProcessGuid);
  if (diegoProcessGuids.length > MAX_GUIDS_PER_ENTRY) {
    return `DiegoProcessGuids must be at most ${MAX_GUIDS_PER_ENTRY}, not ${diegoProcessGuids.length}`;
  }
  const bad = diegoProcessGuids.find((guid) => !isGuid(guid));
  return bad === undefined ? undefined : guidProblem("DiegoProcessGuid", bad);
}

/** A host's case does not count, so it is stored in one. */
export function toldRoute({ guid, host, path, internal, vip }: RouteFields): ToldRoute {
  return { guid, host: host.toLowerCase(), path, internal, vip };
}

/** A bulk's mapping may say no weight: 1. */
export function toldMapping({ routeGuid, capiProcessGuid, routeWeight }: MappingFields): ToldMapping {
  return { routeGuid, processGuid: capiProcessGuid, weight: Math.max(1, routeWeight) };
}

export function toldAssociation(association: AssociationFields): ToldAssociation {
  const { capiProcessGuid: processGuid, diegoProcessGuids } = association;
  return { processGuid, lrpProcessGuids: [...new Set(diegoProcessGuids)].sort() };
}

function isGuid(guid: string): boolean {
  return guid.length <= MAX_GUID_LENGTH && GUID.test(guid);
}

function guidProblem(name: string, guid: string): string {
  return `${name} must be 1 to ${MAX_GUID_LENGTH} letters, digits, "-" and "_", a letter or digit first: ${shown(guid)}`;
}

/** Enough of it to find it by. */
function shown(text: string): string {
  return JSON.stringify(text.slice(0, 100));
}
