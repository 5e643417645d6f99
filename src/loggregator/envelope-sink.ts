/** Envelopes to a loggregator agent that may be slow, gone or wrong: nobody ever waits for it, and what is lost is counted. */
import { setTimeout as delay } from "node:timers/promises";
import { Backoff } from "../lib/backoff.js";
import { asError, MeshError } from "../lib/errors.js";
import type { Logger } from "../lib/logger.js";
import { type IngressAgent, type IngressCredentials, IngressStream } from "./ingress-stream.js";

export interface EnvelopeSinkOptions extends IngressAgent {
  /** Asked for each connection. */
  readonly credentials: () => IngressCredentials;
  /** What may wait; envelopes that come beyond it are dropped. */
  readonly bufferBytes: number;
  readonly logger: Logger;
}

export interface EnvelopeSinkStatus {
  /** Envelopes that are on their way or arrived: agents do not say which. */
  readonly sentCount: number;
  readonly lostCount: number;
  /** undefined while all is well. */
  readonly lastError: string | undefined;
}

/** As go-loggregator gathers them: so many, or for so long. */
const BATCH_COUNT = 100;
const BATCH_MS = 100;
/** Far below what an agent takes in one message (4 MB, later ones 10 MB). */
const BATCH_BYTES = 1024 * 1024;
const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 5_000;
/** An agent that takes nothing for so long is gone without a word: another connection is tried. */
const TAKE_TIMEOUT_MS = 10_000;
/** How long what waits may take to be sent at the end. */
const CLOSE_TIMEOUT_MS = 2_000;

export class EnvelopeSink {
  readonly #options: EnvelopeSinkOptions;
  readonly #ending = new AbortController();
  readonly #backoff = new Backoff(FIRST_RETRY_MS, LAST_RETRY_MS);
  /** Those of a batch stay until it was sent. */
  readonly #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #sending: Promise<void> | undefined;
  /** Ends the wait for more that go into the same batch. */
  #sendNow: (() => void) | undefined;
  #stream: IngressStream | undefined;
  #sentCount = 0;
  #lostCount = 0;
  #lastError: string | undefined;

  constructor(options: EnvelopeSinkOptions) {
    this.#options = options;
  }

  get status(): EnvelopeSinkStatus {
    return { sentCount: this.#sentCount, lostCount: this.#lostCount, lastError: this.#lastError };
  }

  /** @param envelope  as of encodeLine. Returns at once. */
  write(envelope: Buffer): void {
    if (this.#waitingBytes + envelope.length > this.#options.bufferBytes) {
      this.#lostCount += 1;
      return;
    }
    this.#waiting.push(envelope);
    this.#waitingBytes += envelope.length;
    if (this.#waiting.length >= BATCH_COUNT) this.#sendNow?.();
    this.#sending ??= this.#sendAll().finally(() => {
      this.#sending = undefined;
    });
  }

  /** Sends what waits, as far as that goes soon. */
  async close(): Promise<void> {
    const { signal } = this.#ending;
    const deadline = setTimeout(() => this.#ending.abort(), CLOSE_TIMEOUT_MS);
    this.#sendNow?.();
    await Promise.race([
      Promise.resolve(this.#sending).then(() => this.#stream?.finish()),
      new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true })),
    ]);
    clearTimeout(deadline);
    this.#ending.abort();
    this.#lostCount += this.#waiting.length;
    this.#waiting.length = 0;
    this.#stream?.close();
  }

  async #sendAll(): Promise<void> {
    const { signal } = this.#ending;
    while (!signal.aborted && this.#waiting.length > 0) {
      await this.#gather();
      try {
        await this.#sendBatch();
      } catch (error) {
        this.#stream?.close();
        this.#tellFailure(asError(error));
        await delay(this.#backoff.next(), undefined, { signal }).catch(() => undefined);
      }
    }
  }

  async #gather(): Promise<void> {
    if (this.#waiting.length >= BATCH_COUNT) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, BATCH_MS);
      this.#sendNow = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#sendNow = undefined;
  }

  async #sendBatch(): Promise<void> {
    if (!this.#stream || this.#stream.isEnded) {
      this.#stream = new IngressStream(this.#options, this.#options.credentials());
    }
    const batch = this.#first();
    const bytes = Buffer.concat(batch);
    await this.#stream.send(bytes, TAKE_TIMEOUT_MS);
    // Whoever waited for it at the end has counted them as lost.
    if (this.#ending.signal.aborted) return;
    this.#waiting.splice(0, batch.length);
    this.#waitingBytes -= bytes.length;
    this.#sentCount += batch.length;
    this.#backoff.reset();
    this.#tellRecovery();
  }

  #first(): readonly Buffer[] {
    let size = 0;
    const end = this.#waiting.findIndex((envelope, place) => {
      size += envelope.length;
      return place === BATCH_COUNT || (place > 0 && size > BATCH_BYTES);
    });
    return this.#waiting.slice(0, end < 0 ? undefined : end);
  }

  #tellFailure(cause: Error): void {
    const isNew = this.#lastError === undefined;
    this.#lastError = cause.message;
    if (!isNew || this.#ending.signal.aborted) return;
    const { address, logger } = this.#options;
    const error = new MeshError(
      "MESH_ACCESS_LOG_LOST",
      `lines for the apps' logs can't be sent to the loggregator agent at ${address} (${cause.message}); those that find no place to wait are lost and counted, requests are served`,
      "check that the agent runs there, that caFile signed its certificate, which has the name serverName, and that it trusts who signed certificateFile; it is tried again by itself",
      { cause },
    );
    logger.error({ target: address }, error.message);
  }

  #tellRecovery(): void {
    if (this.#lastError === undefined) return;
    this.#lastError = undefined;
    this.#options.logger.info({ lostCount: this.#lostCount }, "the loggregator agent takes lines again");
  }
}
