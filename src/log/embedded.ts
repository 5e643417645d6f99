/** The mesh log on one machine: an LMDB environment in a directory, which several processes may open at once. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { type Clock, systemClock } from "../lib/clock.js";
import { asError, MeshError } from "../lib/errors.js";
import { type Logger, silentLogger } from "../lib/logger.js";
import { logClosed, logConflict, logUnwritable } from "./faults.js";
import { KeyIndex } from "./key-index.js";
import { encode, LmdbStore, type StoreTransaction } from "./lmdb-store.js";
import { checkWrite, type FollowOptions, type LogBatch, type LogEntry, type MeshLog, type Write } from "./log.js";

const DAY_MS = 86_400_000;

/** How soon a follower hears of another process's write. Those of its own process reach it at once. */
const POLL_INTERVAL_MS = 15;

/** Of appends that wait, as many go into one transaction, and share one wait for the disk. */
const MAX_GROUP_WRITES = 5_000;
const MAX_GROUP_BYTES = 4 * 1_048_576;

/** Expired delete markers that one append takes along. */
const MAX_PRUNED = 1_000;

const READER_CHECK_INTERVAL_MS = 60_000;

export interface EmbeddedLogOptions {
  /** Made with mode 0700 when it is missing; holds nothing but the log. */
  readonly directory: string;
  readonly logger?: Logger;
  /** How long a deletion is told to readers who were away; those who come later read everything anew. */
  readonly deleteMarkerTtlMs?: number;
  /** Dates the delete markers. */
  readonly clock?: Pick<Clock, "now">;
}

/**
 * Opens the log, and makes it when there is none.
 *
 * Durable  what `append` acknowledged survives kill -9, and a power loss where the disk keeps what it said it synced.
 * Throws   MESH_LOG_UNAVAILABLE: the directory can't be written, holds no mesh log, or that of a newer version.
 */
export async function openEmbeddedLog(options: EmbeddedLogOptions): Promise<MeshLog> {
  // In a later turn of the event loop, so that faults come as rejections.
  await nextTurn();
  return new EmbeddedLog(options);
}

interface PendingAppend {
  readonly writes: readonly { readonly write: Write; readonly bytes: Buffer }[];
  readonly byteCount: number;
  readonly resolve: (sequence: number) => void;
  readonly reject: (error: Error) => void;
}

/** What a transaction did to the keys, for the index to follow when it is committed. */
interface Changes {
  readonly written: Map<string, LogEntry>;
  /** Keys whose delete marker was pruned. Taken after `written`: a marker may be written and pruned at once. */
  readonly pruned: string[];
}

class EmbeddedLog implements MeshLog {
  readonly #directory: string;
  readonly #logger: Logger;
  readonly #deleteMarkerTtlMs: number;
  readonly #clock: Pick<Clock, "now">;
  readonly #store: LmdbStore;
  readonly #index: KeyIndex;
  /** The index knows all writes up to this one. */
  #indexedSequence = 0;
  #pending: PendingAppend[] = [];
  /** Undefined while nothing waits to be appended. */
  #appending: Promise<void> | undefined;
  readonly #waiting = new Set<() => void>();
  #poll: NodeJS.Timeout | undefined;
  #readersCheckedMs: number;
  #closing: Promise<void> | undefined;

  constructor({
    directory,
    logger = silentLogger,
    deleteMarkerTtlMs = 7 * DAY_MS,
    clock = systemClock,
  }: EmbeddedLogOptions) {
    this.#directory = directory;
    this.#logger = logger;
    this.#deleteMarkerTtlMs = deleteMarkerTtlMs;
    this.#clock = clock;
    this.#store = new LmdbStore(directory);
    this.#index = new KeyIndex((sequence) => this.#store.at(sequence));
    this.#readersCheckedMs = clock.now();
    this.#logger.info({ directory, ...this.#store.head() }, "mesh log opened");
  }

  async append(batch: readonly Write[]): Promise<number> {
    this.#checkOpen();
    batch.forEach(checkWrite);
    // Encoded now: the caller may reuse its buffers.
    const writes = batch.map((write) => ({ write, bytes: encode(write.key, write.value) }));
    const byteCount = writes.reduce((sum, { bytes }) => sum + bytes.length, 0);
    return new Promise((resolve, reject) => {
      this.#pending.push({ writes, byteCount, resolve, reject });
      this.#appending ??= this.#appendPending();
    });
  }

