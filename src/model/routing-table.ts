/**
 * The routing table: what the entries of the mesh log mean for requests from outside. Pure: facts in, moved groups of hosts out.
 *
 * Built to hold a million routes: an entry's value is kept as the bytes it came as, in a string of one byte per
 * character (a decoded message costs several times that), and is decoded when its group is asked for.
 */
import { decodeProcess, decodeRoute, type Destination, type Instance, type Route } from "../entries/entries.js";
import { KEY_SPACES, kindOf } from "../entries/keys.js";
import { groupOf, isWildcard } from "./hosts.js";

/** What `apply` takes of an entry; a deletion has no value. */
export interface TableEntry {
  readonly key: string;
  readonly value: Uint8Array | undefined;
}

export interface ResolvedDestination {
  readonly destination: Destination;
  /** Those that serve, of any version; empty when nothing runs. */
  readonly instances: readonly Instance[];
}

/** All requests of one host below one path. */
export interface PathRoute {
  /** "" or a lower-case path without a slash at its end. */
  readonly path: string;
  readonly route: Route;
  readonly destinations: readonly ResolvedDestination[];
}

export interface HostRoutes {
  readonly host: string;
  /** At least one; longest path first, then in the order of the alphabet. */
  readonly paths: readonly PathRoute[];
}

/** What a proxy gets in one piece: an exact host, or the wildcard hosts of one group (hosts.ts). */
export interface GroupRoutes {
  readonly group: string;
  /** At least one, in the order of their names. */
  readonly hosts: readonly HostRoutes[];
}

/** Sources of routes by the second word of their keys, the one that wins first. */
const PRECEDENCE = ["cc", "copilot", "nats"];

export class RoutingTable {
  readonly #routes = new Map<string, string>();
  readonly #processes = new Map<string, string>();
  /** Most hosts have one route. */
  readonly #routesByHost = new Multimap();
  readonly #routesByProcess = new Multimap();
  /** The hosts of each group of wildcard hosts. */
  readonly #wildcardsByGroup = new Multimap();

  /** Routes that lead somewhere from outside: HTTP, not internal, with a destination. */
  get routeCount(): number {
    return this.#routes.size;
  }

  /** Takes entries over. Returns the groups whose routes or instances may have moved. */
  apply(entries: Iterable<TableEntry>): ReadonlySet<string> {
    const moved = new Set<string>();
    for (const entry of entries) {
      const kind = kindOf(entry.key);
      if (kind === "route") this.#applyRoute(entry, moved);
      if (kind === "process") this.#applyProcess(entry, moved);
    }
    return moved;
  }

