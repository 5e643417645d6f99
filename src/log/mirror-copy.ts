/** The copy of a log on disk: an embedded log that is written behind, with checksums, and with the place that it reached. */
import { crc32 } from "node:zlib";
import { setTimeout as delay } from "node:timers/promises";
import { asError } from "../lib/errors.js";
import type { Logger } from "../lib/logger.js";
import type { LogEntry, MeshLog, Write } from "./log.js";

/** A place in a log: its id, and the sequence of the newest write that was taken over. */
export interface MirrorPosition {
  readonly logId: string;
  readonly sequence: number;
}

const POSITION_KEY = "mirror.position";
const ENTRIES = "entry.";
const CHECKSUM_BYTES = 4;

const BATCH_WRITES = 5_000;
/** A reader that is so far ahead of the disk waits for it, unless the disk fails. */
const MAX_BACKLOG = 50_000;
const ROOM_LOOK_MS = 5;
/** Pause before a disk that failed is tried again. */
const RETRY_MS = 5_000;

export class MirrorCopy {
  readonly #log: MeshLog;
  readonly #logger: Logger;
  /** Not on disk yet, the newest value of each key. */
  #backlog = new Map<string, Uint8Array | undefined>();
  /** The place that is reached when the backlog is written. */
  #reached: MirrorPosition | undefined;
  #stored: MirrorPosition | undefined;
  #storing: Promise<void> | undefined;
  #hasFailed = false;
  readonly #closing = new AbortController();

  /** @param log owned from now on. */
  constructor(log: MeshLog, logger: Logger) {
    this.#log = log;
    this.#logger = logger;
  }

  /** Whether the disk takes what it is given. */
  get isStored(): boolean {
    return !this.#hasFailed;
  }

  /** How far the copy goes; undefined when it was never completed. Throws when the record is broken. */
  async position(): Promise<MirrorPosition | undefined> {
    const entry = await this.#log.get(POSITION_KEY);
    if (entry?.value === undefined) return undefined;
    const position: unknown = JSON.parse(Buffer.from(unsealed(entry.key, entry.value)).toString());
    if (typeof position === "object" && position !== null && "logId" in position && "sequence" in position) {
      const { logId, sequence } = position;
      if (typeof logId === "string" && typeof sequence === "number") return { logId, sequence };
    }
    throw new Error("the record of its place can't be read");
  }

  /** All entries, as of the write with that sequence. Throws for one whose checksum is wrong. */
  async *read(sequence: number): AsyncGenerator<readonly LogEntry[]> {
    for await (const entries of this.#log.read(ENTRIES)) {
      yield entries.flatMap(({ key, value }) =>
        value ? { key: key.slice(ENTRIES.length), sequence, value: unsealed(key, value) } : [],
      );
    }
  }

  /** Takes entries over, in their order; they are on disk some time later. */
  take(entries: readonly LogEntry[]): void {
    for (const { key, value } of entries) this.#backlog.set(ENTRIES + key, value);
    this.#store();
  }

  /** What was taken so far is all that the log had up to this place. */
  reach(position: MirrorPosition): void {
    this.#reached = position;
    this.#store();
  }

  /** Deletes the keys that are not among these. */
  async dropOthers(keys: ReadonlySet<string>): Promise<void> {
    for await (const entries of this.#log.read(ENTRIES)) {
      for (const { key } of entries) {
        if (!keys.has(key.slice(ENTRIES.length)) && !this.#backlog.has(key)) this.#backlog.set(key, undefined);
      }
    }
    this.#store();
  }

  /** Resolves when the disk is near enough; at once while it fails. */
  async room(signal: AbortSignal): Promise<void> {
    while (this.#backlog.size > MAX_BACKLOG && !this.#hasFailed && !signal.aborted) await delay(ROOM_LOOK_MS);
  }

  /** Forgets everything. */
  async clear(): Promise<void> {
    const keys: string[] = [];
    for await (const entries of this.#log.read()) for (const { key } of entries) keys.push(key);
    for (let from = 0; from < keys.length; from += BATCH_WRITES) {
      await this.#log.append(keys.slice(from, from + BATCH_WRITES).map((key) => ({ key, value: undefined })));
    }
  }

  /** Writes what is not written yet, if the disk takes it. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#storing;
    await this.#log.close();
  }

  #store(): void {
    this.#storing ??= this.#storeAll().finally(() => {
      this.#storing = undefined;
    });
  }

  async #storeAll(): Promise<void> {
    while (this.#backlog.size > 0 || this.#stored !== this.#reached) {
      const backlog = this.#backlog;
      const reached = this.#reached;
      this.#backlog = new Map();
      try {
        await this.#write([...backlog], reached);
        this.#stored = reached;
        if (this.#hasFailed) this.#logger.info({}, "the mirror of the log is stored again");
        this.#hasFailed = false;
      } catch (error) {
        // What came meanwhile is newer.
        for (const [key, value] of this.#backlog) backlog.set(key, value);
        this.#backlog = backlog;
        if (!this.#hasFailed) {
          this.#logger.error(
            { error: asError(error).message },
            "the mirror of the log can't be stored; it is kept in memory, and tried again",
          );
        }
        this.#hasFailed = true;
        if (this.#closing.signal.aborted) return;
        await delay(RETRY_MS, undefined, { signal: this.#closing.signal }).catch(() => undefined);
      }
    }
  }

  /** The place comes last: until it is there, a restart reads again from the one before. */
  async #write(
    entries: readonly (readonly [string, Uint8Array | undefined])[],
    reached?: MirrorPosition,
  ): Promise<void> {
    for (let from = 0; from < entries.length; from += BATCH_WRITES) {
      const writes = entries
        .slice(from, from + BATCH_WRITES)
        .map(([key, value]): Write => ({ key, value: value && sealed(key, value) }));
      await this.#log.append(writes);
    }
    if (!reached) return;
    const record = Buffer.from(JSON.stringify(reached));
    await this.#log.append([{ key: POSITION_KEY, value: sealed(POSITION_KEY, record) }]);
  }
}

/** A value behind its checksum, which covers the key too. */
function sealed(key: string, value: Uint8Array): Uint8Array {
  const bytes = Buffer.allocUnsafe(CHECKSUM_BYTES + value.length);
  bytes.writeUInt32BE(crc32(value, crc32(key)), 0);
  bytes.set(value, CHECKSUM_BYTES);
  return bytes;
}

function unsealed(key: string, bytes: Uint8Array): Uint8Array {
  const value = bytes.subarray(CHECKSUM_BYTES);
  const { buffer, byteOffset, byteLength } = bytes;
  const isWhole = byteLength >= CHECKSUM_BYTES;
  if (!isWhole || new DataView(buffer, byteOffset).getUint32(0) !== crc32(value, crc32(key))) {
    throw new Error(`the checksum of ${key} is wrong`);
  }
  return value;
}
