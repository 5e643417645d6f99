import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import {
  ActualLRPCrashedEventSchema,
  ActualLRPInstanceChangedEventSchema,
  ActualLRPInstanceCreatedEventSchema,
  ActualLRPInstanceRemovedEventSchema,
  Presence,
} from "../../gen/bbs/v1/bbs_pb.js";
import { decodeEvent } from "./bbs-events.js";

function frame<Schema extends DescMessage>(event: string, schema: Schema, message: MessageInitShape<Schema>) {
  return { event, data: Buffer.from(toBinary(schema, create(schema, message))).toString("base64") };
}

const key = { processGuid: "process", index: 3, domain: "cf-apps" };
const instanceKey = { instanceGuid: "instance", cellId: "cell" };

describe("an event of the BBS", () => {
  it("tells a created and a removed actual LRP with all that belongs to it", () => {
    const actualLrp = { key, instanceKey, state: "RUNNING", metricTags: { app_id: "app" } };
    const created = frame("actual_lrp_instance_created", ActualLRPInstanceCreatedEventSchema, { actualLrp });
    const removed = frame("actual_lrp_instance_removed", ActualLRPInstanceRemovedEventSchema, { actualLrp });
    expect(decodeEvent(created)).toMatchObject({ kind: "seen", sighting: actualLrp });
    expect(decodeEvent(removed)).toMatchObject({ kind: "removed", sighting: actualLrp });
  });

  it("tells a changed actual LRP as it is afterwards, routable and zone by their own field numbers", () => {
    const after = {
      state: "RUNNING",
      presence: Presence.EVACUATING,
      routable: false,
      availabilityZone: "z1",
      modificationTag: { epoch: "e", index: 2 },
      netInfo: { address: "10.0.0.1" },
      since: 7n,
    };
    const changed = frame("actual_lrp_instance_changed", ActualLRPInstanceChangedEventSchema, {
      key,
      instanceKey,
      before: { state: "CLAIMED" },
      after,
    });
    expect(decodeEvent(changed)).toMatchObject({ kind: "seen", sighting: { key, instanceKey, ...after } });
  });

  it("tells which instance crashed", () => {
    const crashed = frame("actual_lrp_crashed", ActualLRPCrashedEventSchema, { key, instanceKey });
    expect(decodeEvent(crashed)).toEqual({ kind: "crashed", instanceGuid: "instance" });
  });

  it("is of no interest when it tells what is desired, and unknown when its type is", () => {
    expect(decodeEvent({ event: "desired_lrp_changed", data: "AAAA" })).toEqual({ kind: "other" });
    expect(decodeEvent({ event: "actual_lrp_teleported", data: "AAAA" })).toEqual({ kind: "unknown" });
  });

  it.each([
    ["no data", ""],
    ["no base64", "####"],
    ["base64 of the wrong length", "AAAAA"],
    ["no protobuf", Buffer.from([0xff, 0xff]).toString("base64")],
    ["an event without an actual LRP", Buffer.from([0x12, 0]).toString("base64")],
  ])("is broken with %s", (_, data) => {
    for (const type of ["created", "changed", "removed"]) {
      expect(decodeEvent({ event: `actual_lrp_instance_${type}`, data })).toMatchObject({ kind: "broken" });
    }
  });
});
