import type { Socket } from "node:net";
import type { BbsEvent } from "./bbs-events.js";
import type { MakeEvents } from "./bbs-records.js";

/** A client that is so many events behind is cut off, as by the BBS. */
const MAX_QUEUED = 1_024;

/** As the BBS sends them; no heartbeat comes later that could show that the connection is alive. */
const RESPONSE_HEAD = [
  "HTTP/1.1 200 OK",
  "Cache-Control: no-cache, no-store, must-revalidate",
  "Connection: keep-alive",
  "Content-Type: text/event-stream; charset=utf-8",
  "Transfer-Encoding: chunked",
  "",
  "",
].join("\r\n");

/**
 * One client of the event stream. Its chunks are written by hand, since the BBS does so, with an empty chunk extension
 * that Node's HTTP parsers refuse: "<length in hex>;".
 */
export class EventStream {
  readonly #socket: Socket;
  readonly #cellId: string;
  readonly #queue: BbsEvent[] = [];
  #isStalled = false;
  #nextId = 0;

  /** `cellId` limits the events about instances to those of one cell; empty: all. */
  constructor(socket: Socket, cellId: string) {
    this.#socket = socket;
    this.#cellId = cellId;
    socket.setNoDelay(true);
    socket.on("drain", () => this.#flush());
    socket.write(RESPONSE_HEAD);
  }

  send(event: BbsEvent): void {
    if (this.#socket.destroyed) return;
    if (this.#cellId !== "" && event.cellId !== undefined && event.cellId !== this.#cellId) return;
    this.#queue.push(event);
    this.#flush();
    if (this.#queue.length > MAX_QUEUED) this.cut();
  }

  /** Writes nothing more, and leaves the connection open, until `isStalled` is false again. */
  stall(isStalled: boolean): void {
    this.#isStalled = isStalled;
    this.#flush();
  }

  cut(): void {
    this.#socket.destroy();
  }

  /** Resolves when all is written, or can't be: the client went away, or the stream is stalled. */
  async drained(): Promise<void> {
    while (this.#queue.length > 0 && !this.#isStalled && !this.#socket.destroyed) {
      await new Promise<void>((resolve) => {
        const done = (): void => {
          this.#socket.off("drain", done).off("close", done);
          resolve();
        };
        this.#socket.on("drain", done).on("close", done);
      });
    }
  }

  #flush(): void {
    if (this.#isStalled) return;
    while (!this.#socket.writableNeedDrain) {
      const event = this.#queue.shift();
      if (event === undefined) return;
      const frame = `id: ${this.#nextId++}\nevent: ${event.name}\ndata: ${event.data}\n\n`;
      this.#socket.write(`${Buffer.byteLength(frame).toString(16)};\r\n${frame}\r\n`);
    }
  }
}

/** Every client of the event stream, and what is done to their events. */
export class EventHub {
  readonly #streams = new Set<EventStream>();
  readonly #held: BbsEvent[] = [];
  #isStalled = false;
  #duplicateCount = 0;
  #reverseCount = 0;

  get streamCount(): number {
    return this.#streams.size;
  }

  subscribe(socket: Socket, cellId: string): void {
    const stream = new EventStream(socket, cellId);
    stream.stall(this.#isStalled);
    this.#streams.add(stream);
    socket.once("close", () => this.#streams.delete(stream));
  }

  emit(makeEvents: MakeEvents): void {
    if (this.#streams.size === 0 && this.#reverseCount === 0) return;
    for (const event of makeEvents()) {
      if (this.#reverseCount > 0) {
        this.#held.push(event);
        if (this.#held.length < this.#reverseCount) continue;
        this.#reverseCount = 0;
        for (const held of this.#held.splice(0).reverse()) this.#send(held);
      } else {
        this.#send(event);
      }
    }
  }

  /** Sends each of the next events twice. */
  duplicateNext(count: number): void {
    this.#duplicateCount = count;
  }

  /** Holds the next events back until they are so many, and sends them last one first. */
  reverseNext(count: number): void {
    this.#reverseCount = count;
  }

  stall(isStalled: boolean): void {
    this.#isStalled = isStalled;
    for (const stream of this.#streams) stream.stall(isStalled);
  }

  cut(): void {
    for (const stream of this.#streams) stream.cut();
  }

  async drained(): Promise<void> {
    await Promise.all([...this.#streams].map((stream) => stream.drained()));
  }

  #send(event: BbsEvent): void {
    const isTwice = this.#duplicateCount > 0;
    if (isTwice) this.#duplicateCount -= 1;
    for (const stream of this.#streams) {
      stream.send(event);
      if (isTwice) stream.send(event);
    }
  }
}
