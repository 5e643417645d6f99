/** The Cloud Controller's time, as the Date headers of its answers tell. */
import type { Clock } from "../../lib/clock.js";

/** Machines that stand in for each other, and whole seconds, differ by less. */
const LEAP_MS = 10_000;
/** A clock that leapt ahead and stays there was set. */
const LEAP_BELIEVED_AFTER_MS = 60_000;

/**
 * Reads of what is new begin at this time, so one that is too early costs a few rows, and one that is too late misses
 * changes. So a time that goes back is believed at once, and one that leaps ahead of our own clock's pace only when all
 * answers of a minute told it.
 */
export class ServerClock {
  readonly #clock: Clock;
  #latestMs: number | undefined;
  /** Between the server's time and ours, when it was believed last. */
  #aheadMs = Infinity;
  #leaptAtMs: number | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The latest time that was believed, Unix ms; undefined before the first. */
  get latestMs(): number | undefined {
    return this.#latestMs;
  }

  /** @param dateMs  of an answer, Unix ms */
  saw(dateMs: number): void {
    const nowMs = this.#clock.now();
    const aheadMs = dateMs - nowMs;
    if (aheadMs > this.#aheadMs + LEAP_MS) {
      this.#leaptAtMs ??= nowMs;
      if (nowMs - this.#leaptAtMs < LEAP_BELIEVED_AFTER_MS) return;
    }
    this.#leaptAtMs = undefined;
    this.#aheadMs = aheadMs;
    this.#latestMs = dateMs;
  }
}
