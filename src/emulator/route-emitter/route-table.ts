import type { LrpFeed } from "../diego/lrp-feed.js";
import type { TcpMapping } from "../routing-api/tcp-routes.js";
import { type ProcessRoutes, type Registration, routesOf } from "./registrations.js";

/** What became true and what no longer is, when a process changed. */
export interface RouteChange<T> {
  readonly added: readonly T[];
  readonly removed: readonly T[];
}

export interface RouteFollower {
  onRegistrations(change: RouteChange<Registration>): void;
  onTcpMappings(change: RouteChange<TcpMapping>): void;
}

const NO_ROUTES: ProcessRoutes = { registrations: new Map(), tcpMappings: new Map() };

/** Follows Diego, and knows what is to be said of each process: the emitter's table. */
export class RouteTable {
  readonly #processes = new Map<string, ProcessRoutes>();
  readonly #lrps: LrpFeed;
  readonly #follower: RouteFollower;
  readonly #unfollow: () => void;

  /** The follower hears of what is there already, too. */
  constructor(lrps: LrpFeed, follower: RouteFollower) {
    this.#lrps = lrps;
    this.#follower = follower;
    this.#unfollow = lrps.follow((processGuid) => this.#look(processGuid));
    for (const processGuid of lrps.processGuids()) this.#look(processGuid);
  }

  processGuids(): readonly string[] {
    return [...this.#processes.keys()];
  }

  registrationsOf(processGuid: string): readonly Registration[] {
    return [...(this.#processes.get(processGuid)?.registrations.values() ?? [])];
  }

  tcpMappings(): readonly TcpMapping[] {
    return [...this.#processes.values()].flatMap(({ tcpMappings }) => [...tcpMappings.values()]);
  }

  close(): void {
    this.#unfollow();
  }

  #look(processGuid: string): void {
    const before = this.#processes.get(processGuid) ?? NO_ROUTES;
    const after = routesOf(this.#lrps, processGuid);
    if (after.registrations.size + after.tcpMappings.size === 0) this.#processes.delete(processGuid);
    else this.#processes.set(processGuid, after);
    const isSame = (one: Registration, other: Registration) => one.payload === other.payload;
    const registrations = difference(before.registrations, after.registrations, isSame);
    if (isChange(registrations)) this.#follower.onRegistrations(registrations);
    const mappings = difference(
      before.tcpMappings,
      after.tcpMappings,
      (one, other) => one.instance_id === other.instance_id,
    );
    if (isChange(mappings)) this.#follower.onTcpMappings(mappings);
  }
}

function difference<T>(
  before: ReadonlyMap<string, T>,
  after: ReadonlyMap<string, T>,
  isSame: (one: T, other: T) => boolean,
): RouteChange<T> {
  return {
    added: [...after].flatMap(([key, item]) => {
      const old = before.get(key);
      return old !== undefined && isSame(old, item) ? [] : [item];
    }),
    removed: [...before].flatMap(([key, item]) => (after.has(key) ? [] : [item])),
  };
}

function isChange(change: RouteChange<unknown>): boolean {
  return change.added.length + change.removed.length > 0;
}
