/** Pure: when Diego is asked for its opinion on routes, and when no longer. */
import type { SourceStatus } from "../sources/source.js";

export class OpinionJudge {
  readonly #afterMs: number;
  /** When the source was first seen to fail, with its last complete read then. */
  #failing: (Pick<SourceStatus, "lastSyncMs"> & { readonly sinceMs: number }) | undefined;
  #isWanted = false;

  /** @param afterMs  how long a source fails before another one is asked. */
  constructor(afterMs: number) {
    this.#afterMs = afterMs;
  }

  /**
   * To be called again and again with the status of the source that knows best.
   *
   * Returns  true once it has failed for long enough; false when it has read everything and written it, since it failed or
   *          at all: make before break. undefined while that can't be said: what was done stays.
   */
  look({ state, lastSyncMs }: SourceStatus, nowMs: number): boolean | undefined {
    if (state === "retrying") {
      this.#failing ??= { sinceMs: nowMs, lastSyncMs };
      if (nowMs - this.#failing.sinceMs >= this.#afterMs) this.#isWanted = true;
      return this.#isWanted ? true : undefined;
    }
    const hasReadSince = lastSyncMs !== undefined && (!this.#isWanted || lastSyncMs !== this.#failing?.lastSyncMs);
    if (!hasReadSince) return this.#isWanted ? true : undefined;
    this.#failing = undefined;
    this.#isWanted = false;
    return false;
  }
}
