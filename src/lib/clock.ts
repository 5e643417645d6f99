import { setTimeout as delay } from "node:timers/promises";

/** Time as an argument, so that tests can turn it by hand. */
export interface Clock {
  /** Unix time in milliseconds; it never goes back. */
  now(): number;
  /** Resolves after `durationMs`, or at once when the signal aborts: callers look at the signal. */
  sleep(durationMs: number, signal: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  // The wall's time when the process began, and from then on at the pace of a clock that nobody sets: a leap of the
  // machine's clock makes nothing due, and nothing wait.
  now: () => Math.trunc(performance.timeOrigin + performance.now()),
  async sleep(durationMs, signal) {
    await delay(durationMs, undefined, { signal }).catch(() => undefined);
  },
};
