/** Pauses between attempts: doubling from `initialMs` up to `maxMs`, each shortened at random by up to half. */
export class Backoff {
  readonly #initialMs: number;
  readonly #maxMs: number;
  readonly #random: () => number;
  #attempts = 0;

  constructor(initialMs: number, maxMs: number, random: () => number = Math.random) {
    this.#initialMs = initialMs;
    this.#maxMs = maxMs;
    this.#random = random;
  }

  /** Attempts that failed since the last success. */
  get attempts(): number {
    return this.#attempts;
  }

  /** Counts a failure; returns the pause before the next attempt, in milliseconds. */
  next(): number {
    const full = Math.min(this.#maxMs, this.#initialMs * 2 ** this.#attempts);
    this.#attempts += 1;
    // Many that fail together must not come back together.
    return Math.round(full * (1 - this.#random() / 2));
  }

  reset(): void {
    this.#attempts = 0;
  }
}
