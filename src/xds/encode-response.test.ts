import { fromBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DeltaDiscoveryResponseSchema } from "../gen/envoy/service/discovery/v3/discovery_pb.js";
import { encodeResponse } from "./encode-response.js";

const resource = fc.record({
  name: fc.string({ unit: "grapheme", maxLength: 300 }),
  version: fc.string({ maxLength: 20 }),
  body: fc.uint8Array({ maxLength: 20_000 }),
});

describe("a delta response as bytes", () => {
  it("reads as the same response, whatever the names and sizes", () => {
    const response = fc.record({
      typeUrl: fc.string(),
      nonce: fc.string({ minLength: 1 }),
      resources: fc.array(resource, { maxLength: 5 }),
      removedResources: fc.array(fc.string({ unit: "grapheme" })),
    });
    fc.assert(
      fc.property(response, (sent) => {
        const { typeUrl, nonce, resources, removedResources } = fromBinary(
          DeltaDiscoveryResponseSchema,
          encodeResponse(sent),
        );
        const read = resources.map(({ name, version, resource: any }) => {
          expect(any?.typeUrl).toBe(sent.typeUrl);
          return { name, version, body: Uint8Array.from(any?.value ?? []) };
        });
        const { resources: sentResources, ...rest } = sent;
        expect({ typeUrl, nonce, removedResources }).toEqual(rest);
        expect(read).toEqual(sentResources.map(({ body, ...named }) => ({ ...named, body: Uint8Array.from(body) })));
      }),
    );
  });
});
