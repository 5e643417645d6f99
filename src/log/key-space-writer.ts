import { hash } from "node:crypto";
import { setImmediate as nextTurn } from "node:timers/promises";
import { checkWrite, type MeshLog, type Write } from "./log.js";

/** A wanted value of a key; undefined wants it gone. */
export interface Want {
  readonly key: string;
  readonly value: Uint8Array | undefined;
}

export interface WriteCounts {
  readonly written: number;
  readonly deleted: number;
  readonly unchanged: number;
}

/**
 * The one writer of a key space. Knows what stands in the log, and writes the differences only. Calls wait for each
 * other; what they write is in the log, durable, when they resolve.
 *
 * Throws   what the log's append throws: the parts written before stand, and a later call writes what is missing.
 *          A plain Error for a key outside of the key space, or a write that no log takes (checkWrite).
 */
export interface KeySpaceWriter {
  readonly keySpace: string;
  /** Makes these keys so, values first, and leaves the others as they are. Refuses all of it for one bad key. */
  apply(wants: readonly Want[]): Promise<WriteCounts>;
  /**
   * Makes the whole key space so: keys that do not come up are deleted, after all others are written. When `wants`
   * throws, nothing is deleted.
   */
  replaceAll(wants: Iterable<Want> | AsyncIterable<Want>): Promise<WriteCounts>;
  /**
   * Says that the key space has all that the source has, as replaceAll does, and leaves every key as it is: for a source
   * that is told of one thing at a time, and knows when it was told of all.
   */
  complete(): Promise<void>;
  /** The keys that have a value now. */
  keys(): IterableIterator<string>;
}

/** A JetStream server takes 1,000 messages as one, at most; some room is left for those that guard the batch. */
const MAX_BATCH_WRITES = 900;
const MAX_BATCH_BYTES = 1_048_576;

/** After so many wants, others get their turn: a million keys without a difference must not hold them up. */
const WANTS_PER_TURN = 1_000;

/**
 * Reads the key space once, so that a restart with nothing new writes nothing.
 *
 * Throws   what the log's read throws; a plain Error when the key space does not end with a dot.
 */
export async function openKeySpaceWriter(log: MeshLog, keySpace: string): Promise<KeySpaceWriter> {
  if (!keySpace.endsWith(".")) throw new Error(`key space ${keySpace}: it has to end with a dot`);
  const fingerprints = new Map<string, number>();
  for await (const entries of log.read(keySpace)) {
    for (const { key, value } of entries) if (value) fingerprints.set(key, fingerprint(value));
  }
  return new LogKeySpaceWriter(log, keySpace, fingerprints);
}

/** 52 bits of the content's hash: one change in 4.5 * 10^15 goes unseen. A number, as the map holds those best. */
function fingerprint(value: Uint8Array): number {
  return parseInt(hash("sha1", value, "hex").slice(0, 13), 16);
}

class LogKeySpaceWriter implements KeySpaceWriter {
  readonly keySpace: string;
  readonly #log: MeshLog;
  /** Of each key's value, as it stands in the log. */
  readonly #fingerprints: Map<string, number>;
  /** Keys of a batch whose append failed. It should have written nothing, but a connection may break after the write. */
  readonly #doubtful = new Set<string>();
  #lastCall: Promise<unknown> = Promise.resolve();

  constructor(log: MeshLog, keySpace: string, fingerprints: Map<string, number>) {
    this.#log = log;
    this.keySpace = keySpace;
    this.#fingerprints = fingerprints;
  }

