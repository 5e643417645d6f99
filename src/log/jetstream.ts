/**
 * The mesh log on NATS JetStream: a stream with one subject per key, of which the last message counts. Replication,
 * failover and fan-out are the servers' job.
 */
import { randomUUID } from "node:crypto";
import { JetStreamApiError, type SeqMsgRequest, type StoredMsg, type StreamInfo } from "@nats-io/jetstream";
import { RequestError, TimeoutError } from "@nats-io/transport-node";
import { Backoff } from "../lib/backoff.js";
import { type Clock, systemClock } from "../lib/clock.js";
import { asError, MeshError } from "../lib/errors.js";
import { type Logger, silentLogger } from "../lib/logger.js";
import { logConflict } from "./faults.js";
import { type Connected, NatsConnector, type NatsOptions, REQUEST_TIMEOUT_MS } from "./jetstream-connection.js";
import {
  appendUnanswered,
  noJetStream,
  payloadTooLarge,
  streamLogClosed,
  streamMissing,
  streamSilent,
  streamUnwritable,
} from "./jetstream-faults.js";
import { Batch, entryOf, subjectOf, subjectsOf } from "./jetstream-message.js";
import {
  deleteMarkerTtlMs,
  findStream,
  isMissing,
  logIdOf,
  makeStream,
  renewLogId,
  type StreamSettings,
} from "./jetstream-stream.js";
import {
  checkWrite,
  type FollowOptions,
  type LogBatch,
  type LogEntry,
  MAX_BATCH_WRITES,
  type MeshLog,
  type Write,
} from "./log.js";
import { readStream } from "./stream-reader.js";

const DAY_MS = 86_400_000;

export interface JetStreamLogOptions extends NatsOptions {
  /** Name of the stream, without dots; made when it is missing. */
  readonly stream: string;
  /** Copies that the stream has when it is made: 1, 3 or 5. */
  readonly replicas: number;
  /** Of a stream that is made: how long a deletion is told to readers who were away; 7 days when left out. */
  readonly deleteMarkerTtlMs?: number;
  /** Of a stream that is made: how large it may become; left out: as large as the account allows. */
  readonly maxBytes?: number | undefined;
  readonly logger?: Logger;
  /** Pauses between attempts. */
  readonly clock?: Pick<Clock, "sleep">;
}

/** For how long an append whose answer is missing is asked for. */
const APPEND_TIMEOUT_MS = 10_000;
const RETRY_INITIAL_MS = 20;
const RETRY_MAX_MS = 500;
/** Readings that end without a message, one after the other, before their reader is told. */
const MAX_FRUITLESS = 3;
/** Room for the headers of a batch in what the server takes as a message. */
const MAX_HEADER_BYTES = 512;
const MAX_RESOLVED = 5;

/** Source: server/errors.json of nats-server. */
const WRONG_SEQUENCE = new Set([10_071, 10_164]);
const DUPLICATE = 10_201;
/** The batch was given up halfway, or the servers are choosing a leader: nothing was stored. */
const PASSING = new Set([10_008, 10_176, 10_205, 10_206]);

/**
 * Connects, and makes the stream when there is none. Servers that can't be reached, or a stream that can't hold the log,
 * are no reason to throw: a router has a mirror to serve. It is logged, and each call says so, until it is mended.
 */
export async function openJetStreamLog(options: JetStreamLogOptions): Promise<MeshLog> {
  const log = new JetStreamLog(options);
  await log.open();
  return log;
}

/** What a handle knows of the log it reads. */
interface Known {
  readonly id: string;
  readonly sequence: number;
  /** When that sequence was written: Unix time in milliseconds by the servers' clocks, rounded up. */
  readonly timeMs: number;
}

interface Beginning {
  readonly connected: Connected;
  readonly logId: string;
  readonly fromStart: boolean;
  readonly markerTtlMs: number;
  /** The last message there is to read. */
  readonly endSequence: number;
}

