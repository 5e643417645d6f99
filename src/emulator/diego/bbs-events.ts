/** The BBS's events: their names, their bytes, and which ones a change of records makes. */
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  type ActualLRP,
  ActualLRPCrashedEventSchema,
  type ActualLRPInfoSchema,
  ActualLRPInstanceChangedEventSchema,
  ActualLRPInstanceCreatedEventSchema,
  ActualLRPInstanceRemovedEventSchema,
  type DesiredLRP,
  DesiredLRPChangedEventSchema,
  DesiredLRPCreatedEventSchema,
  DesiredLRPRemovedEventSchema,
} from "../../gen/bbs/v1/bbs_pb.js";

/** One frame of the event stream. */
export interface BbsEvent {
  readonly name: string;
  /** base64 of the protobuf message. */
  readonly data: string;
  /** Of the instance that it is about, empty while no cell has it; undefined for events that every stream gets. */
  readonly cellId: string | undefined;
}

/** A record before and after; undefined where it does not exist. */
export interface ActualChange {
  readonly before: ActualLRP | undefined;
  readonly after: ActualLRP | undefined;
}

export function desiredEvent(before: DesiredLRP | undefined, after: DesiredLRP | undefined): BbsEvent {
  if (before !== undefined && after !== undefined) {
    const bytes = toBinary(DesiredLRPChangedEventSchema, create(DesiredLRPChangedEventSchema, { before, after }));
    return event("desired_lrp_changed", bytes, undefined);
  }
  if (after !== undefined) {
    const created = create(DesiredLRPCreatedEventSchema, { desiredLrp: after });
    return event("desired_lrp_created", toBinary(DesiredLRPCreatedEventSchema, created), undefined);
  }
  if (before === undefined) throw new Error("a desired LRP that neither was nor is");
  const removed = create(DesiredLRPRemovedEventSchema, { desiredLrp: before });
  return event("desired_lrp_removed", toBinary(DesiredLRPRemovedEventSchema, removed), undefined);
}

/**
 * The events of changes that happen together, as the BBS sends them: crashes first, then what leaves an instance
 * running, then the rest. An instance that loses its cell is removed and created, not changed.
 *
 * Source   events/calculator/actual_lrp_event_calculator.go of cloudfoundry/bbs.
 */
export function actualEvents(changes: readonly ActualChange[], isCrash = false): readonly BbsEvent[] {
  const scored = changes.flatMap((change) => eventsOf(change, isCrash));
  return scored.sort((one, other) => other.score - one.score).map(({ event }) => event);
}

interface Scored {
  readonly score: 0 | 1 | 2;
  readonly event: BbsEvent;
}

function eventsOf({ before, after }: ActualChange, isCrash: boolean): readonly Scored[] {
  if (after === undefined) return before === undefined ? [] : [removedEvent(before)];
  if (before === undefined) return [createdEvent(after)];
  const losesItsCell = before.state !== "UNCLAIMED" && after.state === "UNCLAIMED";
  const moved = losesItsCell ? [createdEvent(after), removedEvent(before)] : [changedEvent(before, after)];
  return isCrash ? [crashedEvent(before, after), ...moved] : moved;
}

function createdEvent(actualLrp: ActualLRP): Scored {
  const message = create(ActualLRPInstanceCreatedEventSchema, { actualLrp });
  const bytes = toBinary(ActualLRPInstanceCreatedEventSchema, message);
  return { score: runningScore(actualLrp), event: event("actual_lrp_instance_created", bytes, cellOf(actualLrp)) };
}

function removedEvent(actualLrp: ActualLRP): Scored {
  const message = create(ActualLRPInstanceRemovedEventSchema, { actualLrp });
  const bytes = toBinary(ActualLRPInstanceRemovedEventSchema, message);
  return { score: 0, event: event("actual_lrp_instance_removed", bytes, cellOf(actualLrp)) };
}

function changedEvent(before: ActualLRP, after: ActualLRP): Scored {
  const message = create(ActualLRPInstanceChangedEventSchema, { before: infoOf(before), after: infoOf(after) });
  // A crashed instance has lost its instance key: the event still tells which one it was.
  const { key, instanceKey } = cellOf(after) === "" ? before : after;
  if (key !== undefined) message.key = key;
  if (instanceKey !== undefined) message.instanceKey = instanceKey;
  const bytes = toBinary(ActualLRPInstanceChangedEventSchema, message);
  const cellId = instanceKey?.cellId ?? "";
  return { score: runningScore(after), event: event("actual_lrp_instance_changed", bytes, cellId) };
}

function crashedEvent(before: ActualLRP, after: ActualLRP): Scored {
  const { crashCount, crashReason, since } = after;
  const message = create(ActualLRPCrashedEventSchema, { crashCount, crashReason, since });
  if (before.key !== undefined) message.key = before.key;
  if (before.instanceKey !== undefined) message.instanceKey = before.instanceKey;
  const bytes = toBinary(ActualLRPCrashedEventSchema, message);
  return { score: 2, event: event("actual_lrp_crashed", bytes, cellOf(before)) };
}

function infoOf(lrp: ActualLRP): MessageInitShape<typeof ActualLRPInfoSchema> {
  const { crashCount, crashReason, state, placementError, since, presence, availabilityZone } = lrp;
  return {
    ...{ crashCount, crashReason, state, placementError, since, presence, availabilityZone },
    ...(lrp.netInfo !== undefined && { netInfo: lrp.netInfo }),
    ...(lrp.modificationTag !== undefined && { modificationTag: lrp.modificationTag }),
    ...(lrp.routable !== undefined && { routable: lrp.routable }),
  };
}

const runningScore = (lrp: ActualLRP): 0 | 1 => (lrp.state === "RUNNING" ? 1 : 0);
const cellOf = (lrp: ActualLRP): string => lrp.instanceKey?.cellId ?? "";

function event(name: string, bytes: Uint8Array, cellId: string | undefined): BbsEvent {
  return { name, data: Buffer.from(bytes).toString("base64"), cellId };
}
