/**
 * The mesh log's file: how entries lie in an LMDB environment, and single steps on it. All calls are synchronous.
 *
 * Databases  entries: sequence -> entry as bytes (below), one per key: the key's last write.
 *            markers: sequence -> Unix time in milliseconds, of the entries that are delete markers.
 *            head: one record, `Head`, the format's number and the log's id.
 */
import { randomUUID } from "node:crypto";
import { type Database, open, type RootDatabase } from "lmdb";
import { asError, MeshError } from "../lib/errors.js";
import { logClosed, logForeign, logUnopened, logUnreadable } from "./faults.js";
import { prepareDirectory } from "./lmdb-file.js";
import type { LogEntry } from "./log.js";

export interface Head {
  /** The sequence of the newest write; 0 for an empty log. */
  readonly lastSequence: number;
  /** The newest delete marker that was pruned: a reader that stopped before it may have missed it. */
  readonly prunedThrough: number;
}

/** Entries after a position, as of one moment. */
export interface Piece {
  readonly entries: readonly LogEntry[];
  readonly head: Head;
  /** True when there is nothing beyond them. */
  readonly reachesEnd: boolean;
  /** Where to go on: their last sequence; the log's when they reach its end. */
  readonly endSequence: number;
}

const FORMAT = 1;
const HEAD_KEY = "head";
const DATABASES = ["entries", "markers", "head"] as const;

/**
 * Address space, not disk. LMDB doubles the map as the file outgrows it, but remapping under readers is the one
 * delicate step that it has: better never.
 */
const MAP_BYTES = 64 * 2 ** 30;

const MAX_PIECE_ENTRIES = 5_000;
const MAX_PIECE_BYTES = 1_048_576;

export class LmdbStore {
  readonly #directory: string;
  readonly #root: RootDatabase;
  readonly #entries: Database<Buffer, number>;
  readonly #markers: Database<number, number>;
  readonly #head: Database<Head & { readonly format: number; readonly id?: string }, string>;
  /** Random, from the log's first opening on. */
  readonly id: string;
  #isClosed = false;

  /** Throws MESH_LOG_UNAVAILABLE. */
  constructor(directory: string) {
    this.#directory = directory;
    this.#root = openEnvironment(directory);
    try {
      const names = [...this.#root.getKeys()].map(String);
      const others = names.filter((name) => !(DATABASES as readonly string[]).includes(name));
      if (others.length > 0) throw logForeign(directory, `another program's LMDB data is there (${others.join(", ")})`);
      this.#entries = this.#root.openDB(DATABASES[0], { encoding: "binary" });
      this.#markers = this.#root.openDB(DATABASES[1], { encoding: "json" });
      this.#head = this.#root.openDB(DATABASES[2], { encoding: "json" });
      this.#checkFormat();
      this.id = this.#head.get(HEAD_KEY)?.id ?? this.#begin();
    } catch (thrown) {
      void this.#root.close();
      throw thrown instanceof MeshError ? thrown : logUnopened(directory, asError(thrown));
    }
  }

  #checkFormat(): void {
    const format = this.#head.get(HEAD_KEY)?.format ?? FORMAT;
    if (format !== FORMAT) {
      throw logForeign(this.#directory, `it has format ${format}, and this version of cf-mesh knows ${FORMAT} only`);
    }
  }

  /** Gives the log its id, unless another process just did. */
  #begin(): string {
    return this.#root.transactionSync(() => {
      const head = this.#head.get(HEAD_KEY);
      const id = head?.id ?? randomUUID();
      this.#head.putSync(HEAD_KEY, { format: FORMAT, lastSequence: 0, prunedThrough: 0, ...head, id });
      return id;
    });
  }

  /** As other processes left it now. Throws MESH_LOG_UNAVAILABLE, as all reads here. */
  head(): Head {
    return this.#reading(() => {
      this.#renew();
      return this.#readHead();
    });
  }

  /** The next entries after a sequence, of 5,000 and about 1 MB at most, but one at least. */
  after(sequence: number): Piece {
    return this.#reading(() => {
      this.#renew();
      const entries: LogEntry[] = [];
      let bytes = 0;
      let reachesEnd = true;
      for (const { key, value } of this.#entries.getRange({ start: sequence + 1 })) {
        if (entries.length === MAX_PIECE_ENTRIES || bytes >= MAX_PIECE_BYTES) {
          reachesEnd = false;
          break;
        }
        entries.push(decode(key, value));
        bytes += value.length;
      }
      const head = this.#readHead();
      const last = entries.at(-1);
      return { entries, head, reachesEnd, endSequence: reachesEnd || !last ? head.lastSequence : last.sequence };
    });
  }

  /** The entry with this sequence; undefined when it was replaced since, or its marker was pruned. */
  at(sequence: number): LogEntry | undefined {
    return this.#reading(() => {
      const bytes = this.#entries.get(sequence);
      return bytes && decode(sequence, bytes);
    });
  }

  /** Runs `steps` as one transaction: all of it is on disk when this returns. Throws what they throw, or LMDB's error. */
  write<T>(steps: (transaction: StoreTransaction) => T): T {
    return this.#root.transactionSync(() =>
      steps({
        put: (sequence, bytes) => this.#put(this.#entries, sequence, bytes),
        mark: (sequence, timeMs) => this.#put(this.#markers, sequence, timeMs),
        remove: ({ sequence, value }) => {
          this.#entries.removeSync(sequence);
          if (value === undefined) this.#markers.removeSync(sequence);
        },
        oldestMarkers: (limit) => [...this.#markers.getRange({ limit })],
        setHead: (head) => {
          this.#head.putSync(HEAD_KEY, { format: FORMAT, id: this.id, ...head });
        },
      }),
    );
  }

  #put<V>(database: Database<V, number>, sequence: number, value: V): void {
    // Sequences grow: told so, LMDB fills its pages instead of splitting them.
    database.putSync(sequence, value, { append: true });
  }

  #readHead(): Head {
    return this.#head.get(HEAD_KEY) ?? { lastSequence: 0, prunedThrough: 0 };
  }

  /** Lets reads see what was committed up to now; without it they see what was there at their turn's first read. */
  #renew(): void {
    this.#root.resetReadTxn();
  }

  #reading<T>(read: () => T): T {
    if (this.#isClosed) throw logClosed(this.#directory);
    try {
      return read();
    } catch (thrown) {
      throw logUnreadable(this.#directory, asError(thrown));
    }
  }

  /** Frees what processes that were killed while they read still hold. */
  forgetDeadReaders(): void {
    this.#root.readerCheck();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#root.close();
  }
}

