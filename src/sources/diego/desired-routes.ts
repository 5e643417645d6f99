/**
 * The routes that desired LRPs tell of, by host and path. Pure: facts in, moved places out.
 *
 * Events and lists come on connections of their own; the modification tag decides, as in instances.ts.
 */
import { createHash } from "node:crypto";
import type { RouteInit } from "../../entries/entries.js";
import { strictestPolicies } from "../../entries/route-policies.js";
import { compareText } from "../../lib/compare-text.js";
import type { DesiredRoute, RoutingInfo } from "./routing-info.js";

/** A host and a path in one word: a host has no "/". */
export function placeOf({ host, path }: { readonly host: string; readonly path: string }): string {
  return `${host}${path}`;
}

/** What events said while a list was read; undefined: removed. */
type Overlay = Map<string, RoutingInfo | undefined>;

export class DesiredRoutes {
  readonly #infos = new Map<string, RoutingInfo>();
  /** Guids of the LRPs that lead somewhere, by place. */
  readonly #lrpsByPlace = new Map<string, Set<string>>();
  #overlay: Overlay | undefined;

  /** To be called before the list is asked for. Events go on being applied while it is read. */
  beginList(): DesiredList {
    const overlay: Overlay = new Map();
    this.#overlay = overlay;
    const listed = new Map<string, RoutingInfo>();
    return {
      take: (info) => void listed.set(info.lrpProcessGuid, info),
      finish: (isFresh) => {
        if (this.#overlay === overlay) this.#overlay = undefined;
        for (const info of listed.values()) {
          const guid = info.lrpProcessGuid;
          const event = overlay.get(guid);
          const isOlder = overlay.has(guid) && (event === undefined || !isNewer(info, event));
          if (!isOlder) this.#put(info);
        }
        if (!isFresh) return;
        for (const guid of [...this.#infos.keys()]) if (!listed.has(guid) && !overlay.has(guid)) this.#drop(guid);
      },
    };
  }

  /** Returns the places whose route may be another now. */
  put(info: RoutingInfo): ReadonlySet<string> {
    this.#overlay?.set(info.lrpProcessGuid, info);
    const before = this.#infos.get(info.lrpProcessGuid);
    if (before && isNewer(before, info)) return new Set();
    return this.#put(info);
  }

  /** Returns the places whose route may be another now. */
  remove(lrpProcessGuid: string): ReadonlySet<string> {
    this.#overlay?.set(lrpProcessGuid, undefined);
    return this.#drop(lrpProcessGuid);
  }

  places(): IterableIterator<string> {
    return this.#lrpsByPlace.keys();
  }

  /**
   * Destinations have no weights: Diego is not told of them, so every instance gets an equal share. Two versions of one
   * process are one destination.
   *
   * Returns  undefined where no LRP leads.
   */
  route(place: string): RouteInit | undefined {
    const guids = [...(this.#lrpsByPlace.get(place) ?? [])].sort(compareText);
    const leads = guids.flatMap((guid) => {
      const info = this.#infos.get(guid);
      return (info?.routes ?? []).filter((route) => placeOf(route) === place).map((route) => ({ ...route, info }));
    });
    const [first] = leads;
    if (first?.info === undefined) return undefined;
    const policies = strictestPolicies(leads.map(({ options }) => options));
    const destinations = new Map(leads.map((lead) => [nameOf(lead), destinationOf(lead, policies !== undefined)]));
    const { host, path, internal, info } = first;
    const options = first.options ?? policies;
    return {
      guid: routeGuid(place),
      host,
      path,
      internal,
      protocol: "http",
      ...(options && { options: { ...options, ...policies } }),
      destinations: [...destinations].sort(([a], [b]) => compareText(a, b)).map(([, destination]) => destination),
      labels: { organizationName: info.organizationName, spaceName: info.spaceName },
      // While it is bound, some LRPs do not say so yet: a service that guards a route must not be passed by.
      routeServiceUrl: leads.find(({ routeServiceUrl }) => routeServiceUrl !== "")?.routeServiceUrl ?? "",
    };
  }

  clear(): void {
    this.#infos.clear();
    this.#lrpsByPlace.clear();
    this.#overlay = undefined;
  }

  #put(info: RoutingInfo): ReadonlySet<string> {
    const touched = new Set(this.#drop(info.lrpProcessGuid));
    this.#infos.set(info.lrpProcessGuid, info);
    for (const route of info.routes) {
      const place = placeOf(route);
      touched.add(place);
      const lrps = this.#lrpsByPlace.get(place);
      if (lrps) lrps.add(info.lrpProcessGuid);
      else this.#lrpsByPlace.set(place, new Set([info.lrpProcessGuid]));
    }
    return touched;
  }

  #drop(lrpProcessGuid: string): ReadonlySet<string> {
    const places = new Set(this.#infos.get(lrpProcessGuid)?.routes.map(placeOf));
    this.#infos.delete(lrpProcessGuid);
    for (const place of places) {
      const lrps = this.#lrpsByPlace.get(place);
      lrps?.delete(lrpProcessGuid);
      if (lrps?.size === 0) this.#lrpsByPlace.delete(place);
    }
    return places;
  }
}

/** A list while it is read. One that fails is simply left: it changes nothing. */
export interface DesiredList {
  take(info: RoutingInfo): void;
  /**
   * Makes the list known, now that it is complete.
   *
   * @param isFresh  whether its domain was fresh before it was read. Where it was not, what it lacks is kept.
   */
  finish(isFresh: boolean): void;
}

/** What a place is called in the log: its name may hold what keys may not. */
export function routeGuid(place: string): string {
  return createHash("sha256").update(place).digest("hex").slice(0, 32);
}

/** Of two epochs neither is known to be newer: what came last counts. */
function isNewer(one: RoutingInfo, other: RoutingInfo): boolean {
  return one.epoch === other.epoch && one.index > other.index;
}

type Lead = DesiredRoute & { readonly info: RoutingInfo | undefined };

function nameOf({ info, port, protocol }: Lead): string {
  return `${info?.processGuid ?? ""} ${port} ${protocol}`;
}

function destinationOf({ info, port, protocol }: Lead, isPoliced: boolean) {
  const { processGuid = "", appGuid = "", appName = "", processType = "" } = info ?? {};
  const owner = info && isPoliced && { spaceGuid: info.spaceGuid, organizationGuid: info.organizationGuid };
  return { processGuid, appGuid, port, protocol, appName, processType, ...owner };
}
