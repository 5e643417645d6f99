/** How the source fares, from how each of its activities fares; the log hears of changes, not of attempts. */
import type { MeshError } from "../../lib/errors.js";
import type { Logger } from "../../lib/logger.js";
import type { SourceStatus } from "../source.js";

export type Activity = "full read" | "changes";

export class StatusBoard {
  readonly #logger: Logger;
  readonly #faults = new Map<Activity, MeshError>();
  #lastSyncMs: number | undefined;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  get status(): SourceStatus {
    const [fault] = this.#faults.values();
    const healthy = this.#lastSyncMs === undefined ? "starting" : "following";
    return {
      state: fault ? "retrying" : healthy,
      lastSyncMs: this.#lastSyncMs,
      lastError: fault?.message,
    };
  }

  /** Unix ms of a complete read that was written. */
  synced(nowMs: number): void {
    this.#lastSyncMs = nowMs;
  }

  failed(activity: Activity, fault: MeshError, retryInMs: number): void {
    const told = [...this.#faults.values()].some(({ code }) => code === fault.code);
    this.#faults.set(activity, fault);
    if (!told) this.#logger.warn({ activity, code: fault.code, retryInMs: Math.round(retryInMs) }, fault.message);
  }

  worked(activity: Activity): void {
    if (this.#faults.delete(activity) && this.#faults.size === 0) {
      this.#logger.info({ activity }, "the Cloud Controller can be read again");
    }
  }
}