  async apply(wants: readonly Want[]): Promise<WriteCounts> {
    for (const want of wants) this.#check(want);
    // What replaces something is there before that goes, also when the change takes several batches.
    const latest = [...new Map(wants.map((want) => [want.key, want])).values()];
    const newBeforeGone = [...latest.filter(({ value }) => value), ...latest.filter(({ value }) => !value)];
    return this.#inTurn(async (batch) => {
      for (const want of newBeforeGone) {
        batch.add(want);
        if (batch.isDue) await batch.proceed();
      }
    });
  }

  async replaceAll(wants: Iterable<Want> | AsyncIterable<Want>): Promise<WriteCounts> {
    return this.#inTurn(async (batch) => {
      const missing = new Set(this.#fingerprints.keys());
      for await (const want of wants) {
        this.#check(want);
        if (!want.value) continue;
        missing.delete(want.key);
        batch.add(want);
        if (batch.isDue) await batch.proceed();
      }
      await batch.flush();
      for (const key of missing) {
        batch.add({ key, value: undefined });
        if (batch.isDue) await batch.proceed();
      }
    });
  }

  /** Nothing is to be said in a log of one machine: it is never made anew under those who read it. */
  complete(): Promise<void> {
    return Promise.resolve();
  }

  keys(): IterableIterator<string> {
    return this.#fingerprints.keys();
  }

  #check(want: Want): void {
    checkWrite(want);
    if (!want.key.startsWith(this.keySpace)) throw new Error(`key ${want.key} is not in key space ${this.keySpace}`);
  }

  /** Runs the call after those before it, whatever became of them. */
  async #inTurn(call: (batch: DifferenceBatch) => Promise<void>): Promise<WriteCounts> {
    const result = this.#lastCall.then(async () => {
      await this.#settleDoubts();
      const batch = new DifferenceBatch(this.#fingerprints, (writes) => this.#append(writes));
      await call(batch);
      await batch.flush();
      return batch.counts;
    });
    this.#lastCall = result.catch(() => undefined);
    return result;
  }

  async #append(writes: readonly Write[]): Promise<void> {
    try {
      await this.#log.append(writes);
    } catch (error) {
      for (const { key } of writes) this.#doubtful.add(key);
      throw error;
    }
  }

  async #settleDoubts(): Promise<void> {
    for (const key of this.#doubtful) {
      const entry = await this.#log.get(key);
      if (entry?.value) this.#fingerprints.set(key, fingerprint(entry.value));
      else this.#fingerprints.delete(key);
      this.#doubtful.delete(key);
    }
  }
}

/** Gathers the wants that differ from the log, and appends them piece by piece. */
class DifferenceBatch {
  readonly #fingerprints: Map<string, number>;
  readonly #append: (writes: readonly Write[]) => Promise<void>;
  /** With the fingerprint of its value, if it has one. */
  readonly #pending = new Map<string, { readonly want: Want; readonly fingerprint: number | undefined }>();
  #pendingBytes = 0;
  #sinceTurn = 0;
  #written = 0;
  #deleted = 0;
  #unchanged = 0;

  constructor(fingerprints: Map<string, number>, append: (writes: readonly Write[]) => Promise<void>) {
    this.#fingerprints = fingerprints;
    this.#append = append;
  }

  get counts(): WriteCounts {
    return { written: this.#written, deleted: this.#deleted, unchanged: this.#unchanged };
  }

  /** Of two wants of one key, the later one counts. */
  add(want: Want): void {
    const wanted = want.value && fingerprint(want.value);
    this.#sinceTurn += 1;
    this.#pending.delete(want.key);
    if (wanted === this.#fingerprints.get(want.key)) {
      this.#unchanged += 1;
    } else {
      this.#pending.set(want.key, { want, fingerprint: wanted });
      this.#pendingBytes += want.value?.length ?? 0;
    }
  }

  get #isFull(): boolean {
    return this.#pending.size >= MAX_BATCH_WRITES || this.#pendingBytes >= MAX_BATCH_BYTES;
  }

  /** True when `proceed` has to come before the next want. */
  get isDue(): boolean {
    return this.#isFull || this.#sinceTurn >= WANTS_PER_TURN;
  }

  async proceed(): Promise<void> {
    this.#sinceTurn = 0;
    await (this.#isFull ? this.flush() : nextTurn());
  }

  async flush(): Promise<void> {
    if (this.#pending.size === 0) return;
    await this.#append([...this.#pending.values()].map(({ want: { key, value } }) => ({ key, value })));
    for (const [key, { fingerprint: written }] of this.#pending) {
      if (written === undefined) {
        this.#fingerprints.delete(key);
        this.#deleted += 1;
      } else {
        this.#fingerprints.set(key, written);
        this.#written += 1;
      }
    }
    this.#pending.clear();
    this.#pendingBytes = 0;
  }
}
