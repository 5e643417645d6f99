/** Lines into a file that may be slow, full or gone: nobody ever waits for it, and what it can't take is counted. */
import { constants, write } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { asError, MeshError, systemCode } from "../lib/errors.js";
import type { Logger } from "../lib/logger.js";

export interface LineSinkOptions {
  /** A file, made when missing; or the process's standard output. */
  readonly target: { readonly file: string } | "stdout";
  /** What may wait; lines that come beyond it are dropped. */
  readonly bufferBytes: number;
  readonly logger: Logger;
}

export interface LineSinkStatus {
  readonly writtenCount: number;
  /** Lines that were lost: the file could not be written, or was too slow. */
  readonly lostCount: number;
  /** undefined while all is well. */
  readonly lastError: string | undefined;
}

const CHUNK_BYTES = 1024 * 1024;
/** Until a file that failed is opened anew, and until one that takes nothing now is tried again. */
const RETRY_MS = 1_000;
const FULL_PIPE_MS = 20;
/** How long what waits may take to be written at the end. */
const CLOSE_TIMEOUT_MS = 1_000;
const FILE_MODE = 0o640;
/** A named pipe that nobody reads must not hold up a thread for good. */
const FLAGS = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK;

const STDOUT = 1;

const writeBytes = promisify(write);

export class LineSink {
  readonly #options: LineSinkOptions;
  readonly #ending = new AbortController();
  #waiting: string[] = [];
  #waitingBytes = 0;
  #writing: Promise<void> | undefined;
  #file: FileHandle | undefined;
  /** The file begins anew before the next line. */
  #mustReopen = false;
  /** What was written last has no end of line yet. */
  #isMidLine = false;
  #writtenCount = 0;
  #lostCount = 0;
  #lastError: string | undefined;

  constructor(options: LineSinkOptions) {
    this.#options = options;
  }

  get status(): LineSinkStatus {
    return { writtenCount: this.#writtenCount, lostCount: this.#lostCount, lastError: this.#lastError };
  }

  /** @param line  without its end. Returns at once. */
  write(line: string): void {
    // Characters instead of bytes: near enough for a bound, and known at once.
    const size = line.length + 1;
    if (this.#waitingBytes + size > this.#options.bufferBytes) {
      this.#lostCount += 1;
      return;
    }
    this.#waiting.push(line);
    this.#waitingBytes += size;
    this.#start();
  }

  /** Lets go of the file, for whoever renamed it; the next line goes into a new one. */
  reopen(): void {
    this.#mustReopen = true;
    this.#start();
  }

  /** Writes what waits, as far as that goes soon. */
  async close(): Promise<void> {
    const deadline = setTimeout(() => this.#ending.abort(), CLOSE_TIMEOUT_MS);
    await Promise.race([
      this.#writing,
      new Promise((resolve) => this.#ending.signal.addEventListener("abort", resolve, { once: true })),
    ]);
    clearTimeout(deadline);
    this.#ending.abort();
    this.#lostCount += this.#waiting.length;
    this.#waiting = [];
    await this.#letGo();
  }

  #start(): void {
    this.#writing ??= this.#writeAll().finally(() => {
      this.#writing = undefined;
    });
  }

  async #writeAll(): Promise<void> {
    // Those of the same event come together.
    await new Promise(setImmediate);
    while (!this.#ending.signal.aborted && (this.#waiting.length > 0 || this.#mustReopen)) {
      if (this.#mustReopen) {
        this.#mustReopen = false;
        await this.#letGo();
        continue;
      }
      const lines = this.#take();
      try {
        await this.#writeLines(lines);
        this.#writtenCount += lines.length;
        this.#tellRecovery();
      } catch (error) {
        this.#lostCount += lines.length;
        this.#tellFailure(asError(error));
        await this.#letGo();
        await delay(RETRY_MS, undefined, { signal: this.#ending.signal }).catch(() => undefined);
      }
    }
  }

  #take(): readonly string[] {
    let count = 0;
    let size = 0;
    for (const line of this.#waiting) {
      if (size > CHUNK_BYTES) break;
      count += 1;
      size += line.length + 1;
    }
    this.#waitingBytes -= size;
    return this.#waiting.splice(0, count);
  }

  async #writeLines(lines: readonly string[]): Promise<void> {
    const bytes = Buffer.from(`${this.#isMidLine ? "\n" : ""}${lines.join("\n")}\n`);
    const { target } = this.#options;
    if (target !== "stdout") this.#file ??= await open(target.file, FLAGS, FILE_MODE);
    const descriptor = this.#file?.fd ?? STDOUT;
    for (let done = 0; done < bytes.length;) {
      done += await this.#writeSome(descriptor, bytes.subarray(done));
      this.#isMidLine = done < bytes.length;
    }
  }

  /** Waits while a pipe is full. */
  async #writeSome(descriptor: number, bytes: Buffer): Promise<number> {
    for (;;) {
      try {
        const { bytesWritten } = await writeBytes(descriptor, bytes);
        return bytesWritten;
      } catch (error) {
        if (systemCode(error) !== "EAGAIN") throw error;
        await delay(FULL_PIPE_MS, undefined, { signal: this.#ending.signal });
      }
    }
  }

  async #letGo(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    this.#isMidLine = false;
    await file?.close().catch(() => undefined);
  }

  #tellFailure(cause: Error): void {
    const isNew = this.#lastError === undefined;
    this.#lastError = cause.message;
    if (!isNew || this.#ending.signal.aborted) return;
    const { target, logger } = this.#options;
    const name = target === "stdout" ? "standard output" : target.file;
    const error = new MeshError(
      "MESH_ACCESS_LOG_LOST",
      `the access log can't be written to ${name} (${cause.message}); lines are lost and counted, requests are served`,
      "free space, or mend the owner and mode of the file or its directory; it is tried again each second",
      { cause },
    );
    logger.error({ target: name }, error.message);
  }

  #tellRecovery(): void {
    if (this.#lastError === undefined) return;
    this.#lastError = undefined;
    this.#options.logger.info({ lostCount: this.#lostCount }, "the access log is written again");
  }
}
