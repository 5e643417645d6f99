import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ActualLRPSchema, ActualLRPsResponseSchema } from "../../gen/bbs/v1/bbs_pb.js";
import { ProtocolViolation } from "../protocol-violation.js";
import { MessageSplitter } from "./message-splitter.js";

describe("a response that is decoded as it comes", () => {
  it("gives each of its messages wherever the bytes are cut", () => {
    const guids = fc.array(fc.string({ maxLength: 300 }), { maxLength: 20 });
    fc.assert(
      fc.property(guids, fc.nat({ max: 200 }), (instanceGuids, pieceBytes) => {
        const response = create(ActualLRPsResponseSchema, {
          actualLrps: instanceGuids.map((instanceGuid) => ({ instanceKey: { instanceGuid } })),
        });
        const bytes = toBinary(ActualLRPsResponseSchema, response);
        const splitter = new MessageSplitter();
        const found: (string | undefined)[] = [];
        for (let offset = 0; offset < bytes.length; offset += pieceBytes + 1) {
          for (const field of splitter.feed(bytes.subarray(offset, offset + pieceBytes + 1))) {
            expect(field.number).toBe(2);
            found.push(fromBinary(ActualLRPSchema, field.bytes).instanceKey?.instanceGuid);
          }
        }
        expect(found).toEqual(instanceGuids);
        expect(splitter.complete).toBe(true);
      }),
    );
  });

  it("skips the scalar fields of a newer version", () => {
    const splitter = new MessageSplitter();
    const scalars = [0x18, 0x96, 0x01, 0x21, 1, 2, 3, 4, 5, 6, 7, 8, 0x2d, 1, 2, 3, 4];
    expect(splitter.feed(Uint8Array.of(...scalars, 0x12, 1, 42))).toEqual([{ number: 2, bytes: Uint8Array.of(42) }]);
    expect(splitter.complete).toBe(true);
  });

  it("is not complete in the middle of a message", () => {
    const splitter = new MessageSplitter();
    expect(splitter.feed(Uint8Array.of(0x12, 5, 1, 2))).toEqual([]);
    expect(splitter.complete).toBe(false);
  });

  it.each([
    ["a field with the number 0", [0x02, 1, 1]],
    ["an unknown wire type", [0x13]],
    ["a message of more than 1 MB", [0x12, 0xff, 0xff, 0xff, 0x0f]],
    ["a number of more than 10 bytes", Array.from({ length: 11 }, () => 0xff)],
  ])("is refused for %s", (_, bytes) => {
    expect(() => new MessageSplitter().feed(Uint8Array.of(...bytes))).toThrow(ProtocolViolation);
  });
});
