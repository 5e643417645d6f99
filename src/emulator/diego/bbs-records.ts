import { randomUUID } from "node:crypto";
import { create, equals, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  type ActualLRP,
  type ActualLRPKey,
  ActualLRPSchema,
  type DesiredLRP,
  DesiredLRPSchema,
  type ModificationTag,
  ModificationTagSchema,
  type Presence,
} from "../../gen/bbs/v1/bbs_pb.js";
import { type ActualChange, actualEvents, type BbsEvent, desiredEvent } from "./bbs-events.js";

/** The domain of everything that Cloud Controller desires. */
export const DOMAIN = "cf-apps";

/** Which record: an index of a process has at most one for each presence. */
export interface ActualKey {
  readonly processGuid: string;
  readonly index: number;
  readonly presence: Presence;
}

/**
 * Records are kept as bytes, so that a million of them fit, and a list of them costs no encoding. Two pieces of one
 * protobuf message in a row are the whole message: what a routing info tells stands apart from the rest.
 */
interface ProcessRecords {
  desired: { readonly routingInfo: Uint8Array; readonly rest: Uint8Array } | undefined;
  readonly actuals: Map<string, Uint8Array>;
}

/** Makes the events of a change. Encoding them is much of its cost, so whoever has nobody to send them to doesn't call it. */
export type MakeEvents = () => readonly BbsEvent[];

/** The BBS's database: what is desired and what is actual. Every change goes to `emit`, as the events that the BBS sends. */
export class BbsRecords {
  readonly #processes = new Map<string, ProcessRecords>();
  readonly #emit: (makeEvents: MakeEvents, processGuids: ReadonlySet<string>) => void;
  /** False: Cloud Controller has not confirmed for a while that what is desired is complete. */
  isDomainFresh = true;

  /** `emit` also hears of which processes the records have changed. */
  constructor(emit: (makeEvents: MakeEvents, processGuids: ReadonlySet<string>) => void) {
    this.#emit = emit;
  }

  /** Of all processes that are desired or actual, in the order in which they came. */
  processGuids(): readonly string[] {
    return [...this.#processes.keys()];
  }

  desired(processGuid: string): DesiredLRP | undefined {
    const bytes = this.desiredBytes(processGuid, "all");
    return bytes && fromBinary(DesiredLRPSchema, bytes);
  }

  /** The bytes of a DesiredLRP: all of it, or the fields of a routing info. */
  desiredBytes(processGuid: string, part: "all" | "routing info"): Uint8Array | undefined {
    const desired = this.#processes.get(processGuid)?.desired;
    return desired && part === "all" ? Buffer.concat([desired.routingInfo, desired.rest]) : desired?.routingInfo;
  }

  /** Creates or changes it; what is already so makes no event. Domain and modification tag are set here. */
  desire(init: MessageInitShape<typeof DesiredLRPSchema> & { processGuid: string }): void {
    const before = this.desired(init.processGuid);
    const after = create(DesiredLRPSchema, { ...init, domain: DOMAIN });
    after.modificationTag = before?.modificationTag ?? newTag();
    if (before !== undefined) {
      if (equals(DesiredLRPSchema, before, after)) return;
      after.modificationTag = nextTag(before.modificationTag);
    }
    this.#recordsOf(init.processGuid).desired = encodeDesired(after);
    this.#emit(() => [desiredEvent(before, after)], new Set([init.processGuid]));
  }

  /** Its actual records stay, until each is removed. */
  removeDesired(processGuid: string): void {
    const before = this.desired(processGuid);
    if (before === undefined) return;
    const records = this.#recordsOf(processGuid);
    records.desired = undefined;
    this.#forgetIfEmpty(processGuid, records);
    this.#emit(() => [desiredEvent(before, undefined)], new Set([processGuid]));
  }

  actual(key: ActualKey): ActualLRP | undefined {
    const bytes = this.#processes.get(key.processGuid)?.actuals.get(slotName(key.index, key.presence));
    return bytes && fromBinary(ActualLRPSchema, bytes);
  }

  /** The bytes of each ActualLRP of a process. */
  actualBytes(processGuid: string): readonly Uint8Array[] {
    return [...(this.#processes.get(processGuid)?.actuals.values() ?? [])];
  }

  actuals(processGuid: string): readonly ActualLRP[] {
    return this.actualBytes(processGuid).map((bytes) => fromBinary(ActualLRPSchema, bytes));
  }

  /** Makes changes that belong together. Modification tags are set here, in the messages that are given. */
  change(changes: readonly ActualChange[], isCrash = false): void {
    for (const { before, after } of changes) {
      // One that keeps its slot keeps its place in the lists.
      const staysThere = before !== undefined && after !== undefined && slotOf(before) === slotOf(after);
      if (before !== undefined && !staysThere) this.#actualsOf(before).delete(slotOf(before));
    }
    for (const { before, after } of changes) {
      if (after === undefined) continue;
      after.modificationTag = before === undefined ? newTag() : nextTag(before.modificationTag);
      this.#actualsOf(after).set(slotOf(after), toBinary(ActualLRPSchema, after));
    }
    const processGuids = new Set(
      changes.flatMap(({ before, after }) => [before, after].flatMap((lrp) => lrp?.key?.processGuid ?? [])),
    );
    for (const processGuid of processGuids) {
      const records = this.#processes.get(processGuid);
      if (records !== undefined) this.#forgetIfEmpty(processGuid, records);
    }
    this.#emit(() => actualEvents(changes, isCrash), processGuids);
  }

  #recordsOf(processGuid: string): ProcessRecords {
    let records = this.#processes.get(processGuid);
    if (records === undefined) {
      records = { desired: undefined, actuals: new Map() };
      this.#processes.set(processGuid, records);
    }
    return records;
  }

  #actualsOf(lrp: ActualLRP): Map<string, Uint8Array> {
    return this.#recordsOf(keyOf(lrp).processGuid).actuals;
  }

  #forgetIfEmpty(processGuid: string, records: ProcessRecords): void {
    if (records.desired === undefined && records.actuals.size === 0) this.#processes.delete(processGuid);
  }
}

const slotName = (index: number, presence: Presence): string => `${index}/${presence}`;
const slotOf = (lrp: ActualLRP): string => slotName(keyOf(lrp).index, lrp.presence);

function keyOf(lrp: ActualLRP): ActualLRPKey {
  if (lrp.key === undefined) throw new Error("an actual LRP without a key");
  return lrp.key;
}

function encodeDesired(lrp: DesiredLRP): { routingInfo: Uint8Array; rest: Uint8Array } {
  const { processGuid, domain, logGuid, instances, routes, modificationTag, metricTags } = lrp;
  const { ports, metricsGuid, annotation, placementTags } = lrp;
  const routingInfo = create(DesiredLRPSchema, {
    ...{ processGuid, domain, logGuid, instances, metricTags },
    ...(routes !== undefined && { routes }),
    ...(modificationTag !== undefined && { modificationTag }),
  });
  const rest = create(DesiredLRPSchema, { ports, metricsGuid, annotation, placementTags });
  return { routingInfo: toBinary(DesiredLRPSchema, routingInfo), rest: toBinary(DesiredLRPSchema, rest) };
}

function newTag(): ModificationTag {
  return create(ModificationTagSchema, { epoch: randomUUID(), index: 0 });
}

function nextTag(tag: ModificationTag | undefined): ModificationTag {
  return create(ModificationTagSchema, { epoch: tag?.epoch ?? randomUUID(), index: (tag?.index ?? 0) + 1 });
}
