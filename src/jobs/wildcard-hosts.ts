/**
 * Hosts below wildcards that are used much. Envoy has to search the route of each of their requests, in Lua; one that gets a scope
 * of its own, which leads to its wildcards' routes, costs what an exact host costs. Where the search would lead does not
 * change by it: a path that the wildcards do not have is searched as before.
 */
import { wildcardGroupOf } from "../model/hosts.js";
import type { RoutingTable } from "../model/routing-table.js";

/** So many requests, within so long, are much. */
const MANY = 32;
const WINDOW_MS = 60_000;

/** Whoever asks for many names makes no more scopes, and no more counts, than that. */
const MOST = 10_000;

/** Each push of scopes costs Envoy's main thread time that grows with all that it has. */
const GATHER_MS = 1_000;

/** What may be a scope's key: hosts that are written otherwise are searched for. */
const HOST = /^[a-z0-9._-]{1,253}$/;

export class WildcardHosts {
  /** Those that came first come first. */
  readonly #known = new Set<string>();
  readonly #counts = new Map<string, number>();
  #windowEndsMs = 0;

  has(host: string): boolean {
    return this.#known.has(host);
  }

  names(): Iterable<string> {
    return this.#known;
  }

  /** A request for the host was searched for. Returns the hosts that come and go by it. */
  count(host: string, nowMs: number): readonly string[] {
    // Of before Envoy had its scope.
    if (this.#known.has(host)) return [];
    if (nowMs >= this.#windowEndsMs || this.#counts.size >= MOST) {
      this.#counts.clear();
      this.#windowEndsMs = nowMs + WINDOW_MS;
    }
    const count = (this.#counts.get(host) ?? 0) + 1;
    this.#counts.set(host, count);
    if (count < MANY) return [];
    this.#counts.delete(host);
    this.#known.add(host);
    const [oldest] = this.#known;
    if (this.#known.size <= MOST || oldest === undefined) return [host];
    this.#known.delete(oldest);
    return [host, oldest];
  }
}

export interface WildcardFollower {
  /** A request for this host, as in its Host header, was found below a wildcard. */
  readonly count: (authority: string) => void;
  stop(): void;
}

/** `onMoved`: the scopes of these hosts have come or gone. */
export function followWildcards(
  hosts: WildcardHosts,
  table: RoutingTable,
  onMoved: (hosts: ReadonlySet<string>) => void,
): WildcardFollower {
  const moved = new Set<string>();
  let timer: NodeJS.Timeout | undefined;
  return {
    count(authority) {
      const [host = ""] = authority.split(":");
      if (!HOST.test(host) || wildcardGroupOf(host) === undefined || table.hasGroup(host)) return;
      for (const changed of hosts.count(host, performance.now())) moved.add(changed);
      if (moved.size === 0) return;
      timer ??= setTimeout(() => {
        timer = undefined;
        onMoved(new Set(moved));
        moved.clear();
      }, GATHER_MS);
    },
    stop: () => clearTimeout(timer),
  };
}
