/**
 * The writers of key spaces, in a process that may be one of several. Each of them remembers what its source wants, and
 * follows what the log has; the one whose process holds the lease writes the difference. So a process that takes over
 * writes at once what its predecessor did not, and a write that is nobody's is repaired.
 */
import { hash } from "node:crypto";
import { setImmediate as nextTurn } from "node:timers/promises";
import { Backoff } from "../lib/backoff.js";
import { type Clock, systemClock } from "../lib/clock.js";
import { asError, MeshError } from "../lib/errors.js";
import type { Logger } from "../lib/logger.js";
import { completionKey } from "./completion.js";
import type { KeySpaceWriter, Want, WriteCounts } from "./key-space-writer.js";
import { checkWrite, type LogBatch, type LogEntry, type MeshLog, type Write } from "./log.js";
import { type Role, WriterLease } from "./writer-lease.js";

export interface LeasedWritersOptions {
  /** The lease's name; processes that name the same are each other's standbys. */
  readonly lease: string;
  /** Of this process, no other has the same. */
  readonly holder: string;
  /** 1,500 when left out. */
  readonly ttlMs?: number;
  /** 400 when left out. */
  readonly renewIntervalMs?: number;
  readonly logger: Logger;
  readonly clock?: Clock;
}

/**
 * What a writer does while its process stands by. remember: for a source that each process reads for itself; what is
 * wanted is remembered, and written after a take-over. refuse: for what clients push to one process; its calls throw
 * MESH_LEASE_LOST, and what was wanted before is forgotten.
 */
export type OnStandby = "remember" | "refuse";

export interface LeasedWriters {
  readonly role: Role;
  /** Entries that differ from what is wanted, and are not written yet. */
  readonly pendingCount: number;
  /**
   * The writer of one of the key spaces. While the process stands by, nothing is written: calls of one that remembers
   * resolve when it does, and count what differs from the log.
   */
  writer(keySpace: string): KeySpaceWriter;
  /** Resolves when this process has that role; rejects with the signal's reason. */
  whenRole(role: Role, signal: AbortSignal): Promise<void>;
  /** Gives the lease back: what is wanted now is written first, as far as the log takes it. */
  close(): Promise<void>;
}

const TTL_MS = 1_500;
const RENEW_INTERVAL_MS = 400;
const RETRY_INITIAL_MS = 50;
const RETRY_MAX_MS = 1_000;

/** A JetStream server takes 1,000 messages as one, at most; the lease's own is one of them. */
const MAX_BATCH_WRITES = 900;
const MAX_BATCH_BYTES = 1_048_576;
const WANTS_PER_TURN = 1_000;

/** Resolves when the key spaces have been read as they stand in the log. Throws what the log's follow throws. */
export async function openLeasedWriters(
  log: MeshLog,
  keySpaces: Readonly<Record<string, OnStandby>>,
  options: LeasedWritersOptions,
): Promise<LeasedWriters> {
  const writers = new Writers(log, keySpaces, options);
  await writers.start();
  return writers;
}

class Writers implements LeasedWriters {
  readonly #log: MeshLog;
  readonly #options: LeasedWritersOptions;
  readonly #clock: Clock;
  readonly #lease: WriterLease;
  readonly #spaces: readonly Space[];
  readonly #ending = new AbortController();
  readonly #leaseEnding = new AbortController();
  readonly #waiting = new Set<() => void>();
  #following: Promise<void> = Promise.resolve();
  #leasing: Promise<void> = Promise.resolve();
  #lastFlush: Promise<unknown> = Promise.resolve();
  #repairing: Promise<void> | undefined;
  #sequence = 0;

