/** How often the Cloud Controller may be asked, and how often it was. */
import type { Clock } from "../../lib/clock.js";
import type { RateLimit } from "../http.js";
import type { RequestUsage } from "../source.js";

export interface BudgetOptions {
  /** On average while nothing changes, full reads included. */
  readonly requestsPerSecond: number;
  /** At least, from the end of one full read to the start of the next. */
  readonly resyncIntervalMs: number;
  readonly clock: Clock;
}

const MINUTE_S = 60;
/** Full reads of a large foundation become rarer before they take more than this part of the budget. */
const FULL_READ_SHARE = 0.25;
/**
 * So many times the budget may be spent, over a minute, on what others saw change. A change takes two to four requests,
 * and those that come together share them: with the default, 150 to 300 a minute are read at once, one by one.
 */
const HINTS_SHARE = 5;
/** The part of a rate limit that is left alone: for what is asked in between, and for what `remaining` doesn't say. */
const HEADROOM = 0.1;
/** However little a rate limit leaves, changes are looked for. */
const MIN_LOOKS_PER_SECOND = 0.1;

export class RequestBudget {
  readonly #options: BudgetOptions;
  /** Requests by second, of the last minute. */
  readonly #sent = new Map<number, number>();
  #fullReadCount = 0;
  #limit: (Omit<RateLimit, "resetsInMs"> & { readonly resetsAtMs: number }) | undefined;

  constructor(options: BudgetOptions) {
    this.#options = options;
  }

  get usage(): RequestUsage {
    const limit = this.#currentLimit;
    return { lastMinute: this.#lastMinute, rateLimit: limit?.limit, rateLimitRemaining: limit?.remaining };
  }

  /** A request goes out. */
  sent(): void {
    const second = this.#second;
    this.#sent.set(second, (this.#sent.get(second) ?? 0) + 1);
    for (const old of this.#sent.keys()) if (old <= second - MINUTE_S) this.#sent.delete(old);
  }

  /** What an answer said of the limit; undefined: nothing. */
  limited(limit: RateLimit | undefined): void {
    this.#limit = limit && { ...limit, resetsAtMs: this.#options.clock.now() + limit.resetsInMs };
  }

  /** How many requests a full read took. */
  fullReadTook(requestCount: number): void {
    this.#fullReadCount = requestCount;
  }

  /** Milliseconds to the next full read. */
  get fullReadPauseMs(): number {
    const { requestsPerSecond, resyncIntervalMs, clock } = this.#options;
    const pauseMs = Math.max(resyncIntervalMs, (this.#fullReadCount * 1000) / (requestsPerSecond * FULL_READ_SHARE));
    const limit = this.#currentLimit;
    if (limit === undefined || usable(limit) >= this.#fullReadCount) return pauseMs;
    return Math.max(pauseMs, limit.resetsAtMs - clock.now());
  }

  /** Looks for changes that fit in beside the full reads. */
  get looksPerSecond(): number {
    const { requestsPerSecond, clock } = this.#options;
    const own = requestsPerSecond - (this.#fullReadCount * 1000) / this.fullReadPauseMs;
    const limit = this.#currentLimit;
    if (limit === undefined) return own;
    const allowed = (usable(limit) * 1000) / (limit.resetsAtMs - clock.now());
    return Math.max(Math.min(MIN_LOOKS_PER_SECOND, own), Math.min(own, allowed));
  }

  /** What changes cost comes on top of the budget; those beyond it wait for the next look. */
  get mayFollowHints(): boolean {
    const limit = this.#currentLimit;
    if (limit !== undefined && usable(limit) === 0) return false;
    return this.#lastMinute < (1 + HINTS_SHARE) * MINUTE_S * this.#options.requestsPerSecond;
  }

  get #lastMinute(): number {
    const oldest = this.#second - MINUTE_S;
    let count = 0;
    for (const [second, requests] of this.#sent) if (second > oldest) count += requests;
    return count;
  }

  get #currentLimit() {
    return this.#limit && this.#limit.resetsAtMs > this.#options.clock.now() ? this.#limit : undefined;
  }

  get #second(): number {
    return Math.floor(this.#options.clock.now() / 1000);
  }
}

function usable({ limit, remaining }: Pick<RateLimit, "limit" | "remaining">): number {
  return Math.max(0, remaining - limit * HEADROOM);
}
