import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BulkSyncRequestSchema } from "../../gen/copilot/cloud_controller_pb.js";
import { readBulkItems } from "./bulk-reader.js";

const text = fc.string({ unit: "grapheme", maxLength: 300 });
const bulk = fc.record({
  routes: fc.array(fc.record({ guid: text, host: text, path: text, internal: fc.boolean(), vip: text })),
  routeMappings: fc.array(
    fc.record({ capiProcessGuid: text, routeGuid: text, routeWeight: fc.nat({ max: 0xffff_ffff }) }),
  ),
  capiDiegoProcessAssociations: fc.array(fc.record({ capiProcessGuid: text, diegoProcessGuids: fc.array(text) })),
});

describe("the items of a BulkSyncRequest", () => {
  it("are read as protobuf-es wrote them", () => {
    fc.assert(
      fc.property(bulk, (written) => {
        const bytes = Buffer.from(toBinary(BulkSyncRequestSchema, create(BulkSyncRequestSchema, written)));
        const items = [...readBulkItems(bytes)];
        expect(items.flatMap((item) => (item.kind === "route" ? item.route : []))).toEqual(written.routes);
        expect(items.flatMap((item) => (item.kind === "mapping" ? item.mapping : []))).toEqual(written.routeMappings);
        expect(items.flatMap((item) => (item.kind === "association" ? item.association : []))).toEqual(
          written.capiDiegoProcessAssociations,
        );
      }),
    );
  });

  it("of any other bytes are read, or refused with an error, and never beyond their end", () => {
    const read = (bytes: Uint8Array) => {
      try {
        return [...readBulkItems(Buffer.from(bytes))].length;
      } catch (error) {
        return error instanceof Error;
      }
    };
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => read(bytes) !== false),
      { numRuns: 2_000 },
    );
    // A route of 3 bytes whose guid claims 5: they are the next item's.
    expect(() => [...readBulkItems(Buffer.from([0x12, 3, 0x0a, 5, 1, 0x12, 2, 0x0a, 0]))]).toThrow();
  });
});
