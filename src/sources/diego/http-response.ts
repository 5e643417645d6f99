/**
 * The part of HTTP/1.1 that the BBS's event stream needs, decoded as bytes come. Node's own parser can't read it: the
 * BBS writes its chunks as `<hex length>;\r\n<data>\r\n`, and llhttp rejects the empty chunk extension.
 */
import { ProtocolViolation } from "../protocol-violation.js";

const MAX_HEAD_BYTES = 64 * 1024;
/** The length of a chunk and its extension. */
const MAX_SIZE_LINE_BYTES = 1024;
const LINE_FEED = 0x0a;

export interface ResponseHead {
  readonly status: number;
  /** Names in lower case; the last value where a name comes twice. */
  readonly headers: ReadonlyMap<string, string>;
}

/** Reads up to the empty line that ends a response's head. */
export class HeadDecoder {
  #seen: Buffer = Buffer.alloc(0);

  /**
   * Returns  the head and the bytes of the body that came with it; undefined while the head is not complete.
   * Throws   ProtocolViolation for what is no HTTP/1.1 response, or a head of more than 64 KB.
   */
  feed(bytes: Buffer): { readonly head: ResponseHead; readonly rest: Buffer } | undefined {
    this.#seen = Buffer.concat([this.#seen, bytes]);
    const end = this.#seen.indexOf("\r\n\r\n");
    if (end < 0) {
      if (this.#seen.length > MAX_HEAD_BYTES) throw new ProtocolViolation("the response's head is larger than 64 KB");
      return undefined;
    }
    return { head: parseHead(this.#seen.toString("latin1", 0, end)), rest: this.#seen.subarray(end + 4) };
  }
}

function parseHead(text: string): ResponseHead {
  const [statusLine = "", ...lines] = text.split("\r\n");
  const status = /^HTTP\/1\.[01] (\d{3})(?: |$)/.exec(statusLine)?.[1];
  if (status === undefined) throw new ProtocolViolation("it is no HTTP/1.1 response");
  const headers = new Map<string, string>();
  for (const line of lines) {
    const colon = line.indexOf(":");
    if (colon < 1) throw new ProtocolViolation("a header line has no name");
    headers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
  }
  return { status: Number(status), headers };
}

/** What a chunked body waits for. */
type ChunkState =
  | { readonly at: "size"; readonly line: string }
  | { readonly at: "data"; readonly remaining: number }
  | { readonly at: "dataEnd"; readonly seen: string }
  | { readonly at: "ended" };

/** Takes the chunks' framing off; holds no data back. */
export class ChunkedDecoder {
  #state: ChunkState = { at: "size", line: "" };

  /** True once the last chunk came: the server ended the body on purpose. */
  get ended(): boolean {
    return this.#state.at === "ended";
  }

  /** Returns the data in these bytes, in pieces. Throws ProtocolViolation where the framing is broken. */
  feed(bytes: Buffer): readonly Buffer[] {
    const data: Buffer[] = [];
    let offset = 0;
    while (offset < bytes.length && this.#state.at !== "ended") {
      const state: ChunkState = this.#state;
      if (state.at === "size") {
        const lineFeed = bytes.indexOf(LINE_FEED, offset);
        const end = lineFeed < 0 ? bytes.length : lineFeed;
        const line = state.line + bytes.toString("latin1", offset, end);
        if (line.length > MAX_SIZE_LINE_BYTES) throw new ProtocolViolation("a chunk's size line is too long");
        this.#state = lineFeed < 0 ? { at: "size", line } : afterSizeLine(line);
        offset = end + 1;
      } else if (state.at === "data") {
        const piece = bytes.subarray(offset, offset + state.remaining);
        data.push(piece);
        offset += piece.length;
        const remaining = state.remaining - piece.length;
        this.#state = remaining > 0 ? { at: "data", remaining } : { at: "dataEnd", seen: "" };
      } else {
        const seen = state.seen + String.fromCharCode(bytes[offset] ?? 0);
        offset += 1;
        if (!"\r\n".startsWith(seen)) throw new ProtocolViolation("a chunk is longer than its size says");
        this.#state = seen === "\r\n" ? { at: "size", line: "" } : { at: "dataEnd", seen };
      }
    }
    return data;
  }
}

function afterSizeLine(line: string): ChunkState {
  const size = /^([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r]*)?\r$/.exec(line)?.[1];
  if (size === undefined) throw new ProtocolViolation("a chunk's size is no hexadecimal number");
  const remaining = Number.parseInt(size, 16);
  return remaining === 0 ? { at: "ended" } : { at: "data", remaining };
}
