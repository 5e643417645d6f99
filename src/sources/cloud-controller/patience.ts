/** A full read has hundreds of requests: one that fails is asked again before the whole read is given up. */
import { Backoff } from "../../lib/backoff.js";
import type { Clock } from "../../lib/clock.js";
import { MeshError } from "../../lib/errors.js";
import { RateLimited } from "../http-faults.js";
import type { FetchList } from "./lookups.js";

export interface PatienceOptions {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly onFailed: (fault: MeshError, retryInMs: number) => void;
  /** A request that had failed succeeded. */
  readonly onWorked: () => void;
}

const MAX_ATTEMPTS = 4;
const INITIAL_BACKOFF_MS = 250;
const MAX_BACKOFF_MS = 5_000;

/** Waits as long as a rate limit says, as often as it says so; gives up on what is refused, and on the fourth failure. */
export function patiently(fetch: FetchList, { clock, signal, onFailed, onWorked }: PatienceOptions): FetchList {
  return async (path, query) => {
    const backoff = new Backoff(INITIAL_BACKOFF_MS, MAX_BACKOFF_MS);
    let failed = false;
    for (;;) {
      try {
        const page = await fetch(path, query);
        if (failed) onWorked();
        return page;
      } catch (error) {
        if (signal.aborted || !(error instanceof MeshError)) throw error;
        let pauseMs: number;
        if (error instanceof RateLimited) {
          pauseMs = Math.max(error.retryAfterMs, INITIAL_BACKOFF_MS);
        } else {
          pauseMs = backoff.next();
          if (error.code === "MESH_SOURCE_REFUSED" || backoff.attempts === MAX_ATTEMPTS) throw error;
        }
        failed = true;
        onFailed(error, pauseMs);
        await clock.sleep(pauseMs, signal);
      }
    }
  };
}
