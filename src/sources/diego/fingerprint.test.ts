import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { ActualLRPSchema, Presence } from "../../gen/bbs/v1/bbs_pb.js";
import { fingerprintOf } from "./fingerprint.js";

const LRP = {
  key: { processGuid: "process", index: 1, domain: "cf-apps" },
  instanceKey: { instanceGuid: "a", cellId: "cell-1" },
  netInfo: { address: "10.0.1.5", ports: [{ containerPort: 8080, hostPort: 61001 }] },
  state: "RUNNING",
  metricTags: { app_id: "shop", app_name: "shop" },
  availabilityZone: "z1",
} satisfies MessageInitShape<typeof ActualLRPSchema>;

const fingerprint = (lrp: MessageInitShape<typeof ActualLRPSchema>) =>
  fingerprintOf(toBinary(ActualLRPSchema, create(ActualLRPSchema, lrp)));

describe("the fingerprint of an actual LRP", () => {
  it("is the same whatever the order of its metric tags, and whatever they say", () => {
    const reordered = { app_name: "shop", app_id: "shop" };
    expect(fingerprint({ ...LRP, metricTags: reordered })).toBe(fingerprint(LRP));
    expect(fingerprint({ ...LRP, metricTags: {} })).toBe(fingerprint(LRP));
  });

  it.each<[string, MessageInitShape<typeof ActualLRPSchema>]>([
    ["another state", { state: "CRASHED" }],
    ["another presence", { presence: Presence.EVACUATING }],
    ["not routable", { routable: false }],
    ["another zone, which comes after the tags", { availabilityZone: "z2" }],
    ["another index", { key: { ...LRP.key, index: 2 } }],
    ["another port", { netInfo: { address: "10.0.1.5", ports: [{ containerPort: 8080, hostPort: 61002 }] } }],
  ])("is another for %s", (_what, change) => {
    expect(fingerprint({ ...LRP, ...change } as typeof LRP)).not.toBe(fingerprint(LRP));
  });

  it("is another for each of 100,000 instances", () => {
    const all = new Set(
      Array.from({ length: 100_000 }, (_, index) =>
        fingerprint({ instanceKey: { instanceGuid: `instance-${index}`, cellId: "cell-1" } }),
      ),
    );
    expect(all.size).toBe(100_000);
  });
});
