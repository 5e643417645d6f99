/** The BBS's events, as far as they say what is desired. */
import { fromBinary } from "@bufbuild/protobuf";
import {
  type DesiredLRP,
  DesiredLRPChangedEventSchema,
  DesiredLRPCreatedEventSchema,
  DesiredLRPRemovedEventSchema,
} from "../../gen/bbs/v1/bbs_pb.js";
import { asError } from "../../lib/errors.js";
import { bytesOf } from "./bbs-events.js";
import type { SseFrame } from "../sse.js";

export type DesiredEvent =
  | { readonly kind: "created"; readonly lrp: DesiredLRP }
  | { readonly kind: "changed"; readonly before: DesiredLRP; readonly lrp: DesiredLRP }
  | { readonly kind: "removed"; readonly lrp: DesiredLRP };

/**
 * Returns  undefined for all other events.
 * Throws   an Error that says why it can't be decoded.
 */
export function decodeDesiredEvent({ event, data }: SseFrame): DesiredEvent | undefined {
  try {
    return decode(event, data);
  } catch (thrown) {
    throw new Error(`${event}: ${asError(thrown).message}`, { cause: thrown });
  }
}

function decode(event: string, data: string): DesiredEvent | undefined {
  switch (event) {
    case "desired_lrp_created":
      return { kind: "created", lrp: named(fromBinary(DesiredLRPCreatedEventSchema, bytesOf(data)).desiredLrp) };
    case "desired_lrp_changed": {
      const { before, after } = fromBinary(DesiredLRPChangedEventSchema, bytesOf(data));
      return { kind: "changed", before: named(before), lrp: named(after) };
    }
    case "desired_lrp_removed":
      return { kind: "removed", lrp: named(fromBinary(DesiredLRPRemovedEventSchema, bytesOf(data)).desiredLrp) };
    default:
      return undefined;
  }
}

function named(lrp: DesiredLRP | undefined): DesiredLRP {
  if (lrp === undefined || lrp.processGuid === "") throw new Error("it names no desired LRP");
  return lrp;
}
