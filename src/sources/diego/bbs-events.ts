/** The BBS's events, as far as they say something about instances. */
import { fromBinary } from "@bufbuild/protobuf";
import {
  type ActualLRP,
  ActualLRPCrashedEventSchema,
  ActualLRPInstanceChangedEventSchema,
  ActualLRPInstanceCreatedEventSchema,
  ActualLRPInstanceRemovedEventSchema,
} from "../../gen/bbs/v1/bbs_pb.js";
import { asError } from "../../lib/errors.js";
import type { SseFrame } from "../sse.js";

/** What is known of an actual LRP at one moment; `metricTags` is empty where the BBS did not say them. */
export type Sighting = Pick<
  ActualLRP,
  | "availabilityZone"
  | "instanceKey"
  | "key"
  | "metricTags"
  | "modificationTag"
  | "netInfo"
  | "presence"
  | "routable"
  | "since"
  | "state"
>;

/** An event that moves an instance. */
export type InstanceEvent =
  | { readonly kind: "seen"; readonly sighting: Sighting }
  | { readonly kind: "removed"; readonly sighting: Sighting }
  | { readonly kind: "crashed"; readonly instanceGuid: string };

export type BbsEvent =
  | InstanceEvent
  /** Of no interest here: what is desired, not what runs. */
  | { readonly kind: "other" }
  | { readonly kind: "unknown" }
  | { readonly kind: "broken"; readonly reason: string };

export function decodeEvent({ event, data }: SseFrame): BbsEvent {
  try {
    return decode(event, data);
  } catch (thrown) {
    return broken(asError(thrown).message);
  }
}

function decode(event: string, data: string): BbsEvent {
  switch (event) {
    case "actual_lrp_instance_created": {
      const { actualLrp } = fromBinary(ActualLRPInstanceCreatedEventSchema, bytesOf(data));
      return actualLrp?.key ? { kind: "seen", sighting: actualLrp } : broken("it names no actual LRP");
    }
    case "actual_lrp_instance_changed": {
      const { key, instanceKey, after } = fromBinary(ActualLRPInstanceChangedEventSchema, bytesOf(data));
      if (!key || !after) return broken("it names no actual LRP");
      const { availabilityZone, modificationTag, netInfo, presence, routable, since, state } = after;
      return {
        kind: "seen",
        sighting: {
          key,
          availabilityZone,
          metricTags: {},
          presence,
          since,
          state,
          ...(instanceKey && { instanceKey }),
          ...(modificationTag && { modificationTag }),
          ...(netInfo && { netInfo }),
          ...(routable !== undefined && { routable }),
        },
      };
    }
    case "actual_lrp_instance_removed": {
      const { actualLrp } = fromBinary(ActualLRPInstanceRemovedEventSchema, bytesOf(data));
      return actualLrp?.key ? { kind: "removed", sighting: actualLrp } : broken("it names no actual LRP");
    }
    case "actual_lrp_crashed": {
      const { instanceKey } = fromBinary(ActualLRPCrashedEventSchema, bytesOf(data));
      return instanceKey ? { kind: "crashed", instanceGuid: instanceKey.instanceGuid } : broken("it names no instance");
    }
    case "desired_lrp_created":
    case "desired_lrp_changed":
    case "desired_lrp_removed":
      return { kind: "other" };
    default:
      return { kind: "unknown" };
  }
}

function broken(reason: string): BbsEvent {
  return { kind: "broken", reason };
}

/** The bytes of an event's data. Throws for what is no base64, which Node's own decoder passes over. */
export function bytesOf(data: string): Buffer {
  if (data === "") throw new Error("it has no data");
  if (data.length % 4 !== 0 || !/^[A-Za-z0-9+/]+={0,2}$/.test(data)) throw new Error("its data is no base64");
  return Buffer.from(data, "base64");
}
