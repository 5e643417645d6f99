/**
 * A router's own copy of the mesh log: on disk, so that a router that starts while the log and all its writers are down
 * serves what it served before; and in step with the log while that can be reached.
 *
 * What is followed comes from the log itself, never from the disk behind it: a disk that is slow or full costs nothing
 * but the copy. The copy lies in an embedded log of its own, each value behind a checksum, with one record that says up to
 * which write of which log it goes.
 */
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { Backoff } from "../lib/backoff.js";
import { type Clock, systemClock } from "../lib/clock.js";
import { asError } from "../lib/errors.js";
import type { Logger } from "../lib/logger.js";
import { COMPLETION_PREFIX } from "./completion.js";
import { openEmbeddedLog } from "./embedded.js";
import type { LogBatch, LogEntry, MeshLog } from "./log.js";
import { MirrorCopy, type MirrorPosition } from "./mirror-copy.js";
import { LEASE_PREFIX } from "./writer-lease.js";

export interface MirrorOptions {
  /** Made with mode 0700; holds nothing but the mirror, and what is there is thrown away when it can't be trusted. */
  readonly directory: string;
  /** The log to mirror; its owner closes it. */
  readonly log: Pick<MeshLog, "follow" | "id" | "lastSequence">;
  /** After so long without a word from the log, the mirror says once that it may be stale; 60,000 when left out. */
  readonly staleAfterMs?: number;
  readonly logger: Logger;
  readonly clock?: Clock;
}

export interface MirrorStatus {
  /** empty: nothing to serve yet. alone: the log can't be reached, what the mirror holds is served. */
  readonly state: "empty" | "following" | "alone";
  /** The newest write of the log that was taken over. */
  readonly sequence: number;
  /** The log's newest write as of the last look; undefined before the first. */
  readonly logSequence: number | undefined;
  /** Unix time in milliseconds when it was last known to have all that the log has; undefined before. */
  readonly currentMs: number | undefined;
  /** Whether the disk holds what is served; false while it can't be written. */
  readonly isStored: boolean;
  /** Message of the last fault of the log; undefined while it is followed. */
  readonly lastError: string | undefined;
}

export interface Mirror extends Pick<MeshLog, "follow"> {
  readonly status: MirrorStatus;
  /** Ends what is followed, and stores what is not stored yet. */
  close(): Promise<void>;
}

const RETRY_INITIAL_MS = 100;
const RETRY_MAX_MS = 2_000;
const STALE_AFTER_MS = 60_000;
const LOOK_INTERVAL_MS = 1_000;
/**
 * There while the copy is opened and read, and says how often that was begun: a file that was cut off takes the process
 * down when LMDB reads it (SIGBUS), each time. More often than once, as a process may be killed for other reasons.
 */
const READING_MARK = "reading";
const MAX_READINGS = 3;

/** Opens the copy, or begins a new one. Never throws for what is wrong with the disk: it then goes without. */
export async function openMirror(options: MirrorOptions): Promise<Mirror> {
  const copy = await openCopy(options);
  return new LogMirror(options, copy);
}

/** undefined where the disk can't be used. */
async function openCopy({ directory, logger }: MirrorOptions): Promise<MirrorCopy | undefined> {
  const files = join(directory, "entries");
  const mark = join(directory, READING_MARK);
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const readings = Number(await readFile(mark, "utf8").catch(() => "0"));
    // What is no number is what a full disk left of one.
    if (readings >= MAX_READINGS) {
      logger.error({ directory, readings }, "the mirror of the log could not be read to its end; making a new one");
      await rm(files, { recursive: true, force: true });
    }
    await writeFile(mark, String(readings >= MAX_READINGS ? 1 : readings + 1));
    const open = async () => new MirrorCopy(await openEmbeddedLog({ directory: files, logger }), logger);
    return await open().catch(async (error: unknown) => {
      logger.error(
        { directory, error: asError(error).message },
        "the mirror of the log can't be used; making a new one",
      );
      await rm(files, { recursive: true, force: true });
      return open();
    });
  } catch (error) {
    logger.error(
      { directory, error: asError(error).message },
      "the log can't be mirrored on this disk; following it without: a restart while the log is down would serve nothing",
    );
    return undefined;
  }
}