type Answer = { readonly sequence: number } | { readonly refused: JetStreamApiError } | { readonly unanswered: Error };

class JetStreamLog implements MeshLog {
  readonly #stream: string;
  readonly #settings: StreamSettings;
  readonly #connector: NatsConnector;
  readonly #logger: Logger;
  readonly #clock: Pick<Clock, "sleep">;
  readonly #closing = new AbortController();
  /** Connections over which the stream was found to be as it has to be. */
  readonly #prepared = new WeakSet<Connected>();
  #lastAppend: Promise<unknown> = Promise.resolve();
  #closed: Promise<void> | undefined;
  #known: Known | undefined;
  /** The last end of the log that a reader reached, and when, on this process's clock: deletions up to then were told. */
  #heard: { readonly logId: string; readonly sequence: number; readonly atMs: number } | undefined;
  /** Which log a reader was told of last. Readers that call again, after a fault, do so with the signal they had. */
  readonly #readers = new WeakMap<AbortSignal, string>();

  constructor({
    stream,
    replicas,
    deleteMarkerTtlMs: ttlMs = 7 * DAY_MS,
    maxBytes,
    logger = silentLogger,
    clock = systemClock,
    ...nats
  }: JetStreamLogOptions) {
    this.#stream = stream;
    this.#settings = { stream, replicas, deleteMarkerTtlMs: ttlMs, maxBytes };
    this.#connector = new NatsConnector(stream, nats, logger);
    this.#logger = logger;
    this.#clock = clock;
  }

  async open(): Promise<void> {
    try {
      await this.#ready(true);
      this.#logger.info({ stream: this.#stream }, "mesh log opened");
    } catch (error) {
      this.#logger.error({ stream: this.#stream, error: asError(error).message }, "the mesh log can't be used yet");
    }
  }

  async append(batch: readonly Write[]): Promise<number> {
    this.#checkOpen();
    batch.forEach(checkWrite);
    if (batch.length > MAX_BATCH_WRITES) {
      throw new Error(`a batch of ${batch.length} writes: at most ${MAX_BATCH_WRITES} are appended as one`);
    }
    // Copied now: the caller may reuse its buffers.
    const writes = batch.map((write) => ({ ...write, value: write.value && Buffer.from(write.value) }));
    const appended = this.#lastAppend.then(() => (writes.length > 0 ? this.#append(writes) : this.#lastSequence()));
    this.#lastAppend = appended.catch(() => undefined);
    return appended;
  }

