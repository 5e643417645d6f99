import { setTimeout as delay } from "node:timers/promises";

/** Time as an argument, so that tests can turn it by hand. */
export interface Clock {
  /** Unix time in milliseconds. */
  now(): number;
  /** Resolves after `durationMs`, or at once when the signal aborts: callers look at the signal. */
  sleep(durationMs: number, signal: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  async sleep(durationMs, signal) {
    await delay(durationMs, undefined, { signal }).catch(() => undefined);
  },
};