  constructor(log: MeshLog, keySpaces: Readonly<Record<string, OnStandby>>, options: LeasedWritersOptions) {
    this.#log = log;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    const { ttlMs = TTL_MS, renewIntervalMs = RENEW_INTERVAL_MS, holder, logger } = options;
    const lease = { name: options.lease, holder, ttlMs, renewIntervalMs, logger, clock: this.#clock };
    this.#lease = new WriterLease(log, lease, (role) => this.#took(role));
    this.#spaces = Object.entries(keySpaces).map(
      ([keySpace, onStandby]) => new Space(keySpace, onStandby, () => this.#flush()),
    );
  }

  get role(): Role {
    return this.#lease.role;
  }

  get pendingCount(): number {
    return this.#spaces.reduce((sum, { dirtyCount }) => sum + dirtyCount, 0);
  }

  writer(keySpace: string): KeySpaceWriter {
    const space = this.#spaces.find((one) => one.keySpace === keySpace);
    if (!space) throw new Error(`no writer of ${keySpace} here`);
    return space;
  }

  async start(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#following = this.#follow(resolve, reject);
    });
    this.#leasing = this.#lease.run(this.#leaseEnding.signal);
  }

  async whenRole(role: Role, signal: AbortSignal): Promise<void> {
    while (this.role !== role) {
      signal.throwIfAborted();
      await new Promise<void>((resolve) => {
        const settle = () => {
          this.#waiting.delete(settle);
          signal.removeEventListener("abort", settle);
          resolve();
        };
        this.#waiting.add(settle);
        signal.addEventListener("abort", settle);
      });
    }
  }

  async close(): Promise<void> {
    this.#leaseEnding.abort();
    await this.#leasing;
    try {
      await this.#flush();
      await this.#lease.release();
    } catch (error) {
      this.#options.logger.warn(
        { lease: this.#options.lease, error: asError(error).message },
        "the lease can't be given back; it ends by itself",
      );
    }
    this.#ending.abort();
    await Promise.all([this.#following, this.#repairing]);
  }

  /** Keeps the picture of the log, for as long as this lives; after a fault it goes on where it was. */
  async #follow(onComplete: () => void, onFault: (error: Error) => void): Promise<void> {
    const { signal } = this.#ending;
    const backoff = new Backoff(RETRY_INITIAL_MS, RETRY_MAX_MS);
    let isComplete = false;
    while (!signal.aborted) {
      try {
        for await (const batch of this.#log.follow(this.#sequence, signal)) {
          this.#observe(batch);
          backoff.reset();
          if (batch.caughtUp && !isComplete) {
            isComplete = true;
            onComplete();
          }
          if (this.role === "leader" && this.pendingCount > 0) this.#repair();
        }
      } catch (error) {
        if (!isComplete) {
          onFault(asError(error));
          return;
        }
        this.#options.logger.warn(
          { lease: this.#options.lease, error: asError(error).message },
          "the mesh log can't be followed now; trying again",
        );
        await this.#clock.sleep(backoff.next(), signal);
      }
    }
  }

  #observe({ entries, fromStart, caughtUp }: LogBatch): void {
    if (fromStart) {
      this.#lease.forget();
      for (const space of this.#spaces) space.beginAnew();
    }
    for (const entry of entries) {
      if (entry.key === this.#lease.key) this.#lease.observe(entry);
      else this.#spaces.find((space) => space.owns(entry.key))?.observe(entry);
    }
    if (caughtUp) for (const space of this.#spaces) space.endAnew();
    const last = entries.at(-1);
    if (last) this.#sequence = last.sequence;
  }

  #took(role: Role): void {
    if (role === "standby") for (const space of this.#spaces) space.standBy();
    else this.#repair();
    for (const settle of [...this.#waiting]) settle();
  }

  /** Writes what differs; a log that does not take it is tried again by and by. */
  #repair(): void {
    this.#repairing ??= this.#repairAll().finally(() => {
      this.#repairing = undefined;
    });
  }

  async #repairAll(): Promise<void> {
    const backoff = new Backoff(RETRY_INITIAL_MS, RETRY_MAX_MS);
    while (this.role === "leader" && this.pendingCount > 0 && !this.#ending.signal.aborted) {
      try {
        await this.#flush();
      } catch (error) {
        this.#options.logger.debug({ error: asError(error).message }, "entries can't be written now; trying again");
        await this.#clock.sleep(backoff.next(), this.#ending.signal);
      }
    }
  }

  /**
   * Writes what differs now, while this process holds the lease.
   *
   * Returns  whether all of it is in the log.
   * Throws   what the log's append throws.
   */
  #flush(): Promise<boolean> {
    const flush = this.#lastFlush.then(async () => {
      for (;;) {
        const batch = this.#nextBatch();
        if (batch.length === 0 || this.role !== "leader") return this.role === "leader";
        const last = await this.#lease.append(batch);
        // Not written: another process took over, or the lease had to be looked at. The loop sees which.
        if (last === undefined) {
          await nextTurn();
          continue;
        }
        batch.forEach((write, place) => {
          const sequence = last - batch.length + 1 + place;
          // It may have been seen in the log before its writer heard that it is there.
          if (sequence > this.#sequence) this.#spaces.find((space) => space.owns(write.key))?.wrote(write, sequence);
        });
      }
    });
    this.#lastFlush = flush.catch(() => undefined);
    return flush;
  }

  /**
   * Values first: what replaces something is there before that goes. That a key space is complete is said when the values
   * of all are there: a reader that waits for one of them misses nothing of the others.
   */
  #nextBatch(): readonly Write[] {
    const batch: Write[] = [];
    let byteCount = 0;
    for (const kind of ["values", "completions", "deletions"] as const) {
      for (const space of this.#spaces) {
        for (const write of space.differences(kind)) {
          if (batch.length >= MAX_BATCH_WRITES || byteCount >= MAX_BATCH_BYTES) return batch;
          batch.push(write);
          byteCount += write.value?.length ?? 0;
        }
      }
    }
    return batch;
  }
}

