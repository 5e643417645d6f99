/** Server-sent events, decoded as bytes come. https://html.spec.whatwg.org/multipage/server-sent-events.html */
import { ProtocolViolation } from "./protocol-violation.js";

const LINE_FEED = 0x0a;

export interface SseFrame {
  /** "" when the frame names none. */
  readonly event: string;
  /** Its data lines, joined by line feeds; "" when there is none. */
  readonly data: string;
}

/**
 * Splits a stream of bytes into frames. Ids are passed over: who is followed so (the BBS, the routing API)
 * counts them from 0 on each connection, and replays nothing.
 */
export class SseDecoder {
  readonly #maxFrameBytes: number;
  /** The begin of a line that goes on: a copy, since a piece of a byte would keep the whole buffer that it came in. */
  #held: Buffer = Buffer.alloc(0);
  #heldBytes = 0;
  #event = "";
  #data: string[] = [];
  #hasFields = false;
  #frameBytes = 0;

  constructor(maxFrameBytes: number) {
    this.#maxFrameBytes = maxFrameBytes;
  }

  /** Returns the frames that these bytes complete. Throws ProtocolViolation for a frame of more than the allowed size. */
  feed(bytes: Buffer): readonly SseFrame[] {
    const frames: SseFrame[] = [];
    let offset = 0;
    while (offset < bytes.length) {
      const lineFeed = bytes.indexOf(LINE_FEED, offset);
      const end = lineFeed < 0 ? bytes.length : lineFeed;
      const piece = bytes.subarray(offset, end);
      this.#frameBytes += end + 1 - offset;
      if (this.#frameBytes > this.#maxFrameBytes) {
        throw new ProtocolViolation(`an event is larger than ${this.#maxFrameBytes} bytes`);
      }
      offset = end + 1;
      if (lineFeed < 0) {
        this.#hold(piece);
        continue;
      }
      const line = this.#endOfLine(piece).toString("utf8");
      this.#takeLine(line.endsWith("\r") ? line.slice(0, -1) : line, frames);
    }
    return frames;
  }

  #hold(piece: Buffer): void {
    const length = this.#heldBytes + piece.length;
    if (length > this.#held.length) {
      const grown = Buffer.allocUnsafeSlow(2 * length);
      this.#held.copy(grown, 0, 0, this.#heldBytes);
      this.#held = grown;
    }
    piece.copy(this.#held, this.#heldBytes);
    this.#heldBytes = length;
  }

  /** The whole line that this piece ends. */
  #endOfLine(piece: Buffer): Buffer {
    if (this.#heldBytes === 0) return piece;
    this.#hold(piece);
    const line = this.#held.subarray(0, this.#heldBytes);
    this.#held = Buffer.alloc(0);
    this.#heldBytes = 0;
    return line;
  }

  #takeLine(line: string, frames: SseFrame[]): void {
    if (line === "") {
      if (this.#hasFields) frames.push({ event: this.#event, data: this.#data.join("\n") });
      this.#event = "";
      this.#data = [];
      this.#hasFields = false;
      this.#frameBytes = 0;
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.#event = value;
    else if (field === "data") this.#data.push(value);
    else return;
    this.#hasFields = true;
  }
}
