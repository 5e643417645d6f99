/** Carries registrations to the log: what moves while one write is under way goes with the next. */
import { Backoff } from "../../lib/backoff.js";
import type { Clock } from "../../lib/clock.js";
import { asError } from "../../lib/errors.js";
import type { KeySpaceWriter, Want } from "../../log/key-space-writer.js";

const RETRY_INITIAL_MS = 100;
const RETRY_MAX_MS = 5_000;

/** Told of a write that failed, and of the first one that works again. */
export type WriteListener = (fault: Error | undefined) => void;

export class RegistrationWriter {
  readonly #writer: KeySpaceWriter;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  readonly #onWritten: WriteListener;
  readonly #backoff = new Backoff(RETRY_INITIAL_MS, RETRY_MAX_MS);
  /** By key, so that a log that is slow or away costs one value per endpoint and no more. */
  #pending = new Map<string, Want>();
  /** Resolved while nothing is to be written. */
  #writing: Promise<void> | undefined;

  constructor(writer: KeySpaceWriter, clock: Clock, signal: AbortSignal, onWritten: WriteListener) {
    this.#writer = writer;
    this.#clock = clock;
    this.#signal = signal;
    this.#onWritten = onWritten;
  }

  want(want: Want): void {
    this.#pending.set(want.key, want);
    this.#writing ??= this.#writeAll().finally(() => {
      this.#writing = undefined;
    });
  }

  /** After the signal: writes what is left, once, and resolves whether that worked or not. */
  async finish(): Promise<void> {
    await this.#writing;
    if (this.#pending.size > 0) await this.#writePending();
  }

  async #writeAll(): Promise<void> {
    // What else the same piece of the connection says goes with it.
    await Promise.resolve();
    while (!this.#signal.aborted && this.#pending.size > 0) {
      if (!(await this.#writePending())) await this.#clock.sleep(this.#backoff.next(), this.#signal);
    }
  }

  /** Returns whether it was written. */
  async #writePending(): Promise<boolean> {
    const wants = this.#pending;
    this.#pending = new Map();
    try {
      await this.#writer.apply([...wants.values()]);
    } catch (thrown) {
      // What came meanwhile is newer.
      for (const [key, want] of this.#pending) wants.set(key, want);
      this.#pending = wants;
      this.#onWritten(asError(thrown));
      return false;
    }
    if (this.#backoff.attempts > 0) this.#onWritten(undefined);
    this.#backoff.reset();
    return true;
  }
}
