import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ProtocolViolation } from "./protocol-violation.js";
import { SseDecoder } from "./sse.js";

function decode(text: string, maxFrameBytes = 1000) {
  return new SseDecoder(maxFrameBytes).feed(Buffer.from(text));
}

describe("the frames of an event stream", () => {
  it("come out wherever their bytes are cut", () => {
    const word = fc.stringMatching(/^[A-Za-z0-9+/=_é]*$/);
    fc.assert(
      fc.property(fc.array(fc.record({ event: word, data: word })), fc.nat({ max: 30 }), (frames, pieceBytes) => {
        const bytes = Buffer.from(
          frames.map(({ event, data }, id) => `id: ${id}\nevent: ${event}\ndata: ${data}\n\n`).join(""),
        );
        const decoder = new SseDecoder(100_000);
        const decoded = [];
        for (let offset = 0; offset < bytes.length; offset += pieceBytes + 1) {
          decoded.push(...decoder.feed(bytes.subarray(offset, offset + pieceBytes + 1)));
        }
        expect(decoded).toEqual(frames);
      }),
    );
  });

  it("join their data lines, and need neither a space after the colon nor a bare line feed", () => {
    expect(decode("event:a\r\ndata:1\r\ndata: 2\r\n\r\n")).toEqual([{ event: "a", data: "1\n2" }]);
  });

  it("tell an event without data, and pass over comments and empty lines", () => {
    expect(decode(": heartbeat\n\n\nid: 7\n\nevent: a\n\nevent: b\ndata\n\n")).toEqual([
      { event: "a", data: "" },
      { event: "b", data: "" },
    ]);
  });

  it("are refused beyond the allowed size, also while they are not complete", () => {
    expect(decode(`data: ${"x".repeat(90)}\n\n`.repeat(50), 100)).toHaveLength(50);
    expect(() => decode(`data: ${"x".repeat(100)}`, 100)).toThrow(ProtocolViolation);
    const decoder = new SseDecoder(100);
    expect(() => {
      for (let line = 0; line < 20; line += 1) decoder.feed(Buffer.from("data: 12345\n"));
    }).toThrow(ProtocolViolation);
  });
});
