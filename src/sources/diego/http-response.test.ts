import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ProtocolViolation } from "../protocol-violation.js";
import { ChunkedDecoder, HeadDecoder } from "./http-response.js";

/** The bytes cut at any places. */
const cuts = fc.array(fc.nat(), { maxLength: 20 });
function cutAt(bytes: Buffer, places: readonly number[]): readonly Buffer[] {
  const ends = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  return [...ends, bytes.length].map((end, position) => bytes.subarray(ends[position - 1] ?? 0, end));
}

describe("the head of a response", () => {
  it("is read wherever its bytes are cut, and what follows is left to the body", () => {
    const response = Buffer.from(
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nX-Empty:\r\n\r\nbody",
    );
    fc.assert(
      fc.property(cuts, (places) => {
        const decoder = new HeadDecoder();
        const after: Buffer[] = [];
        let status: number | undefined;
        for (const piece of cutAt(response, places)) {
          if (status !== undefined) {
            after.push(piece);
            continue;
          }
          const decoded = decoder.feed(piece);
          if (decoded === undefined) continue;
          status = decoded.head.status;
          expect(decoded.head.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
          expect(decoded.head.headers.get("x-empty")).toBe("");
          after.push(decoded.rest);
        }
        expect(status).toBe(200);
        expect(Buffer.concat(after).toString()).toBe("body");
      }),
    );
  });

  it("is refused when it is no HTTP, or does not end", () => {
    expect(() => new HeadDecoder().feed(Buffer.from("SSH-2.0-OpenSSH\r\n\r\n"))).toThrow(ProtocolViolation);
    expect(() => new HeadDecoder().feed(Buffer.from("HTTP/1.1 200 OK\r\nno colon\r\n\r\n"))).toThrow(ProtocolViolation);
    expect(() => new HeadDecoder().feed(Buffer.alloc(65 * 1024, "x"))).toThrow(ProtocolViolation);
  });
});

describe("a chunked body", () => {
  const framings = fc.constantFrom("", ";", ";name=value", " ; x");

  it("gives its data whatever extensions the chunks have and wherever the bytes are cut", () => {
    const chunks = fc.array(fc.tuple(fc.uint8Array({ minLength: 1, maxLength: 40 }), framings), { maxLength: 10 });
    fc.assert(
      fc.property(chunks, cuts, (parts, places) => {
        const framed = parts.map(([data, extension]) =>
          Buffer.concat([Buffer.from(`${data.length.toString(16)}${extension}\r\n`), data, Buffer.from("\r\n")]),
        );
        const decoder = new ChunkedDecoder();
        const bytes = Buffer.concat([...framed, Buffer.from("0;\r\n\r\n")]);
        const decoded = cutAt(bytes, places).flatMap((piece) => decoder.feed(piece));
        expect(Buffer.concat(decoded)).toEqual(Buffer.concat(parts.map(([data]) => data)));
        expect(decoder.ended).toBe(true);
      }),
    );
  });

  it("gives the beginning of a chunk before its end has come", () => {
    const decoder = new ChunkedDecoder();
    expect(decoder.feed(Buffer.from("a;\r\nhello")).map(String)).toEqual(["hello"]);
    expect(decoder.ended).toBe(false);
  });

  it.each(["zz;\r\n", "\r\n", "123456789;\r\n", "5\n", "3;\r\nabcd\r\n", "x".repeat(2000)])(
    "is refused where the framing is broken: %j",
    (bytes) => {
      expect(() => new ChunkedDecoder().feed(Buffer.from(bytes))).toThrow(ProtocolViolation);
    },
  );
});