class LogMirror implements Mirror {
  readonly #options: MirrorOptions;
  readonly #clock: Clock;
  readonly #closing = new AbortController();
  #copy: MirrorCopy | undefined;
  #state: MirrorStatus["state"] = "empty";
  /** What is served: the log's id, and how far. */
  #position: MirrorPosition | undefined;
  /** The key spaces that were complete in what is served. */
  readonly #completions = new Set<string>();
  #logSequence: number | undefined;
  #currentMs: number | undefined;
  #lastError: string | undefined;
  #isStaleSaid = false;
  readonly #looking: Promise<void>;

  constructor(options: MirrorOptions, copy: MirrorCopy | undefined) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#copy = copy;
    this.#looking = this.#look();
  }

  get status(): MirrorStatus {
    return {
      state: this.#state,
      sequence: this.#position?.sequence ?? 0,
      logSequence: this.#logSequence,
      currentMs: this.#currentMs,
      isStored: this.#copy?.isStored ?? false,
      lastError: this.#lastError,
    };
  }

  /**
   * What the copy holds first, then the log: as MeshLog.follow, but it does not throw when the log can't be reached, it
   * tries again. Sequences of what comes from the copy are the copy's newest. For one reader at a time.
   */
  async *follow(afterSequence: number, signal: AbortSignal): AsyncGenerator<LogBatch> {
    const ending = AbortSignal.any([signal, this.#closing.signal]);
    // What a reader has that does not come up in a reading from the start is gone.
    let readerHasSome = afterSequence > 0;
    let isFirst = true;
    this.#position = undefined;
    for await (const batch of this.#readCopy()) {
      yield { ...batch, fromStart: readerHasSome && isFirst };
      isFirst = false;
    }
    readerHasSome ||= !isFirst;
    const backoff = new Backoff(RETRY_INITIAL_MS, RETRY_MAX_MS);
    while (!ending.aborted) {
      try {
        for await (const batch of this.#followLog(readerHasSome, ending)) {
          backoff.reset();
          readerHasSome = true;
          yield batch;
        }
      } catch (error) {
        this.#lost(asError(error));
        await this.#clock.sleep(backoff.next(), ending);
      }
    }
  }

  /** The whole copy; its last piece is `caughtUp`. Nothing of it when it is empty, was not completed, or is broken. */
  async *#readCopy(): AsyncGenerator<LogBatch> {
    const copy = this.#copy;
    if (!copy) return;
    const { directory, logger } = this.#options;
    const mark = join(directory, READING_MARK);
    let entryCount = 0;
    try {
      const position = await copy.position();
      if (position !== undefined) {
        for await (const entries of copy.read(position.sequence)) {
          entryCount += entries.length;
          this.#noteCompletions(entries);
          yield { entries, caughtUp: false, fromStart: false };
        }
      }
      await rm(mark, { force: true });
      if (position === undefined) return;
      this.#position = position;
      this.#state = "alone";
      logger.info({ directory, entryCount, sequence: position.sequence }, "the mirror of the log was read");
      yield { entries: [], caughtUp: true, fromStart: false };
    } catch (error) {
      logger.error(
        { directory, error: asError(error).message },
        "the mirror of the log is broken and is not used; everything is read from the log anew",
      );
      await rm(mark, { force: true });
      await copy.clear().catch((reason: unknown) => {
        logger.error({ directory, error: asError(reason).message }, "the broken mirror can't be emptied");
        this.#copy = undefined;
      });
    }
  }

  /** One reading of the log, until it fails. */
  async *#followLog(readerHasSome: boolean, signal: AbortSignal): AsyncGenerator<LogBatch> {
    const id = await this.#options.log.id();
    const known = this.#position?.logId === id ? this.#position.sequence : undefined;
    let isAnew = readerHasSome && known === undefined;
    let seen: Set<string> | undefined = known === undefined ? new Set() : undefined;
    for await (const batch of this.#options.log.follow(known ?? 0, signal, { logId: id })) {
      if (batch.fromStart) seen = new Set();
      const fromStart = batch.fromStart || isAnew;
      isAnew = false;
      for (const { key } of batch.entries) seen?.add(key);
      // A log that was made anew fills by and by: what it lacks is not gone before its writers say that it has all.
      const caughtUp = batch.caughtUp && this.#isWhole(seen);
      const entries = batch.entries.filter(({ key }) => !key.startsWith(LEASE_PREFIX));
      this.#copy?.take(entries);
      yield { entries, caughtUp, fromStart };
      this.#noteCompletions(entries);
      const last = batch.entries.at(-1)?.sequence;
      if (caughtUp && seen) {
        await this.#copy?.dropOthers(seen);
        seen = undefined;
      }
      // Until all of a reading is there, its place means nothing: what came before may be missing.
      if (!seen) {
        const position = { logId: id, sequence: last ?? this.#position?.sequence ?? 0 };
        // The place alone is not worth a write to the disk each time that a lease is renewed.
        if (entries.length > 0 || this.#position?.logId !== id) this.#copy?.reach(position);
        this.#reached(position, caughtUp);
      }
      await this.#copy?.room(signal);
    }
  }

  #noteCompletions(entries: readonly LogEntry[]): void {
    for (const { key, value } of entries) if (value && key.startsWith(COMPLETION_PREFIX)) this.#completions.add(key);
  }

  /** Whether a reading from the start, which met these keys, has all key spaces that were there before. */
  #isWhole(seen: ReadonlySet<string> | undefined): boolean {
    return seen === undefined || [...this.#completions].every((key) => seen.has(key));
  }

  #reached(position: MirrorPosition, isCurrent: boolean): void {
    this.#position = position;
    if (!isCurrent) return;
    if (this.#lastError !== undefined || this.#isStaleSaid) {
      this.#options.logger.info({ sequence: position.sequence }, "the mesh log is followed again");
    }
    this.#state = "following";
    this.#lastError = undefined;
    this.#isStaleSaid = false;
    this.#currentMs = this.#clock.now();
  }

  #lost(error: Error): void {
    if (this.#lastError === undefined) {
      this.#options.logger.error(
        { error: error.message, sequence: this.#position?.sequence },
        this.#position
          ? "the mesh log can't be followed; serving what it said so far, trying again"
          : "the mesh log can't be read, and there is no mirror of it to serve; trying again",
      );
    }
    this.#lastError = error.message;
    if (this.#position) this.#state = "alone";
  }

  /** Asks the log now and then how far it is: a reader that hears nothing can't tell a quiet log from a dead one. */
  async #look(): Promise<void> {
    const { log, logger, staleAfterMs = STALE_AFTER_MS } = this.#options;
    const { signal } = this.#closing;
    let heardMs = this.#clock.now();
    while (!signal.aborted) {
      const sequence = await log.lastSequence().catch(() => undefined);
      const nowMs = this.#clock.now();
      if (sequence !== undefined) {
        this.#logSequence = sequence;
        if (this.#state === "following" && sequence <= (this.#position?.sequence ?? 0)) this.#currentMs = nowMs;
      }
      heardMs = Math.max(heardMs, this.#currentMs ?? 0);
      if (nowMs - heardMs > staleAfterMs && !this.#isStaleSaid) {
        this.#isStaleSaid = true;
        logger.warn(
          { sequence: this.#position?.sequence, logSequence: this.#logSequence, staleMs: nowMs - heardMs },
          "this router may be stale: it could not keep up with the mesh log; it goes on serving what it knows",
        );
      }
      await this.#clock.sleep(LOOK_INTERVAL_MS, signal);
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await nextTurn();
    await this.#looking;
    await this.#copy?.close();
  }
}
