/** Tells of what is refused, at a bounded rate: whoever publishes nonsense must not fill the disk. */
import type { Clock } from "../lib/clock.js";
import type { Logger } from "../lib/logger.js";

const PAUSE_MS = 60_000;
const MAX_SHOWN = 120;

export class Refusals {
  readonly #what: string;
  readonly #logger: Logger;
  readonly #clock: Clock;
  #nextMs = 0;
  #untold = 0;

  /** @param what  is refused, for the log: "a registration over NATS". */
  constructor(what: string, logger: Logger, clock: Clock) {
    this.#what = what;
    this.#logger = logger;
    this.#clock = clock;
  }

  /** Logs the reason, or counts it for the next line when there was one within the last minute. */
  refuse(subject: string, reason: string): void {
    const nowMs = this.#clock.now();
    if (nowMs < this.#nextMs) {
      this.#untold += 1;
      return;
    }
    this.#logger.warn(
      { subject, reason: reason.slice(0, MAX_SHOWN), untold: this.#untold },
      `${this.#what} is refused; others go on. This is told once a minute at most`,
    );
    this.#nextMs = nowMs + PAUSE_MS;
    this.#untold = 0;
  }
}
