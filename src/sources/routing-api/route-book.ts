/** The routes of the routing API as they are known: pure, time comes as an argument. */
import { decodeRegistration } from "../../entries/entries.js";
import { type ApiRoute, type ModificationTag, ttlMsOf } from "./route.js";

/** One row of the API. */
interface Known {
  /** Of its entry. */
  value: Uint8Array;
  ttlMs: number;
  /** undefined for one of an earlier run, that nothing was heard of since. */
  tag: ModificationTag | undefined;
  /** The guid that the tag had before, of a row that was made anew, until its deletion is told, too; "" for none. */
  otherGuid: string;
  /** When it was last said again, Unix time in milliseconds; undefined where no event told. */
  renewedMs: number | undefined;
}

/** What became of an event. outdated: something newer is known. kept: it is waited for. */
export type Outcome = "moved" | "same" | "outdated" | "surplus" | "kept";

export interface ListOutcome {
  /** Ids of rows whose entries changed. */
  readonly moved: ReadonlySet<string>;
  /** Rows that the list lacks, and that are gone by that. */
  readonly goneCount: number;
  /** Rows that the list lacks, and that are waited for. */
  readonly keptCount: number;
  /** Rows that were not taken, because there are too many. */
  readonly surplusCount: number;
  /** It told of a row, or of one that was said again, of which no event had told. */
  readonly hasNews: boolean;
}

/** Clocks of the API and ours, and the way that an event takes. */
const SLACK_MS = 2_000;
/** What the API allows where nobody tells it otherwise. */
const LONGEST_TTL_MS = 120_000;

/**
 * Gorouter's rules (route_fetcher/route_fetcher.go, route/pool.go), and these where they leave something open:
 *
 * - Order. An event with an older tag changes nothing. A row that is deleted and made anew has another guid, and the events
 *   of both come in any order, or after a list that has the new one: so what is deleted is the row of that guid alone.
 * - What a list lacks is gone, and so is what is deleted. The API keeps the time of its rows itself, and lists none whose
 *   time is up, so that none is kept here.
 * - An outage removes nothing. While the API was away nobody could say a route again there; so what is gone afterwards, and
 *   may be so for that reason alone, is waited for: for as long as its time to live, from the moment when the API is back.
 *   An outage of less than half of that time is none: who says a route again does so more often than that.
 */
export class RouteBook {
  readonly #known = new Map<string, Known>();
  readonly #maxCount: number;
  /** When the latest list ended. */
  #listedMs: number | undefined;
  /** The latest time that the API could not be read, and when it could again: Infinity while it can't. */
  #outage: { readonly sinceMs: number; readonly backMs: number } | undefined;

  /** @param maxCount  rows that are taken at most. */
  constructor(maxCount: number) {
    this.#maxCount = maxCount;
  }

  get count(): number {
    return this.#known.size;
  }

  ids(): Iterable<string> {
    return this.#known.keys();
  }

  /** Of a row's entry; undefined for one that is not there. */
  value(id: string): Uint8Array | undefined {
    return this.#known.get(id)?.value;
  }

  get isAway(): boolean {
    return this.#outage?.backMs === Infinity;
  }