export interface StoreTransaction {
  /** The sequence is greater than all before. */
  put(sequence: number, bytes: Buffer): void;
  /** Tells when the delete marker with this sequence was written. */
  mark(sequence: number, timeMs: number): void;
  remove(entry: LogEntry): void;
  oldestMarkers(limit: number): readonly { readonly key: number; readonly value: number }[];
  setHead(head: Head): void;
}

function openEnvironment(directory: string): RootDatabase {
  try {
    prepareDirectory(directory);
    return open({
      path: directory,
      // By default, a directory with a dot in its name would be taken for a file.
      noSubdir: false,
      maxDbs: DATABASES.length,
      mapSize: MAP_BYTES,
      // LMDB's own order: data, fdatasync, then the page that makes it count, synced too. What is acknowledged survives
      // kill -9 and, as far as the disk keeps its word, a power loss; nothing is ever half there. Faster settings exist:
      // noSync may leave a broken file after a power loss, and overlappingSync shows readers what is not durable yet.
      overlappingSync: false,
    });
  } catch (thrown) {
    throw thrown instanceof MeshError ? thrown : logUnopened(directory, asError(thrown));
  }
}

const VALUE = 0;
const MARKER = 1;
/** Kind, 1 byte; length of the key, 2 bytes. Key and value follow. */
const HEADER_BYTES = 3;

/** An entry as it is stored; its sequence is its place. Copies the value. */
export function encode(key: string, value: Uint8Array | undefined): Buffer {
  const bytes = Buffer.allocUnsafe(HEADER_BYTES + key.length + (value?.length ?? 0));
  bytes.writeUInt8(value ? VALUE : MARKER, 0);
  bytes.writeUInt16BE(key.length, 1);
  bytes.write(key, HEADER_BYTES, "latin1");
  if (value) bytes.set(value, HEADER_BYTES + key.length);
  return bytes;
}

function decode(sequence: number, bytes: Buffer): LogEntry {
  const valueStart = HEADER_BYTES + bytes.readUInt16BE(1);
  return {
    key: bytes.toString("latin1", HEADER_BYTES, valueStart),
    sequence,
    value: bytes[0] === MARKER ? undefined : bytes.subarray(valueStart),
  };
}
