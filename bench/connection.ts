/** A client that costs little, so that what it measures is the router: HTTP/1.1 by hand on one kept connection. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";

export interface Answer {
  readonly status: number;
  readonly body: string;
}

const ANSWER_TIMEOUT_MS = 30_000;
/** Between questions for a change: short beside what is measured, long enough to leave the router alone. */
const QUESTION_PAUSE_MS = 1;

const START_PAUSE_MS = 5;

const END_OF_HEAD = "\r\n\r\n";

/** One request at a time; each answer must have a content-length. */
export class Connection {
  readonly #socket: Socket;
  readonly #signal: AbortSignal;
  readonly #abort: () => void;
  #received = "";
  #waiting: { resolve: (answer: Answer) => void; reject: (error: Error) => void } | undefined;
  #failure: Error | undefined;

  /** Throws when nobody listens there. Ends when the signal aborts. */
  static async open(port: number, signal: AbortSignal): Promise<Connection> {
    signal.throwIfAborted();
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    await once(socket, "connect", { signal }).catch((error: unknown) => {
      socket.destroy();
      throw error;
    });
    return new Connection(socket, signal);
  }

  private constructor(socket: Socket, signal: AbortSignal) {
    this.#socket = socket;
    this.#signal = signal;
    this.#abort = () => socket.destroy(new Error("interrupted"));
    signal.addEventListener("abort", this.#abort, { once: true });
    socket.setEncoding("latin1");
    socket.setTimeout(ANSWER_TIMEOUT_MS, () => {
      if (this.#waiting) socket.destroy(new Error(`no answer within ${ANSWER_TIMEOUT_MS} ms`));
    });
    socket.on("data", (text: string) => this.#receive(text));
    socket.on("error", (error) => this.#fail(error));
    socket.on("close", () => this.#fail(new Error("the connection was closed")));
  }

  /** `headers`: whole lines, without their ends. */
  async get(host: string, headers: readonly string[] = []): Promise<Answer> {
    return new Promise((resolve, reject) => {
      if (this.#failure) {
        reject(this.#failure);
        return;
      }
      this.#waiting = { resolve, reject };
      this.#socket.write(["GET / HTTP/1.1", `host: ${host}`, ...headers].join("\r\n") + END_OF_HEAD);
    });
  }

  /** Asks until the answer is accepted. Throws with the last one when that takes longer than `timeoutMs`. */
  async until(
    host: string,
    timeoutMs: number,
    isAccepted: (answer: Answer) => boolean,
    headers: readonly string[] = [],
  ): Promise<Answer> {
    const deadlineMs = performance.now() + timeoutMs;
    for (;;) {
      const answer = await this.get(host, headers);
      if (isAccepted(answer)) return answer;
      if (performance.now() > deadlineMs) {
        throw new Error(`${host}: after ${timeoutMs} ms still ${answer.status} ${answer.body.trim()}`);
      }
      await delay(QUESTION_PAUSE_MS, undefined, { signal: this.#signal });
    }
  }

  close(): void {
    this.#signal.removeEventListener("abort", this.#abort);
    this.#socket.destroy();
  }

  #receive(text: string): void {
    this.#received += text;
    const headEnd = this.#received.indexOf(END_OF_HEAD);
    if (headEnd < 0) return;
    const length = /^content-length: (\d+)/im.exec(this.#received)?.[1];
    if (length === undefined) {
      this.#socket.destroy(new Error(`an answer without content-length: ${this.#received.slice(0, headEnd)}`));
      return;
    }
    const bodyStart = headEnd + END_OF_HEAD.length;
    const end = bodyStart + Number(length);
    if (this.#received.length < end) return;
    // "HTTP/1.1 200 …"
    const answer = { status: Number(this.#received.slice(9, 12)), body: this.#received.slice(bodyStart, end) };
    this.#received = this.#received.slice(end);
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.resolve(answer);
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#waiting?.reject(this.#failure);
    this.#waiting = undefined;
  }
}

export const isServed = ({ status }: Answer): boolean => status === 200;

/** Asks on new connections until the host is served, from before anyone listens on. Throws when the signal aborts. */
export async function untilServed(port: number, host: string, signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    const connection = await Connection.open(port, signal).catch(() => undefined);
    try {
      if (connection && isServed(await connection.get(host))) return;
    } catch {
      // It listens, and is not ready yet.
    } finally {
      connection?.close();
    }
    await delay(START_PAUSE_MS, undefined, { signal });
  }
}

/**
 * Asks each host once, `concurrency` at a time; each must be served, or answered with another status that is expected.
 *
 * Returns  what each took, in milliseconds.
 */
export async function hitEach(
  port: number,
  hosts: readonly string[],
  concurrency: number,
  signal: AbortSignal,
  { headers = [], status = 200 }: { readonly headers?: readonly string[]; readonly status?: number } = {},
): Promise<readonly number[]> {
  const tookMs: number[] = [];
  const rest = hosts.values();
  async function work(): Promise<void> {
    const connection = await Connection.open(port, signal);
    try {
      for (const host of rest) {
        const startedMs = performance.now();
        const answer = await connection.get(host, headers);
        tookMs.push(performance.now() - startedMs);
        if (answer.status !== status) throw new Error(`${host}: ${answer.status} ${answer.body.trim()}`);
      }
    } finally {
      connection.close();
    }
  }
  await Promise.all(Array.from({ length: concurrency }, work));
  return tookMs;
}
