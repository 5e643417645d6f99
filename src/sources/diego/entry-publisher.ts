/** Carries what moved to the log: at once, one write after the other. */
import { encodeProcess } from "../../entries/entries.js";
import { KEY_SPACES } from "../../entries/keys.js";
import { Backoff } from "../../lib/backoff.js";
import type { Clock } from "../../lib/clock.js";
import { asError } from "../../lib/errors.js";
import type { KeySpaceWriter, Want } from "../../log/key-space-writer.js";
import type { Instances } from "./instances.js";

const RETRY_INITIAL_MS = 100;
const RETRY_MAX_MS = 5_000;

/** Told of a write that failed, and of the first one that works again. */
export type WriteListener = (fault: Error | undefined) => void;

export class EntryPublisher {
  readonly #writer: KeySpaceWriter;
  readonly #instances: Instances;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  readonly #onWritten: WriteListener;
  readonly #backoff = new Backoff(RETRY_INITIAL_MS, RETRY_MAX_MS);
  #moved = new Set<string>();
  #replacesAll = false;
  /** Resolved while nothing is to be written. */
  #writing: Promise<void> | undefined;

  constructor(
    writer: KeySpaceWriter,
    instances: Instances,
    clock: Clock,
    signal: AbortSignal,
    onWritten: WriteListener,
  ) {
    this.#writer = writer;
    this.#instances = instances;
    this.#clock = clock;
    this.#signal = signal;
    this.#onWritten = onWritten;
  }

  /** These processes moved. While one write is under way, the next ones gather. */
  publish(processGuids: Iterable<string>): void {
    for (const guid of processGuids) this.#moved.add(guid);
    this.#start();
  }

  /** Makes the whole key space as the instances are: entries of processes that are not known are deleted. */
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
      const moved = this.#moved;
      const replacesAll = this.#replacesAll;
      this.#moved = new Set();
      this.#replacesAll = false;
      try {
        if (replacesAll) await this.#writer.replaceAll(this.#wantsOfAll());
        await this.#writer.apply([...moved].map((guid) => this.#want(guid)));
        if (this.#backoff.attempts > 0) this.#onWritten(undefined);
        this.#backoff.reset();
      } catch (thrown) {
        for (const guid of moved) this.#moved.add(guid);
        this.#replacesAll ||= replacesAll;
        this.#onWritten(asError(thrown));
        await this.#clock.sleep(this.#backoff.next(), this.#signal);
      }
    }
  }

  #want(processGuid: string): Want {
    const entry = this.#instances.entry(processGuid);
    return { key: KEY_SPACES.diegoProcesses + processGuid, value: entry && encodeProcess(entry) };
  }

  *#wantsOfAll(): Generator<Want> {
    for (const guid of this.#instances.processGuids()) {
      const want = this.#want(guid);
      if (want.value) yield want;
    }
  }
}