/** 52 bits of the content's hash: one change in 4.5 * 10^15 goes unseen. */
const fingerprint = (value: Uint8Array) => parseInt(hash("sha1", value, "hex").slice(0, 13), 16);

/**
 * How many keys that are gone are remembered where a source never knows all that there is (NATS): those of the last
 * minutes of a large foundation, and no memory that grows for ever.
 */
const MAX_UNWANTED = 10_000;

/** One key space: what is wanted, what the log has, and the keys in which these differ. */
class Space implements KeySpaceWriter {
  readonly keySpace: string;
  /** Says to readers that the log has all of the key space; written with it. */
  readonly #completionKey: string;
  readonly #onStandby: OnStandby;
  readonly #flush: () => Promise<boolean>;
  /** Fingerprints of what the log has. */
  readonly #actual = new Map<string, number>();
  /** What is wanted, one byte a character; undefined for a key that is to go. */
  readonly #wanted = new Map<string, string | undefined>();
  readonly #wantedFingerprints = new Map<string, number>();
  /** Keys that are to go, the latest last. */
  readonly #unwanted = new Set<string>();
  /** Keys that differ, in the order in which they came to. */
  readonly #dirty = new Set<string>();
  /** The sequence of a key's own write, until the log is seen to be there. */
  readonly #unconfirmed = new Map<string, number>();
  /** While the log is read anew: the keys that came up. */
  #seen: Set<string> | undefined;
  /** A key that is not wanted is to go. */
  #isComplete = false;
  #lastCall: Promise<unknown> = Promise.resolve();

  constructor(keySpace: string, onStandby: OnStandby, flush: () => Promise<boolean>) {
    this.keySpace = keySpace;
    this.#completionKey = completionKey(keySpace);
    this.#onStandby = onStandby;
    this.#flush = flush;
  }

  owns(key: string): boolean {
    return key.startsWith(this.keySpace) || key === this.#completionKey;
  }

  get dirtyCount(): number {
    return this.#dirty.size;
  }