  async #appendPending(): Promise<void> {
    await nextTurn();
    while (this.#pending.length > 0) {
      const indexed = await this.#catchUpIndex().catch(asError);
      const group = this.#takeGroup();
      if (indexed instanceof Error) for (const { reject } of group) reject(indexed);
      else this.#commit(group);
      await nextTurn();
    }
    this.#appending = undefined;
  }

  /** Appends that go into one transaction: at least one. */
  #takeGroup(): readonly PendingAppend[] {
    let writeCount = 0;
    let byteCount = 0;
    const end = this.#pending.findIndex((append, index) => {
      writeCount += append.writes.length;
      byteCount += append.byteCount;
      return index > 0 && (writeCount > MAX_GROUP_WRITES || byteCount > MAX_GROUP_BYTES);
    });
    return this.#pending.splice(0, end === -1 ? this.#pending.length : end);
  }

  /** Each append of the group stands or fails by its expectations; a fault of the storage fails them all. */
  #commit(group: readonly PendingAppend[]): void {
    const answers: (() => void)[] = [];
    const changes: Changes = { written: new Map(), pruned: [] };
    let lastSequence: number;
    try {
      lastSequence = this.#store.write((transaction) => {
        this.#indexRest();
        const head = this.#store.head();
        let last = head.lastSequence;
        for (const { writes, resolve, reject } of group) {
          const conflict = this.#conflictOf(writes, changes);
          if (conflict) {
            answers.push(() => reject(conflict));
            continue;
          }
          for (const { write, bytes } of writes) {
            last += 1;
            this.#write(transaction, write, bytes, last, changes);
          }
          const answer = last;
          answers.push(() => resolve(answer));
        }
        if (last > head.lastSequence) {
          const prunedThrough = this.#prune(transaction, changes) ?? head.prunedThrough;
          transaction.setHead({ lastSequence: last, prunedThrough });
        }
        return last;
      });
    } catch (thrown) {
      const error = thrown instanceof MeshError ? thrown : logUnwritable(this.#directory, asError(thrown));
      for (const { reject } of group) reject(error);
      return;
    }
    for (const [key, { sequence }] of changes.written) this.#index.set(key, sequence);
    for (const key of changes.pruned) this.#index.delete(key);
    this.#indexedSequence = lastSequence;
    for (const answer of answers) answer();
    this.#wake();
    this.#checkReaders();
  }

  #conflictOf(writes: PendingAppend["writes"], { written }: Changes): Error | undefined {
    for (const { write } of writes) {
      if (write.expectedSequence === undefined) continue;
      const entry = written.get(write.key) ?? this.#index.find(write.key);
      const sequence = entry?.sequence ?? 0;
      const isAbsent = entry?.value === undefined;
      if (write.expectedSequence === sequence || (write.expectedSequence === 0 && isAbsent)) continue;
      return logConflict(write.key, write.expectedSequence, isAbsent ? 0 : sequence);
    }
    return undefined;
  }

  #write(
    transaction: StoreTransaction,
    { key, value }: Write,
    bytes: Buffer,
    sequence: number,
    { written }: Changes,
  ): void {
    const former = written.get(key) ?? this.#index.find(key);
    if (former) transaction.remove(former);
    transaction.put(sequence, bytes);
    if (value === undefined) transaction.mark(sequence, this.#clock.now());
    written.set(key, { key, sequence, value });
  }

  /** Removes expired delete markers; returns the last one's sequence, undefined when there was none. */
  #prune(transaction: StoreTransaction, { pruned }: Changes): number | undefined {
    const expiredMs = this.#clock.now() - this.#deleteMarkerTtlMs;
    let prunedThrough: number | undefined;
    for (const { key: sequence, value: writtenMs } of transaction.oldestMarkers(MAX_PRUNED)) {
      if (writtenMs > expiredMs) break;
      const marker = this.#store.at(sequence);
      if (!marker) throw new Error(`the delete marker ${sequence} has no entry`);
      transaction.remove(marker);
      pruned.push(marker.key);
      prunedThrough = sequence;
    }
    return prunedThrough;
  }

  #checkReaders(): void {
    const nowMs = this.#clock.now();
    if (nowMs - this.#readersCheckedMs < READER_CHECK_INTERVAL_MS) return;
    this.#readersCheckedMs = nowMs;
    this.#store.forgetDeadReaders();
  }

  async get(key: string): Promise<LogEntry | undefined> {
    this.#checkOpen();
    // A log that nobody else writes is indexed already: no need to wait, nor to look twice.
    if (!this.#isIndexed()) {
      await this.#catchUpIndex();
      this.#indexRest();
    }
    const entry = this.#index.find(key);
    return entry?.value && entry;
  }

  /** Takes most of what was written since into the index, with a pause after each piece. */
  async #catchUpIndex(): Promise<void> {
    while (!this.#isIndexed() && !this.#indexNext()) await nextTurn();
  }

  #isIndexed(): boolean {
    return this.#store.head().lastSequence === this.#indexedSequence;
  }

  /** Takes all that was written up to now into the index: what it finds from here to the turn's end is current. */
  #indexRest(): void {
    while (!this.#isIndexed() && !this.#indexNext());
  }

  /** Takes the next piece into the index; true when that was all. */
  #indexNext(): boolean {
    const piece = this.#store.after(this.#indexedSequence);
    for (const { key, sequence } of piece.entries) this.#index.set(key, sequence);
    this.#indexedSequence = piece.endSequence;
    return piece.reachesEnd;
  }

  async *read(prefix = ""): AsyncGenerator<readonly LogEntry[]> {
    this.#checkOpen();
    let position = 0;
    for (;;) {
      const { entries, endSequence, reachesEnd } = this.#store.after(position);
      const current = entries.filter(({ key, value }) => value && key.startsWith(prefix));
      if (current.length > 0) yield current;
      if (reachesEnd) return;
      position = endSequence;
      await nextTurn();
    }
  }

  async *follow(
    afterSequence: number,
    signal: AbortSignal,
    { prefix = "", logId = this.#store.id }: FollowOptions = {},
  ): AsyncGenerator<LogBatch> {
    this.#checkOpen();
    let position = afterSequence;
    let isAnother = logId !== this.#store.id && position > 0;
    // Markers that were pruned before a reading from 0 began tell of keys that it did not meet.
    let missedNoneThrough = position === 0 ? this.#store.head().prunedThrough : 0;
    let hasCaughtUp = false;
    while (!signal.aborted && !this.#closing) {
      let piece = this.#store.after(position);
      const { lastSequence, prunedThrough } = piece.head;
      const fromStart =
        isAnother || lastSequence < position || (position < prunedThrough && missedNoneThrough < prunedThrough);
      if (fromStart) {
        isAnother = false;
        piece = this.#store.after(0);
        missedNoneThrough = piece.head.prunedThrough;
      }
      position = piece.endSequence;
      const entries = prefix === "" ? piece.entries : piece.entries.filter(({ key }) => key.startsWith(prefix));
      if (entries.length > 0 || fromStart || (piece.reachesEnd && !hasCaughtUp)) {
        hasCaughtUp = piece.reachesEnd || (hasCaughtUp && !fromStart);
        yield { entries, caughtUp: piece.reachesEnd, fromStart };
        await nextTurn();
      } else if (piece.reachesEnd) {
        await this.#newWrites(position, signal);
      } else {
        await nextTurn();
      }
    }
  }

  /** Resolves when there are writes after this sequence, when the signal aborts, and when the log closes. */
  async #newWrites(sequence: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted || this.#closing) return;
    await new Promise<void>((resolve) => {
      const wake = () => {
        this.#waiting.delete(wake);
        signal.removeEventListener("abort", wake);
        if (this.#waiting.size === 0) this.#stopPolling();
        resolve();
      };
      this.#waiting.add(wake);
      signal.addEventListener("abort", wake);
      this.#pollFrom(sequence);
    });
  }

  /** Writes of this process wake the followers themselves; those of others have to be looked for. */
  #pollFrom(sequence: number): void {
    this.#poll ??= setInterval(() => {
      if (this.#lastSequenceOrNone() !== sequence) this.#wake();
    }, POLL_INTERVAL_MS);
  }

  /** Undefined when it can't be read: who waits then asks for itself, and gets the error. */
  #lastSequenceOrNone(): number | undefined {
    try {
      return this.#store.head().lastSequence;
    } catch {
      return undefined;
    }
  }

  #stopPolling(): void {
    clearInterval(this.#poll);
    this.#poll = undefined;
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  async lastSequence(): Promise<number> {
    this.#checkOpen();
    const { lastSequence } = this.#store.head();
    return Promise.resolve(lastSequence);
  }

  async id(): Promise<string> {
    this.#checkOpen();
    return Promise.resolve(this.#store.id);
  }

  async close(): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async #close(): Promise<void> {
    this.#wake();
    await this.#appending;
    await this.#store.close();
    this.#logger.info({ directory: this.#directory }, "mesh log closed");
  }

  #checkOpen(): void {
    if (this.#closing) throw logClosed(this.#directory);
  }
}
