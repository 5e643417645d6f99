/** Carries registrations to the log: what moves while one write is under way goes with the next. */
import { Backoff } from "../../lib/backoff.js";
import type { Clock } from "../../lib/clock.js";
import { asError } from "../../lib/errors.js";
import type { KeySpaceWriter, Want } from "../../log/key-space-writer.js";
import type { WriteListener } from "../entry-publisher.js";

const RETRY_INITIAL_MS = 100;
const RETRY_MAX_MS = 5_000;

export class RegistrationWriter {
  readonly #writer: KeySpaceWriter;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  readonly #onWritten: WriteListener;
  readonly #backoff = new Backoff(RETRY_INITIAL_MS, RETRY_MAX_MS);
  /** By key, so that a log that is slow or away costs one value per endpoint and no more. */
  #pending = new Map<string, Want>();
  /** Of the write under way. */
  #writingCount = 0;
  /** Whether the log is to be told that the key space has all, and was. */
  #completion: "open" | "wanted" | "told" = "open";
  /** Resolved while nothing is to be written. */
  #writing: Promise<void> | undefined;

  constructor(writer: KeySpaceWriter, clock: Clock, signal: AbortSignal, onWritten: WriteListener) {
    this.#writer = writer;
    this.#clock = clock;
    this.#signal = signal;
    this.#onWritten = onWritten;
  }

  /** What the log does not have yet. */
  get waitingCount(): number {
    return this.#pending.size + this.#writingCount;
  }

  want(want: Want): void {
    this.#pending.set(want.key, want);
    this.#begin();
  }

  /** Tells the log that the key space has all that is registered, after what is wanted until now. Once is enough. */
  complete(): void {
    if (this.#completion !== "open") return;
    this.#completion = "wanted";
    this.#begin();
  }

  #begin(): void {
    this.#writing ??= this.#writeAll().finally(() => {
      this.#writing = undefined;
    });
  }

  /** After the signal: writes what is left, once, and resolves whether that worked or not. */
  async finish(): Promise<void> {
    await this.#writing;
    if (this.#hasWork) await this.#writePending();
  }

  get #hasWork(): boolean {
    return this.#pending.size > 0 || this.#completion === "wanted";
  }

  async #writeAll(): Promise<void> {
    // What else the same piece of the connection says goes with it.
    await Promise.resolve();
    while (!this.#signal.aborted && this.#hasWork) {
      if (!(await this.#writePending())) await this.#clock.sleep(this.#backoff.next(), this.#signal);
    }
  }

  /** Returns whether it was written. */
  async #writePending(): Promise<boolean> {
    const wants = this.#pending;
    this.#pending = new Map();
    this.#writingCount = wants.size;
    try {
      await this.#writer.apply([...wants.values()]);
      if (this.#completion === "wanted") {
        await this.#writer.complete();
        this.#completion = "told";
      }
    } catch (thrown) {
      // What came meanwhile is newer.
      for (const [key, want] of this.#pending) wants.set(key, want);
      this.#pending = wants;
      this.#onWritten(asError(thrown));
      return false;
    } finally {
      this.#writingCount = 0;
    }
    if (this.#backoff.attempts > 0) this.#onWritten(undefined);
    this.#backoff.reset();
    return true;
  }
}
