import { asError } from "../../lib/errors.js";
import type { Logger } from "../../lib/logger.js";

/** How long changes are gathered at least, in milliseconds. */
const LEAST_DELAY_MS = 50;
/** A save holds everything else up while it makes its text: so many times as long as it took is between two. */
const REST = 20;

/** Saves what changes: changes that come close together once, never two at a time, and large states more rarely. */
export class Saver {
  readonly #save: () => Promise<void>;
  readonly #logger: Logger;
  #timer: NodeJS.Timeout | undefined;
  #delayMs = LEAST_DELAY_MS;
  #saving: Promise<void> = Promise.resolve();

  constructor(save: () => Promise<void>, logger: Logger) {
    this.#save = save;
    this.#logger = logger;
  }

  changed(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.#saveInTurn();
    }, this.#delayMs);
  }

  /** Saves at once, and for the last time. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    // Whatever comes after this is too late.
    this.#timer = setTimeout(() => undefined, 0);
    await this.#saveInTurn();
  }

  #saveInTurn(): Promise<void> {
    this.#saving = this.#saving
      .then(() => this.#timedSave())
      .catch((error: unknown) => {
        this.#logger.error(
          { error: asError(error).message },
          "the foundation's state could not be saved; it is tried again at the next change",
        );
      });
    return this.#saving;
  }

  async #timedSave(): Promise<void> {
    const startedMs = performance.now();
    await this.#save();
    this.#delayMs = Math.max(LEAST_DELAY_MS, REST * (performance.now() - startedMs));
  }
}