  /** The keys of all entries that count. */
  *keys(): Iterable<string> {
    yield* this.#routes.keys();
    for (const processGuid of this.#processes.keys()) yield KEY_SPACES.diegoProcesses + processGuid;
  }

  hasGroup(group: string): boolean {
    return isWildcard(group) ? this.#wildcardsByGroup.has(group) : this.#routesByHost.has(group);
  }

  *groups(): Iterable<string> {
    for (const host of this.#routesByHost.keys()) if (!isWildcard(host)) yield host;
    yield* this.#wildcardsByGroup.keys();
  }

  /** undefined for a group without routes. */
  group(group: string): GroupRoutes | undefined {
    const names = isWildcard(group) ? [...this.#wildcardsByGroup.get(group)].sort(compareText) : [group];
    const hosts = names.flatMap((host) => this.#host(host) ?? []);
    return hosts.length > 0 ? { group, hosts } : undefined;
  }

  #host(host: string): HostRoutes | undefined {
    const keys = this.#routesByHost.get(host);
    if (keys.length === 0) return undefined;
    const winners = new Map<string, { key: string; route: Route }>();
    for (const key of keys) {
      const route = this.#route(key);
      if (!route) continue;
      const path = canonicalPath(route.path);
      const rival = winners.get(path);
      if (rival === undefined || rank(key, rival.key) < 0) winners.set(path, { key, route });
    }
    const paths = [...winners].map(([path, { route }]) => ({
      path,
      route,
      destinations: route.destinations.map((destination) => ({
        destination,
        instances: this.#instances(destination.processGuid),
      })),
    }));
    return { host, paths: paths.sort((a, b) => b.path.length - a.path.length || compareText(a.path, b.path)) };
  }

  #route(key: string): Route | undefined {
    const packed = this.#routes.get(key);
    return packed === undefined ? undefined : decodeRoute(unpack(packed));
  }

  #instances(processGuid: string): readonly Instance[] {
    const packed = this.#processes.get(processGuid);
    return packed === undefined ? [] : decodeProcess(unpack(packed)).instances;
  }

  #applyRoute({ key, value }: TableEntry, moved: Set<string>): void {
    const route = value && decodeRoute(value);
    // Internal and TCP routes are not reached through the HTTP listener, and a route that leads nowhere is as good as
    // none: its requests go where they would go without it.
    const leads = route && !route.internal && route.protocol !== "tcp" && route.destinations.length > 0;
    const packed = leads ? pack(value) : undefined;
    if (packed === this.#routes.get(key)) return;
    const before = this.#route(key);
    if (before) {
      this.#routes.delete(key);
      this.#routesByHost.remove(before.host, key);
      for (const { processGuid } of before.destinations) this.#routesByProcess.remove(processGuid, key);
      const group = groupOf(before.host);
      if (!this.#routesByHost.has(before.host)) this.#wildcardsByGroup.remove(group, before.host);
      moved.add(group);
    }
    if (leads && packed !== undefined) {
      this.#routes.set(key, packed);
      this.#routesByHost.add(route.host, key);
      for (const { processGuid } of route.destinations) {
        if (processGuid !== "") this.#routesByProcess.add(processGuid, key);
      }
      const group = groupOf(route.host);
      if (isWildcard(group)) this.#wildcardsByGroup.add(group, route.host);
      moved.add(group);
    }
  }

  #applyProcess({ key, value }: TableEntry, moved: Set<string>): void {
    const processGuid = key.slice(key.lastIndexOf(".") + 1);
    const packed = value && pack(value);
    if (this.#processes.get(processGuid) === packed) return;
    if (packed === undefined) this.#processes.delete(processGuid);
    else this.#processes.set(processGuid, packed);
    for (const routeKey of this.#routesByProcess.get(processGuid)) {
      const route = this.#route(routeKey);
      if (route) moved.add(groupOf(route.host));
    }
  }
}

/** Several values by key, where nearly every key has one. */
class Multimap {
  readonly #values = new Map<string, string | Set<string>>();

  has(key: string): boolean {
    return this.#values.has(key);
  }

  keys(): IterableIterator<string> {
    return this.#values.keys();
  }

  get(key: string): readonly string[] {
    const held = this.#values.get(key);
    if (held === undefined) return [];
    return typeof held === "string" ? [held] : [...held];
  }

  add(key: string, value: string): void {
    const held = this.#values.get(key);
    if (held === undefined) this.#values.set(key, value);
    else if (typeof held !== "string") held.add(value);
    else if (held !== value) this.#values.set(key, new Set([held, value]));
  }

  remove(key: string, value: string): void {
    const held = this.#values.get(key);
    if (held === value) this.#values.delete(key);
    if (held === undefined || typeof held === "string") return;
    held.delete(value);
    const [last] = held;
    if (held.size === 1 && last !== undefined) this.#values.set(key, last);
  }
}

function pack(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

function unpack(packed: string): Uint8Array {
  return Buffer.from(packed, "latin1");
}

/** Paths match in any case, and whole segments: "/Cart/" is "/cart". */
function canonicalPath(path: string): string {
  const lower = path.toLowerCase();
  return lower.endsWith("/") ? lower.slice(0, -1) : lower;
}

/** Below 0 when `key` wins over `rival`: by its source, and within a source by its name, so that all routers agree. */
function rank(key: string, rival: string): number {
  const place = (of: string) => PRECEDENCE.indexOf(of.split(".", 2)[1] ?? "");
  return place(key) - place(rival) || compareText(key, rival);
}

/** By code units: the same order on every machine, whatever its locale. */
function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
