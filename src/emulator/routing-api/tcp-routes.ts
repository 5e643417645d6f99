import { randomUUID } from "node:crypto";
import type { Clock } from "../../lib/clock.js";

/** A backend of a TCP port, in the routing API's own names. */
export interface TcpMapping {
  readonly router_group_guid: string;
  /** The external one. */
  readonly port: number;
  readonly backend_ip: string;
  readonly backend_port: number;
  /** 0 for none. */
  readonly backend_tls_port: number;
  readonly instance_id: string;
  readonly isolation_segment: string;
  /** Seconds until it is dropped unless it is said again; left out: 120. */
  readonly ttl?: number;
}

/** As it is stored: newer is what has another guid, or the same guid and a larger index. */
export interface TcpRoute extends TcpMapping {
  readonly ttl: number;
  readonly modification_tag: { readonly guid: string; readonly index: number };
}

export interface TcpEvent {
  readonly type: "Upsert" | "Delete";
  readonly route: TcpRoute;
}

interface Row {
  readonly route: TcpRoute;
  /** Unix time in milliseconds. */
  readonly expiresAtMs: number;
}

export const MAX_TTL_SECONDS = 120;

/** The TCP routes of the routing API. One that is not said again in time is dropped by the next `expire`. */
export class TcpRoutes {
  readonly #rows = new Map<string, Row>();
  readonly #followers = new Set<(event: TcpEvent) => void>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  all(): readonly TcpRoute[] {
    this.expire();
    return [...this.#rows.values()].map(({ route }) => route);
  }

  /** Tells each as an event, also one that is only said again: routers count its time from there. */
  upsert(mappings: readonly TcpMapping[]): void {
    for (const mapping of mappings) {
      const before = this.#rows.get(keyOf(mapping))?.route.modification_tag;
      const modification_tag = before ? { ...before, index: before.index + 1 } : { guid: randomUUID(), index: 0 };
      const ttl = mapping.ttl ?? MAX_TTL_SECONDS;
      const route: TcpRoute = { ...mapping, ttl, modification_tag };
      this.#rows.set(keyOf(mapping), { route, expiresAtMs: this.#clock.now() + ttl * 1_000 });
      this.#tell({ type: "Upsert", route });
    }
  }

  /** What is not there is left in peace. */
  remove(mappings: readonly TcpMapping[]): void {
    for (const mapping of mappings) {
      const row = this.#rows.get(keyOf(mapping));
      if (row === undefined) continue;
      this.#rows.delete(keyOf(mapping));
      this.#tell({ type: "Delete", route: row.route });
    }
  }

  expire(): void {
    const expired = [...this.#rows.values()].filter(({ expiresAtMs }) => expiresAtMs <= this.#clock.now());
    this.remove(expired.map(({ route }) => route));
  }

  /** Calls `onEvent` with each change until the returned function is called. */
  follow(onEvent: (event: TcpEvent) => void): () => void {
    this.#followers.add(onEvent);
    return () => void this.#followers.delete(onEvent);
  }

  #tell(event: TcpEvent): void {
    for (const onEvent of this.#followers) onEvent(event);
  }
}

function keyOf({ router_group_guid, port, backend_ip, backend_port, backend_tls_port }: TcpMapping): string {
  return [router_group_guid, port, backend_ip, backend_port, backend_tls_port].join(" ");
}
