/** Carries what moved to the log: at once, one write after the other. */
import { Backoff } from "../lib/backoff.js";
import type { Clock } from "../lib/clock.js";
import { asError } from "../lib/errors.js";
import type { KeySpaceWriter, Want } from "../log/key-space-writer.js";

const RETRY_INITIAL_MS = 100;
const RETRY_MAX_MS = 5_000;

/** What the key space is to hold, asked for when it is written. */
export interface Entries {
  /** Of one subject (a process, a host and path); without a value where it has no entry. */
  want(subject: string): Want;
  /** Of all subjects that have an entry. */
  wants(): Iterable<Want>;
}

/** Told of a write that failed, and of the first one that works again. */
export type WriteListener = (fault: Error | undefined) => void;

export class EntryPublisher {
  readonly #writer: KeySpaceWriter;
  readonly #entries: Entries;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  readonly #onWritten: WriteListener;
  readonly #backoff = new Backoff(RETRY_INITIAL_MS, RETRY_MAX_MS);
  #moved = new Set<string>();
  #replacesAll = false;
  /** Subjects of the write that is under way. */
  #writingCount = 0;
  /** Resolved while nothing is to be written. */
  #writing: Promise<void> | undefined;

  constructor(writer: KeySpaceWriter, entries: Entries, clock: Clock, signal: AbortSignal, onWritten: WriteListener) {
    this.#writer = writer;
    this.#entries = entries;
    this.#clock = clock;
    this.#signal = signal;
    this.#onWritten = onWritten;
  }

  /** Subjects that moved, and are not written yet. */
  get waitingCount(): number {
    return this.#moved.size + this.#writingCount;
  }

  /** These subjects moved. While one write is under way, the next ones gather. */
  publish(subjects: Iterable<string>): void {
    for (const subject of subjects) this.#moved.add(subject);
    this.#start();
  }

  /** Makes the whole key space so: entries of subjects that do not come up are deleted. */
  publishAll(): void {
    this.#replacesAll = true;
    this.#start();
  }

  /** Resolves when no write is under way. */
  async idle(): Promise<void> {
    await this.#writing;
  }

  #start(): void {
    if (this.#moved.size === 0 && !this.#replacesAll) return;
    this.#writing ??= this.#writeAll().finally(() => {
      this.#writing = undefined;
    });
  }

  async #writeAll(): Promise<void> {
    while (!this.#signal.aborted && (this.#replacesAll || this.#moved.size > 0)) {
      if (!(await this.#write())) await this.#clock.sleep(this.#backoff.next(), this.#signal);
    }
  }

  /** Returns whether it was written. */
  async #write(): Promise<boolean> {
    const moved = this.#moved;
    const replacesAll = this.#replacesAll;
    this.#moved = new Set();
    this.#replacesAll = false;
    this.#writingCount = moved.size;
    try {
      if (replacesAll) await this.#writer.replaceAll(this.#entries.wants());
      await this.#writer.apply([...moved].map((subject) => this.#entries.want(subject)));
    } catch (thrown) {
      for (const subject of moved) this.#moved.add(subject);
      this.#replacesAll ||= replacesAll;
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
