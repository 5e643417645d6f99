import { fromBinary, toJson } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { EnvelopeBatchSchema } from "../gen/loggregator/v2/loggregator_pb.js";
import { encodeLine, encodeSource } from "./envelope.js";

it("envelopes one behind the other are a batch", () => {
  const source = encodeSource({ sourceId: "app", instanceId: "2", tags: { source_type: "RTR", app_name: "shop" } });
  const long = "x".repeat(70_000);
  const batch = Buffer.concat([
    encodeLine(source, 1_764_316_534_123_456_789n, "größer"),
    encodeLine(encodeSource({ sourceId: "", instanceId: "", tags: {} }), 0n, long),
  ]);
  expect(toJson(EnvelopeBatchSchema, fromBinary(EnvelopeBatchSchema, batch))).toEqual({
    batch: [
      {
        timestamp: "1764316534123456789",
        sourceId: "app",
        instanceId: "2",
        tags: { source_type: "RTR", app_name: "shop" },
        log: { payload: Buffer.from("größer").toString("base64") },
      },
      { log: { payload: Buffer.from(long).toString("base64") } },
    ],
  });
});
