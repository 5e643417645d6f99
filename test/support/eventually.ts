import { setTimeout as delay } from "node:timers/promises";

const PAUSE_MS = 20;

/** Resolves with what `look` returns once it returns something; rejects with its last error when time is up. */
export async function eventually<T>(look: () => Promise<T> | T, timeoutMs = 20_000): Promise<NonNullable<T>> {
  const deadlineMs = Date.now() + timeoutMs;
  for (;;) {
    try {
      const seen = await look();
      if (seen !== undefined && seen !== null && seen !== false) return seen;
      if (Date.now() > deadlineMs) throw new Error(`not seen within ${timeoutMs} ms`);
    } catch (error) {
      if (Date.now() > deadlineMs) throw error;
    }
    await delay(PAUSE_MS);
  }
}
