/** In touch with whichever BBS of a group is active: a subscription to its events, and calls beside it. */
import { Backoff } from "../../lib/backoff.js";
import type { Clock } from "../../lib/clock.js";
import { MeshError } from "../../lib/errors.js";
import { BbsClient } from "./bbs-client.js";
import type { BbsCredentials, BbsEndpoint } from "./endpoint.js";
import { type EventStream, openEventStream } from "./event-stream.js";
import type { SseFrame } from "../sse.js";

export const RETRY_INITIAL_MS = 100;
export const RETRY_MAX_MS = 5_000;
/** A connection that broke sooner does not count as a success: its retries go on slowing down. */
const STABLE_MS = 10_000;

export interface BbsConnectionOptions {
  /** https:// URLs of the BBS. One of several is active: when one fails, the next is tried. */
  readonly urls: readonly string[];
  /** Asked at each connection, so that new certificates need no restart; another object where they changed. */
  readonly credentials: () => BbsCredentials;
  /** How long the BBS may be silent before it is asked whether it is there, and may take to answer; 10 s when not said. */
  readonly readTimeoutMs?: number;
}

export interface FollowOptions {
  readonly endpoints: readonly BbsEndpoint[];
  readonly readTimeoutMs: number;
  readonly clock: Clock;
  /** Hears why a BBS can't be followed, before the next one is tried. */
  readonly onFault: (fault: MeshError) => void;
}

/**
 * Subscribes to one BBS after the other, until the signal aborts. The parts of the `work` go on with it until one of them
 * throws a MeshError, or the connection is lost; they end when the connection's signal aborts.
 */
export async function followBbs(
  { endpoints, readTimeoutMs, clock, onFault }: FollowOptions,
  work: (connection: BbsConnection) => readonly Promise<void>[],
  signal: AbortSignal,
): Promise<void> {
  const backoff = new Backoff(RETRY_INITIAL_MS, RETRY_MAX_MS);
  const isOver = () => signal.aborted;
  for (let attempt = 0; !isOver(); attempt += 1) {
    const endpoint = endpoints[attempt % endpoints.length];
    if (endpoint === undefined) throw new Error("a BBS to follow, without an endpoint");
    const startedMs = clock.now();
    let connection: BbsConnection | undefined;
    try {
      const ending = new AbortController();
      const either = AbortSignal.any([signal, ending.signal]);
      const stream = await openEventStream(endpoint, readTimeoutMs, either);
      connection = new BbsConnection(endpoint, stream, readTimeoutMs, clock, either);
      const parts = [...work(connection), connection.watch()];
      try {
        await Promise.race(parts);
      } finally {
        ending.abort();
        connection.close();
        await Promise.allSettled(parts);
      }
    } catch (thrown) {
      if (!(thrown instanceof MeshError)) throw thrown;
      // Whatever fails at the end fails because of it.
      if (isOver()) return;
      onFault(thrown);
      if (connection?.isGood === true && clock.now() - startedMs >= STABLE_MS) backoff.reset();
      // The others of the group are tried at once: one of them is active.
      if ((attempt + 1) % endpoints.length === 0) await clock.sleep(backoff.next(), signal);
    }
  }
}

/** One subscription to one BBS. */
export class BbsConnection {
  readonly url: string;
  readonly client: BbsClient;
  /** Aborts when the connection ends, or the caller does. */
  readonly signal: AbortSignal;
  /** To be set once the BBS did what is wanted of it. */
  isGood = false;
  readonly #stream: EventStream;
  readonly #readTimeoutMs: number;
  readonly #clock: Clock;
  #lastReceivedMs = 0;

  constructor(endpoint: BbsEndpoint, stream: EventStream, readTimeoutMs: number, clock: Clock, signal: AbortSignal) {
    this.url = endpoint.url;
    this.client = new BbsClient(endpoint, readTimeoutMs);
    this.signal = signal;
    this.#stream = stream;
    this.#readTimeoutMs = readTimeoutMs;
    this.#clock = clock;
  }

  /** The event stream's frames: see EventStream. To be read once. */
  async *frames(): AsyncGenerator<readonly SseFrame[]> {
    for await (const frames of this.#stream.frames) {
      this.#lastReceivedMs = this.#clock.now();
      yield frames;
    }
  }

  /**
   * The stream has no heartbeat: when it is silent, asks the BBS whether it is there.
   *
   * Throws  MESH_SOURCE_* when it is not.
   */
  async watch(): Promise<void> {
    let lastSignOfLifeMs = this.#clock.now();
    while (!this.signal.aborted) {
      lastSignOfLifeMs = Math.max(lastSignOfLifeMs, this.#lastReceivedMs);
      const silentMs = this.#clock.now() - lastSignOfLifeMs;
      if (silentMs < this.#readTimeoutMs) {
        await this.#clock.sleep(this.#readTimeoutMs - silentMs, this.signal);
      } else {
        await this.client.ping(this.signal);
        lastSignOfLifeMs = this.#clock.now();
      }
    }
  }

  close(): void {
    this.#stream.close();
    this.client.close();
  }
}