  async apply(wants: readonly Want[]): Promise<WriteCounts> {
    for (const want of wants) this.#check(want);
    return this.#inTurn(async (counter) => {
      for (const want of wants) counter.count(this.#want(want));
      await counter.settle();
    });
  }

  async replaceAll(wants: Iterable<Want> | AsyncIterable<Want>): Promise<WriteCounts> {
    return this.#inTurn(async (counter) => {
      const missing = new Set(this.keys());
      let sinceTurn = 0;
      for await (const want of wants) {
        this.#check(want);
        if (!want.value) continue;
        missing.delete(want.key);
        counter.count(this.#want(want));
        sinceTurn += 1;
        if (this.#dirty.size >= MAX_BATCH_WRITES) await counter.settle();
        if (sinceTurn % WANTS_PER_TURN === 0) await nextTurn();
      }
      for (const key of missing) counter.count(this.#want({ key, value: undefined }));
      this.#becomeComplete();
      await counter.settle();
    });
  }

  async complete(): Promise<void> {
    await this.#inTurn(async (counter) => {
      this.#want({ key: this.#completionKey, value: new Uint8Array() });
      await counter.settle();
    });
  }

  *keys(): IterableIterator<string> {
    for (const [key, packed] of this.#wanted) if (packed !== undefined && key !== this.#completionKey) yield key;
    if (this.#isComplete) return;
    for (const key of this.#actual.keys()) if (!this.#wanted.has(key) && key !== this.#completionKey) yield key;
  }

  *differences(kind: "values" | "completions" | "deletions"): Iterable<Write> {
    for (const key of this.#dirty) {
      const packed = this.#wanted.get(key);
      const own = packed === undefined ? "deletions" : key === this.#completionKey ? "completions" : "values";
      if (own !== kind) continue;
      yield { key, value: packed === undefined ? undefined : Buffer.from(packed, "latin1") };
    }
  }

  wrote({ key, value }: Write, sequence: number): void {
    this.#unconfirmed.set(key, sequence);
    this.#setActual(key, value && fingerprint(value));
  }

  observe({ key, sequence, value }: LogEntry): void {
    this.#seen?.add(key);
    const own = this.#unconfirmed.get(key);
    if (own !== undefined && sequence < own) return;
    this.#unconfirmed.delete(key);
    this.#setActual(key, value && fingerprint(value));
  }

  /** Its process does not hold the lease any more. */
  standBy(): void {
    if (this.#onStandby === "remember") return;
    this.#wanted.clear();
    this.#unwanted.clear();
    this.#wantedFingerprints.clear();
    this.#dirty.clear();
    this.#isComplete = false;
  }

  beginAnew(): void {
    this.#seen = new Set();
    this.#unconfirmed.clear();
  }

  endAnew(): void {
    const seen = this.#seen;
    if (!seen) return;
    this.#seen = undefined;
    for (const key of [...this.#actual.keys()]) if (!seen.has(key)) this.#setActual(key, undefined);
  }

  #check(want: Want): void {
    checkWrite(want);
    if (!want.key.startsWith(this.keySpace)) throw new Error(`key ${want.key} is not in key space ${this.keySpace}`);
  }

  /** Returns what the want means for the log as it is known. */
  #want({ key, value }: Want): keyof WriteCounts {
    const wanted = value && fingerprint(value);
    if (value === undefined || wanted === undefined) {
      this.#wantedFingerprints.delete(key);
      if (this.#isComplete) this.#wanted.delete(key);
      else this.#remember(key);
    } else {
      this.#unwanted.delete(key);
      this.#wantedFingerprints.set(key, wanted);
      this.#wanted.set(key, Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("latin1"));
    }
    this.#compare(key);
    if (!this.#dirty.has(key)) return "unchanged";
    return value === undefined ? "deleted" : "written";
  }

  /** That a key is to go: a log that was restored, or another writer, may bring it back. */
  #remember(key: string): void {
    this.#wanted.set(key, undefined);
    this.#unwanted.delete(key);
    this.#unwanted.add(key);
    for (const oldest of this.#unwanted) {
      if (this.#unwanted.size <= MAX_UNWANTED || this.#dirty.has(oldest)) return;
      this.#unwanted.delete(oldest);
      this.#wanted.delete(oldest);
    }
  }

  #setActual(key: string, actual: number | undefined): void {
    if (actual === undefined) this.#actual.delete(key);
    else this.#actual.set(key, actual);
    this.#compare(key);
  }

  #compare(key: string): void {
    const isKnown = this.#isComplete || this.#wanted.has(key);
    if (isKnown && this.#wantedFingerprints.get(key) !== this.#actual.get(key)) this.#dirty.add(key);
    else this.#dirty.delete(key);
  }

  #becomeComplete(): void {
    if (this.#isComplete) return;
    this.#isComplete = true;
    for (const key of this.#unwanted) this.#wanted.delete(key);
    this.#unwanted.clear();
    this.#want({ key: this.#completionKey, value: new Uint8Array() });
    for (const key of this.#actual.keys()) this.#compare(key);
  }

  async #inTurn(call: (counter: Counter) => Promise<void>): Promise<WriteCounts> {
    const counter = new Counter(async () => {
      if ((await this.#flush()) || this.#onStandby === "remember") return;
      this.standBy();
      throw leaseLost(this.keySpace);
    });
    const result = this.#lastCall.then(async () => {
      await call(counter);
      return counter.counts;
    });
    this.#lastCall = result.catch(() => undefined);
    return result;
  }
}

const leaseLost = (keySpace: string) =>
  new MeshError(
    "MESH_LEASE_LOST",
    `${keySpace}* is written by another process now: this change may be in the log in part, or not at all`,
    "send it again to the process that holds the lease",
  );

/** Of one call: what it found, and what came of it. */
class Counter {
  readonly #counts = { written: 0, deleted: 0, unchanged: 0 };
  readonly #flush: () => Promise<void>;

  constructor(flush: () => Promise<void>) {
    this.#flush = flush;
  }

  get counts(): WriteCounts {
    return this.#counts;
  }

  count(what: keyof WriteCounts): void {
    this.#counts[what] += 1;
  }

  settle(): Promise<void> {
    return this.#flush();
  }
}
