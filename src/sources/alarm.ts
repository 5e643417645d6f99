import type { Clock } from "../lib/clock.js";

/** A sleep that others can end early; a wake-up that finds no sleeper ends the next sleep at once. */
export class Alarm {
  readonly #clock: Clock;
  #rung = false;
  #sleeper: AbortController | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  wake(): void {
    this.#rung = true;
    this.#sleeper?.abort();
  }

  /** Returns whether it was woken. */
  async sleep(durationMs: number): Promise<boolean> {
    if (!this.#rung && durationMs > 0) {
      this.#sleeper = new AbortController();
      await this.#clock.sleep(durationMs, this.#sleeper.signal);
      this.#sleeper = undefined;
    }
    const woken = this.#rung;
    this.#rung = false;
    return woken;
  }
}