  /** An entry that an earlier run left. */
  recall(id: string, value: Uint8Array): void {
    if (this.#known.has(id)) return;
    const ttlMs = ttlMsOf(decodeRegistration(value).staleThresholdSeconds);
    this.#known.set(id, { value, ttlMs, tag: undefined, otherGuid: "", renewedMs: undefined });
  }

  /** The API can't be read. */
  goesAway(): void {
    if (this.isAway) return;
    // Nobody knows for how long it has been so when it never could be read.
    const listedMs = this.#listedMs ?? -Infinity;
    const { sinceMs, backMs } = this.#outage ?? { sinceMs: listedMs, backMs: listedMs };
    // Back for less time than it had been away: not everybody could say all again.
    const isOneOutage = listedMs - backMs < Math.min(backMs - sinceMs, LONGEST_TTL_MS);
    this.#outage = { sinceMs: isOneOutage ? sinceMs : listedMs, backMs: Infinity };
  }

  upsert(route: ApiRoute, nowMs: number): Outcome {
    const known = this.#known.get(route.id);
    if (!known) return this.#add(route, nowMs) ? "moved" : "surplus";
    if (known.tag && isOlder(route.tag, known.tag)) return "outdated";
    if (known.tag && known.tag.guid !== route.tag.guid) known.otherGuid = known.tag.guid;
    return renew(known, route, nowMs) ? "moved" : "same";
  }

  remove({ id, tag }: ApiRoute, nowMs: number): Outcome {
    const known = this.#known.get(id);
    if (!known) return "same";
    if (known.tag && isOlder(tag, known.tag)) return "outdated";
    if (known.tag && isOther(tag, known.tag)) {
      if (tag.guid === known.otherGuid) known.otherGuid = "";
      return "outdated";
    }
    if (known.otherGuid !== "") {
      known.tag = { guid: known.otherGuid, index: 0 };
      known.otherGuid = "";
      return "same";
    }
    if (this.#isWaitedFor(known, nowMs)) return "kept";
    this.#known.delete(id);
    return "moved";
  }

  /**
   * Begins a full list. It has to be asked for after all events that were taken before, so that it is no older than they
   * are; `take` is told of each route, `keep` of a row that can't be read, and `finish` of the end: whatever did not come
   * up is missing, and the API is there.
   */
  beginList(): { take(route: ApiRoute): Outcome; keep(id: string): void; finish(nowMs: number): ListOutcome } {
    const seen = new Set<string>();
    const moved = new Set<string>();
    let surplusCount = 0;
    let hasNews = false;
    return {
      take: (route) => {
        seen.add(route.id);
        const known = this.#known.get(route.id);
        if (known) known.otherGuid = "";
        if (known?.tag && (isSame(known.tag, route.tag) || isOlder(route.tag, known.tag))) return "same";
        if (!known && !this.#add(route, undefined)) {
          surplusCount += 1;
          return "surplus";
        }
        // Without a tag nobody can tell.
        hasNews ||= route.tag.guid !== "";
        if (known && !renew(known, route, undefined)) return "same";
        moved.add(route.id);
        return "moved";
      },
      keep: (id) => void seen.add(id),
      finish: (nowMs) => {
        this.#listedMs = nowMs;
        if (this.#outage && this.isAway) this.#outage = { ...this.#outage, backMs: nowMs };
        let goneCount = 0;
        let keptCount = 0;
        for (const [id, known] of this.#known) {
          if (seen.has(id)) continue;
          if (this.#isWaitedFor(known, nowMs)) {
            keptCount += 1;
            continue;
          }
          this.#known.delete(id);
          moved.add(id);
          goneCount += 1;
        }
        return { moved, goneCount, keptCount, surplusCount, hasNews };
      },
    };
  }

  /** Returns whether there was room. */
  #add(route: ApiRoute, renewedMs: number | undefined): boolean {
    if (this.#known.size >= this.#maxCount) return false;
    const { id, tag, ttlMs } = route;
    this.#known.set(id, { value: route.encode(), ttlMs, tag, otherGuid: "", renewedMs });
    return true;
  }

  /** Whether its time may be up, for want of an API that it could be said to again, and it still may be. */
  #isWaitedFor({ ttlMs, renewedMs }: Known, nowMs: number): boolean {
    if (!this.#outage) return false;
    const { sinceMs, backMs } = this.#outage;
    const lastedMs = Math.min(backMs, nowMs) - sinceMs;
    if (nowMs >= backMs + ttlMs || lastedMs < ttlMs / 2) return false;
    return renewedMs === undefined || renewedMs + ttlMs <= nowMs + SLACK_MS;
  }
}

/** Returns whether its entry changed. */
function renew(known: Known, route: ApiRoute, nowMs: number | undefined): boolean {
  const { tag, ttlMs } = route;
  known.tag = tag;
  known.ttlMs = ttlMs;
  known.renewedMs = nowMs;
  const value = route.encode();
  if (Buffer.compare(known.value, value) === 0) return false;
  known.value = value;
  return true;
}

function isOlder(tag: ModificationTag, than: ModificationTag): boolean {
  return tag.guid !== "" && tag.guid === than.guid && tag.index < than.index;
}

function isOther(one: ModificationTag, other: ModificationTag): boolean {
  return one.guid !== "" && other.guid !== "" && one.guid !== other.guid;
}

function isSame(one: ModificationTag, other: ModificationTag): boolean {
  return one.guid !== "" && one.guid === other.guid && one.index === other.index;
}
