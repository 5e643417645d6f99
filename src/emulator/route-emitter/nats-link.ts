import { connect, type NatsConnection, type NodeConnectionOptions } from "@nats-io/transport-node";
import { Backoff } from "../../lib/backoff.js";
import { systemClock } from "../../lib/clock.js";
import { asError } from "../../lib/errors.js";
import type { Logger } from "../../lib/logger.js";

/** Where the foundation's NATS is, and how it lets clients in. */
export interface NatsOptions {
  /** As in "nats://127.0.0.1:4222"; one of them is used at a time. */
  readonly servers: readonly string[];
  readonly user?: string;
  readonly password?: string;
  /** PEM. */
  readonly tls?: { readonly ca: string; readonly certificate?: string; readonly key?: string };
}

const CONNECT_TIMEOUT_MS = 2_000;
const FLUSH_TIMEOUT_MS = 1_000;
const PING_INTERVAL_MS = 5_000;
const MAX_PINGS_OUT = 2;
const FIRST_PAUSE_MS = 50;
const MAX_PAUSE_MS = 2_000;

/**
 * A connection that comes back, and the place where faults of it are injected. What is published while there is none is
 * lost, as with any publisher that crashed: whoever publishes says all of it again in `onConnected`.
 */
export class NatsLink {
  readonly #options: NatsOptions;
  readonly #logger: Logger;
  readonly #onConnected: (connection: NatsConnection) => void;
  readonly #closing = new AbortController();
  readonly #running: Promise<void>;
  #connection: NatsConnection | undefined;
  /** Set while the link is cut by a fault; resolves when it is mended. */
  #mended: { readonly promise: Promise<void>; readonly resolve: () => void } | undefined;
  #isSilent = false;
  #duplicateCount = 0;
  #reversing: { left: number; readonly held: (() => void)[] } | undefined;

  constructor(options: NatsOptions, logger: Logger, onConnected: (connection: NatsConnection) => void) {
    this.#options = options;
    this.#logger = logger;
    this.#onConnected = onConnected;
    this.#running = this.#run();
  }

  get isConnected(): boolean {
    return this.#connection !== undefined;
  }

  publish(subject: string, payload: string): void {
    if (this.#isSilent) return;
    const send = () => this.#connection?.publish(subject, payload);
    const reversing = this.#reversing;
    if (reversing !== undefined) {
      reversing.held.push(send);
      reversing.left -= 1;
      if (reversing.left === 0) this.#sendHeld();
      return;
    }
    send();
    if (this.#duplicateCount === 0) return;
    this.#duplicateCount -= 1;
    send();
  }

  /** Publishes nothing, while the connection stays, until it is false again. */
  silence(isSilent: boolean): void {
    this.#isSilent = isSilent;
  }

  /** Sends each of the next `count` messages twice. */
  duplicateNext(count: number): void {
    this.#duplicateCount = count;
  }

  /** Holds the next `count` messages back, then sends them in reverse; 0 sends at once what is held. */
  reverseNext(count: number): void {
    this.#sendHeld();
    this.#reversing = count > 0 ? { left: count, held: [] } : undefined;
  }

  /** Ends the connection; it comes back when the link is mended. */
  async cut(): Promise<void> {
    if (this.#mended !== undefined) return;
    let resolve = (): void => undefined;
    const promise = new Promise<void>((resolved) => {
      resolve = resolved;
    });
    this.#mended = { promise, resolve };
    await this.#connection?.close();
  }

  mend(): void {
    this.#mended?.resolve();
    this.#mended = undefined;
  }

  /** Sends what was published, and ends the connection for good. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.mend();
    // A server that hangs must not hold the end up.
    const connection = this.#connection;
    const flushed = new AbortController();
    const flush = connection?.flush().then(
      () => flushed.abort(),
      () => flushed.abort(),
    );
    if (flush !== undefined) await systemClock.sleep(FLUSH_TIMEOUT_MS, flushed.signal);
    await connection?.close();
    await this.#running;
  }

  #sendHeld(): void {
    const held = this.#reversing?.held ?? [];
    this.#reversing = undefined;
    for (const send of [...held].reverse()) send();
  }

  async #run(): Promise<void> {
    const backoff = new Backoff(FIRST_PAUSE_MS, MAX_PAUSE_MS);
    const { signal } = this.#closing;
    const { servers } = this.#options;
    while (!signal.aborted) {
      await this.#mended?.promise;
      const connection = await connect(connectionOptions(this.#options)).catch((error: unknown) => {
        if (backoff.attempts === 0) {
          this.#logger.warn({ servers, error: asError(error).message }, "no NATS for route-emitter; trying on");
        }
        return undefined;
      });
      if (connection === undefined) {
        await systemClock.sleep(backoff.next(), signal);
        continue;
      }
      backoff.reset();
      if (isAborted(signal) || this.#mended !== undefined) {
        await connection.close();
        continue;
      }
      this.#connection = connection;
      this.#onConnected(connection);
      await connection.closed();
      this.#connection = undefined;
    }
  }
}

/** It may have aborted while something was waited for. */
function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}

function connectionOptions({ servers, user, password, tls }: NatsOptions): NodeConnectionOptions {
  return {
    servers: [...servers],
    name: "route-emitter",
    // The link comes back by itself, since a fault may keep it away.
    reconnect: false,
    timeout: CONNECT_TIMEOUT_MS,
    pingInterval: PING_INTERVAL_MS,
    maxPingOut: MAX_PINGS_OUT,
    ...(user !== undefined && { user }),
    ...(password !== undefined && { pass: password }),
    ...(tls !== undefined && {
      tls: {
        ca: tls.ca,
        ...(tls.certificate !== undefined && { cert: tls.certificate }),
        ...(tls.key !== undefined && { key: tls.key }),
      },
    }),
  };
}
