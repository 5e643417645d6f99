import { randomUUID } from "node:crypto";
import { clone, create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  type ActualLRP,
  ActualLRPSchema,
  type DesiredLRP,
  DesiredLRPSchema,
  ModificationTagSchema,
  Presence,
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
 * Records are kept as bytes, so that a million of them fit, and a list of them costs no encoding. A message in protobuf
 * may be cut between fields: what a routing info holds stands apart, and both parts in a row are the whole.
 */
interface ProcessRecords {
  routingInfo: Uint8Array;
  rest: Uint8Array;
  readonly actuals: Map<string, Uint8Array>;
}

/** The BBS's database: what is desired and what is actual. Every change goes to `emit` as the events that the BBS sends. */
export class BbsRecords {
  readonly #processes = new Map<string, ProcessRecords>();
  readonly #emit: (events: readonly BbsEvent[]) => void;
  /** False: Cloud Controller has not confirmed for a while that what is desired is complete. */
  isDomainFresh = true;

  constructor(emit: (events: readonly BbsEvent[]) => void) {
    this.#emit = emit;
  }

  processGuids(): IterableIterator<string> {
    return this.#processes.keys();
  }

  desired(processGuid: string): DesiredLRP | undefined {
    const records = this.#processes.get(processGuid);
    return records && fromBinary(DesiredLRPSchema, Buffer.concat([records.routingInfo, records.rest]));
  }

  /** The bytes of a DesiredLRP: all of it, or the fields of a routing info. */
  desiredBytes(processGuid: string, part: "all" | "routing info"): Uint8Array | undefined {
    const records = this.#processes.get(processGuid);
    if (records === undefined || part === "routing info") return records?.routingInfo;
    return Buffer.concat([records.routingInfo, records.rest]);
  }

  /** Creates or changes it; what stays as it was makes no event. The modification tag is set here. */
  desire(init: MessageInitShape<typeof DesiredLRPSchema> & { processGuid: string }): void {
    const before = this.desired(init.processGuid);
    const after = create(DesiredLRPSchema, { ...init, domain: DOMAIN });
    after.modificationTag = before?.modificationTag ?? newTag();
    const records = this.#processes.get(init.processGuid);
    let parts = encodeDesired(after);
    if (records === undefined) {
      this.#processes.set(init.processGuid, { ...parts, actuals: new Map() });
    } else {
      if (sameBytes(parts.routingInfo, records.routingInfo) && sameBytes(parts.rest, records.rest)) return;
      after.modificationTag = nextTag(after.modificationTag);
      parts = encodeDesired(after);
      Object.assign(records, parts);
    }
    this.#emit([desiredEvent(before, after)]);
  }

  /** Removes what is desired; its actual records stay until each is removed. */
  removeDesired(processGuid: string): void {
    const before = this.desired(processGuid);
    const records = this.#processes.get(processGuid);
    if (before === undefined || records === undefined) return;
    if (records.actuals.size > 0) throw new Error(`${processGuid} is still running`);
    this.#processes.delete(processGuid);
    this.#emit([desiredEvent(before, undefined)]);
  }
}