  async #append(writes: readonly Write[]): Promise<number> {
    const deadlineMs = performance.now() + APPEND_TIMEOUT_MS;
    const backoff = new Backoff(RETRY_INITIAL_MS, RETRY_MAX_MS);
    let batch = this.#batch(writes, expectations(writes));
    let resolved = 0;
    let unanswered: Error | undefined;
    for (;;) {
      const answer = await this.#send(batch, unanswered !== undefined);
      if ("sequence" in answer) return answer.sequence;
      if ("refused" in answer) {
        const { refused } = answer;
        if (!WRONG_SEQUENCE.has(refused.code) && refused.code !== DUPLICATE) {
          throw streamUnwritable(this.#stream, refused);
        }
        const messages = await this.#lastMessages(writes);
        // An attempt before this one may have been stored, and its answer lost.
        const sequence = firstOf([...messages.values()].map((message) => message && batch.lastSequence(message)));
        if (sequence !== undefined) return sequence;
        if (refused.code === DUPLICATE || resolved === MAX_RESOLVED) throw appendUnanswered(this.#stream, refused);
        resolved += 1;
        batch = this.#batch(writes, this.#heldExpectations(writes, messages));
        continue;
      }
      unanswered = answer.unanswered;
      if (performance.now() > deadlineMs) throw appendUnanswered(this.#stream, unanswered);
      await this.#clock.sleep(backoff.next(), new AbortController().signal);
    }
  }

  #batch(writes: readonly Write[], expected: ReadonlyMap<number, number>): Batch {
    return new Batch(randomUUID(), this.#stream, writes, expected, this.#settings.deleteMarkerTtlMs);
  }

  /**
   * Sends a batch, with one answer for all of it.
   *
   * @param wasSent without an answer: then nothing that goes wrong now says that nothing was stored
   * Throws MESH_LOG_UNAVAILABLE when it was not sent, now or before.
   */
  async #send({ messages }: Batch, wasSent: boolean): Promise<Answer> {
    let connected: Connected;
    try {
      connected = await this.#ready(true);
    } catch (error) {
      if (wasSent) return { unanswered: asError(error) };
      throw error;
    }
    const { nats } = connected;
    const maxBytes = (nats.info?.max_payload ?? 0) - MAX_HEADER_BYTES;
    const tooLarge = messages.find(({ data }) => data.length > maxBytes);
    if (tooLarge) throw payloadTooLarge(this.#stream, tooLarge.data.length + MAX_HEADER_BYTES, maxBytes);
    try {
      for (const { subject, data, headers } of messages.slice(0, -1)) nats.publish(subject, data, { headers });
      const commit = messages[messages.length - 1];
      if (!commit) throw new Error("an empty batch");
      const { subject, data, headers } = commit;
      const reply = await nats.request(subject, data, { headers, timeout: REQUEST_TIMEOUT_MS });
      return answerOf(reply.json());
    } catch (error) {
      this.#observe(asError(error), connected);
      return { unanswered: asError(error) };
    }
  }

  /** The last message of each key that has a condition, and of the last key; null for none. */
  async #lastMessages(writes: readonly Write[]): Promise<ReadonlyMap<string, StoredMsg | null>> {
    const last = writes.at(-1);
    const keys = new Set(writes.filter(({ expectedSequence }) => expectedSequence !== undefined).map(({ key }) => key));
    if (last) keys.add(last.key);
    return new Map(
      await Promise.all(
        [...keys].map(async (key): Promise<[string, StoredMsg | null]> => [key, await this.#lastMessage(key)]),
      ),
    );
  }

  /** What a server has to compare with, where a key counts as absent whose last message is a marker. Throws for a conflict. */
  #heldExpectations(
    writes: readonly Write[],
    messages: ReadonlyMap<string, StoredMsg | null>,
  ): ReadonlyMap<number, number> {
    const actual = new Map<string, number>();
    for (const { key, expectedSequence } of writes) {
      if (expectedSequence === undefined) continue;
      const message = messages.get(key);
      const isAbsent = !message || this.#entryIn(message).value === undefined;
      const sequence = message?.seq ?? 0;
      if (expectedSequence !== sequence && !(expectedSequence === 0 && isAbsent)) {
        throw logConflict(key, expectedSequence, isAbsent ? 0 : sequence);
      }
      actual.set(key, sequence);
    }
    return expectations(writes, (key) => actual.get(key));
  }

  async #lastMessage(key: string): Promise<StoredMsg | null> {
    return this.#asking(({ manager }) =>
      manager.streams.getMessage(this.#stream, { last_by_subj: subjectOf(this.#stream, key) }),
    );
  }

  #entryIn({ seq, subject, data, header }: StoredMsg): LogEntry {
    return entryOf(this.#stream, seq, { subject, data, headers: header });
  }

  async get(key: string): Promise<LogEntry | undefined> {
    this.#checkOpen();
    const message = await this.#lastMessage(key);
    const entry = message ? this.#entryIn(message) : undefined;
    return entry?.value && entry;
  }

  async *read(prefix = ""): AsyncGenerator<readonly LogEntry[]> {
    this.#checkOpen();
    const subjects = subjectsOf(this.#stream, prefix);
    let endSequence = await this.#endOf(subjects);
    let position = 0;
    let fruitless = 0;
    while (position < endSequence) {
      const connected = await this.#ready(false);
      try {
        const options = { stream: this.#stream, subjects, afterSequence: position };
        for await (const { entries, isLast } of readStream(connected, options, this.#closing.signal)) {
          position = entries.at(-1)?.sequence ?? position;
          if (entries.length > 0) fruitless = 0;
          const current = entries.filter(({ key, value }) => value && key.startsWith(prefix));
          if (current.length > 0) yield current;
          // The server that delivers may lag behind; and what was last may be gone by now.
          if (isLast && position < endSequence) endSequence = await this.#endOf(subjects);
          if (position >= endSequence) return;
        }
        this.#checkOpen();
      } catch (error) {
        fruitless += 1;
        if (fruitless > MAX_FRUITLESS) throw this.#faultOf(asError(error), connected);
      }
    }
  }

  async *follow(
    afterSequence: number,
    signal: AbortSignal,
    { prefix = "", logId = this.#readers.get(signal) ?? this.#known?.id }: FollowOptions = {},
  ): AsyncGenerator<LogBatch> {
    this.#checkOpen();
    const ending = AbortSignal.any([signal, this.#closing.signal]);
    const subjects = subjectsOf(this.#stream, prefix);
    let position = afterSequence;
    let readerId = logId;
    let hasCaughtUp = false;
    let fruitless = 0;
    while (!ending.aborted) {
      const beginning = await unlessAborted(this.#begin(position, readerId, subjects), ending);
      if (!beginning) return;
      const { connected, markerTtlMs } = beginning;
      readerId = beginning.logId;
      this.#readers.set(signal, readerId);
      let { fromStart, endSequence } = beginning;
      if (fromStart) position = 0;
      try {
        const options = { stream: this.#stream, subjects, afterSequence: position };
        for await (const { entries, isLast, timeMs } of readStream(connected, options, ending)) {
          position = entries.at(-1)?.sequence ?? position;
          if (entries.length > 0) fruitless = 0;
          // The server that delivers may lag behind; and what was last may be gone by now.
          if (isLast && position < endSequence) endSequence = await this.#endOf(subjects);
          const caughtUp = isLast && position >= endSequence;
          this.#note(readerId, position, timeMs, caughtUp);
          const told = prefix === "" ? entries : entries.filter(({ key }) => key.startsWith(prefix));
          if (told.length === 0 && !fromStart && (hasCaughtUp || !caughtUp)) continue;
          const toldMs = performance.now();
          yield { entries: told, caughtUp, fromStart };
          hasCaughtUp = caughtUp || (hasCaughtUp && !fromStart);
          fromStart = false;
          // What was deleted while the reader slept may be forgotten by now: look again whether it can go on.
          if (performance.now() - toldMs > markerTtlMs / 2) break;
        }
      } catch (error) {
        fruitless += 1;
        this.#logger.debug(
          { stream: this.#stream, sequence: position, error: asError(error).message },
          "the reading of the mesh log broke off; going on from there",
        );
        if (fruitless > MAX_FRUITLESS) throw this.#faultOf(asError(error), connected);
      }
    }
  }

  /** Takes down how far the log is known. */
  #note(logId: string, sequence: number, timeMs: number, caughtUp: boolean): void {
    if (timeMs > 0 && sequence > (this.#known?.sequence ?? 0)) this.#known = { id: logId, sequence, timeMs };
    if (caughtUp) this.#heard = { logId, sequence, atMs: performance.now() };
  }

  /** Finds out whether a reader can go on after its sequence. Throws MESH_LOG_UNAVAILABLE. */
  async #begin(position: number, readerId: string | undefined, subjects: string): Promise<Beginning> {
    return this.#asking(async (connected) => {
      const info = await this.#settled(connected);
      const logId = logIdOf(info);
      const markerTtlMs = deleteMarkerTtlMs(info.config);
      const isAnother = readerId !== undefined && readerId !== logId;
      const fromStart =
        position > 0 &&
        (isAnother || info.state.last_seq < position || (await this.#mayHaveMissed(connected, info, position)));
      const endSequence = await this.#endOf(subjects);
      return { connected, logId, markerTtlMs, fromStart, endSequence };
    });
  }

  /** Looks at the stream, and makes it another log if it went back in time since this handle saw it. */
  async #settled(connected: Connected): Promise<StreamInfo> {
    const info = await findStream(connected.manager, this.#settings);
    const id = logIdOf(info);
    const known = this.#known;
    if (known?.id === id) {
      if (!(await this.#wentBack(connected, info, known))) return info;
      // Of several readers that notice, in this process and in others, the first one says so.
      const isSaid = logIdOf(await findStream(connected.manager, this.#settings)) !== id;
      if (!isSaid && this.#known === known) {
        this.#known = undefined;
        this.#logger.warn(
          { stream: this.#stream, sequence: info.state.last_seq, formerly: known.sequence },
          "the mesh log went back in time, as a restored backup does: all read it anew",
        );
        await renewLogId(connected.manager, info);
      }
      return this.#settled(connected);
    }
    if (known) this.#logger.warn({ stream: this.#stream, logId: id }, "the mesh log is another one: it is read anew");
    const { last_seq: sequence, last_ts: time } = info.state;
    this.#known = { id, sequence, timeMs: sequence > 0 ? Date.parse(time) + 1 : 0 };
    return info;
  }

  /** Whether the log is a former state of itself, or has grown from one: then newer messages have sequences it knew. */
  async #wentBack(connected: Connected, { state }: StreamInfo, { sequence, timeMs }: Known): Promise<boolean> {
    if (state.last_seq < sequence) return true;
    if (timeMs === 0) return false;
    const next = await this.#firstSince(connected, timeMs);
    return next !== undefined && next <= sequence;
  }

  /** Whether deletions after the position may be forgotten: those before the oldest message that is too young to be. */
  async #mayHaveMissed(connected: Connected, info: StreamInfo, position: number): Promise<boolean> {
    const ttlMs = deleteMarkerTtlMs(info.config);
    const marginMs = Math.min(MARGIN_MS, ttlMs / 10);
    const heard = this.#heard;
    if (position >= info.state.last_seq) return false;
    const isRecent = heard && performance.now() - heard.atMs < ttlMs - marginMs;
    if (isRecent && heard.logId === logIdOf(info) && position >= heard.sequence) return false;
    const nowMs = Date.parse(info.ts ?? new Date().toISOString());
    const oldest = await this.#firstSince(connected, nowMs - ttlMs + marginMs);
    return (oldest ?? info.state.last_seq + 1) > position + 1;
  }

  /** The sequence of the first message of that time or later. */
  async #firstSince({ manager }: Connected, timeMs: number): Promise<number | undefined> {
    // Servers know it since 2.11; the client's type for this call does not.
    const query = { start_time: new Date(timeMs).toISOString() } as unknown as SeqMsgRequest;
    return (await manager.streams.getMessage(this.#stream, query))?.seq;
  }

  /** The sequence of the last message, as the stream's leader has it; 0 for none. */
  async #endOf(subjects: string): Promise<number> {
    return this.#asking(
      async ({ manager }) => (await manager.streams.getMessage(this.#stream, { last_by_subj: subjects }))?.seq ?? 0,
    );
  }

  async lastSequence(): Promise<number> {
    this.#checkOpen();
    return this.#lastSequence();
  }

  async #lastSequence(): Promise<number> {
    return this.#asking(async ({ manager }) => (await findStream(manager, this.#settings)).state.last_seq);
  }

  async id(): Promise<string> {
    this.#checkOpen();
    return this.#asking(async ({ manager }) => logIdOf(await findStream(manager, this.#settings)));
  }

  async close(): Promise<void> {
    this.#closed ??= this.#close();
    await this.#closed;
  }

  async #close(): Promise<void> {
    this.#closing.abort();
    await this.#lastAppend;
    await this.#connector.close();
    this.#logger.info({ stream: this.#stream }, "mesh log closed");
  }

  #checkOpen(): void {
    if (this.#closed) throw streamLogClosed(this.#stream);
  }

  /** A connection over which the stream can be used. Throws MESH_LOG_UNAVAILABLE. */
  async #ready(mayMake: boolean): Promise<Connected> {
    const connected = await this.#connector.connected();
    if (this.#prepared.has(connected)) return connected;
    try {
      if (mayMake && (await makeStream(connected.manager, this.#settings))) {
        this.#logger.warn({ ...this.#settings }, "there was no stream for the mesh log: it was made");
      }
      await findStream(connected.manager, this.#settings);
    } catch (error) {
      throw this.#faultOf(asError(error), connected);
    }
    this.#prepared.add(connected);
    return connected;
  }

  async #asking<T>(ask: (connected: Connected) => Promise<T>): Promise<T> {
    const connected = await this.#ready(false);
    try {
      return await ask(connected);
    } catch (error) {
      throw this.#faultOf(asError(error), connected);
    }
  }

  /** Draws the conclusions from an error of the client. */
  #observe(error: Error, connected: Connected): void {
    if (error instanceof TimeoutError) this.#connector.drop(connected);
    if (isMissing(error) || hasNoResponders(error)) this.#prepared.delete(connected);
  }

  #faultOf(error: Error, connected: Connected): MeshError {
    if (error instanceof MeshError) return error;
    this.#observe(error, connected);
    if (isMissing(error)) return streamMissing(this.#stream);
    if (hasNoResponders(error)) return noJetStream(this.#stream, error);
    return streamSilent(this.#stream, error);
  }
}

/** Clocks of a cluster's servers differ a little. */
const MARGIN_MS = 10_000;

/** As such, or as the reason for which JetStream counts as switched off. */
const hasNoResponders = (error: Error) =>
  [error, error.cause].some((one) => one instanceof RequestError && one.isNoResponders());

/** Conditions by the place of each key's first write: later ones of the same batch come after it. */
function expectations(
  writes: readonly Write[],
  expectedOf?: (key: string) => number | undefined,
): ReadonlyMap<number, number> {
  const firstPlaces = new Map<string, number>();
  const expected = new Map<number, number>();
  writes.forEach(({ key, expectedSequence }, place) => {
    const first = firstPlaces.get(key) ?? place;
    firstPlaces.set(key, first);
    if (expectedSequence === undefined) return;
    const sequence = expectedOf?.(key) ?? expectedSequence;
    // Two conditions of one key that differ: the server refuses, and what the key has decides.
    expected.set(first, (expected.get(first) ?? sequence) === sequence ? sequence : Number.MAX_SAFE_INTEGER);
  });
  return expected;
}

const firstOf = (numbers: readonly (number | null | undefined)[]) =>
  numbers.find((number) => number !== null && number !== undefined) ?? undefined;

/** Source: PubAck of server/stream.go; a refusal has the shape of the API's errors. */
function answerOf(reply: unknown): Answer {
  const { seq, error } = reply as { seq?: number; error?: ConstructorParameters<typeof JetStreamApiError>[0] };
  if (error) {
    const refused = new JetStreamApiError(error);
    return PASSING.has(refused.code) ? { unanswered: refused } : { refused };
  }
  if (seq === undefined) throw new Error("the server's answer has no sequence");
  return { sequence: seq };
}

async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  let abort: () => void = () => undefined;
  const aborted = new Promise<undefined>((resolve) => {
    abort = () => resolve(undefined);
    signal.addEventListener("abort", abort);
  });
  try {
    return await Promise.race([work, aborted]);
  } catch (error) {
    if (signal.aborted) return undefined;
    throw error;
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
