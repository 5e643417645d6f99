import { asError } from "../../lib/errors.js";
import type { Logger } from "../../lib/logger.js";

/** How long changes are gathered, in milliseconds. */
const DELAY_MS = 50;

/** Saves what changes: changes that come close together once, and never two at a time. */
export class Saver {
  readonly #save: () => Promise<void>;
  readonly #logger: Logger;
  #timer: NodeJS.Timeout | undefined;
  #saving: Promise<void> = Promise.resolve();

  constructor(save: () => Promise<void>, logger: Logger) {
    this.#save = save;
    this.#logger = logger;
  }

  changed(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.#saveInTurn();
    }, DELAY_MS);
  }

  /** Saves at once, and for the last time. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    // Whatever comes after this is too late.
    this.#timer = setTimeout(() => undefined, 0);
    await this.#saveInTurn();
  }

  #saveInTurn(): Promise<void> {
    this.#saving = this.#saving.then(this.#save).catch((error: unknown) => {
      this.#logger.error(
        { error: asError(error).message },
        "the foundation's state could not be saved; it is tried again at the next change",
      );
    });
    return this.#saving;
  }
}
