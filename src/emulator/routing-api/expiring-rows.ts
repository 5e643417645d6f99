import { randomUUID } from "node:crypto";
import type { Clock } from "../../lib/clock.js";

/** What clients say of a route: they have to say it again before its time is up. */
export interface Said {
  /** Seconds until it is dropped unless it is said again; left out: 120. */
  readonly ttl?: number;
}

/** As it is stored: newer is what has another guid, or the same guid and a larger index. */
export type Stored<T extends Said> = T & {
  readonly ttl: number;
  readonly modification_tag: { readonly guid: string; readonly index: number };
};

export interface RowEvent<T extends Said> {
  readonly type: "Upsert" | "Delete";
  readonly route: Stored<T>;
}

interface Row<T extends Said> {
  readonly route: Stored<T>;
  /** Unix time in milliseconds. */
  readonly expiresAtMs: number;
}

export const MAX_TTL_SECONDS = 120;

/** The rows of one kind of route. One that is not said again in time is dropped by the next `expire`. */
export class ExpiringRows<T extends Said> {
  readonly #rows = new Map<string, Row<T>>();
  readonly #followers = new Set<(event: RowEvent<T>) => void>();
  readonly #clock: Clock;
  readonly #keyOf: (said: T) => string;
  readonly #updated: (before: T, said: T) => T;

  /** @param updated  what becomes of a row that is said again. */
  constructor(clock: Clock, keyOf: (said: T) => string, updated: (before: T, said: T) => T = (_, said) => said) {
    this.#clock = clock;
    this.#keyOf = keyOf;
    this.#updated = updated;
  }

  all(): readonly Stored<T>[] {
    this.expire();
    return [...this.#rows.values()].map(({ route }) => route);
  }

  /** Tells each as an event, also one that is only said again: routers count its time from there. */
  upsert(rows: readonly T[]): void {
    for (const said of rows) {
      const key = this.#keyOf(said);
      const before = this.#rows.get(key)?.route;
      const tag = before?.modification_tag;
      const modification_tag = tag ? { ...tag, index: tag.index + 1 } : { guid: randomUUID(), index: 0 };
      const ttl = said.ttl ?? MAX_TTL_SECONDS;
      const route: Stored<T> = { ...(before ? this.#updated(before, said) : said), ttl, modification_tag };
      this.#rows.set(key, { route, expiresAtMs: this.#clock.now() + ttl * 1_000 });
      this.#tell({ type: "Upsert", route });
    }
  }

  /** What is not there is left in peace. */
  remove(rows: readonly T[]): void {
    for (const said of rows) {
      const key = this.#keyOf(said);
      const row = this.#rows.get(key);
      if (row === undefined) continue;
      this.#rows.delete(key);
      this.#tell({ type: "Delete", route: row.route });
    }
  }

  expire(): void {
    const expired = [...this.#rows.values()].filter(({ expiresAtMs }) => expiresAtMs <= this.#clock.now());
    this.remove(expired.map(({ route }) => route));
  }

  /** Calls `onEvent` with each change until the returned function is called. */
  follow(onEvent: (event: RowEvent<T>) => void): () => void {
    this.#followers.add(onEvent);
    return () => void this.#followers.delete(onEvent);
  }

  #tell(event: RowEvent<T>): void {
    for (const onEvent of this.#followers) onEvent(event);
  }
}
