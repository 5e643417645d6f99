/**
 * All instances of the foundation, from lists and events. Pure: facts in, moved processes out.
 *
 * Events come in order on one connection, lists on another, so each may be ahead of the other. Where both speak of one
 * instance, the modification tag decides: of one epoch the larger index wins; of two epochs the event wins that came
 * while the list was read, else the list.
 */
import type { Process, ProcessInit } from "../../entries/entries.js";
import { compareText } from "../../lib/compare-text.js";
import type { InstanceEvent, Sighting } from "./bbs-events.js";
import {
  type Description,
  describe,
  isSameServing,
  type SegmentOf,
  servedBy,
  type Tag,
  toInstance,
} from "./description.js";

/** One actual LRP that has an instance. */
interface InstanceRecord extends Omit<Description, "appGuid" | "processGuid"> {
  readonly process: ProcessRecord;
  /** Number of the last list that held it. */
  listed: number;
  /** Number of the list that was last begun when an event last told of it. */
  readonly touched: number;
  /** Of the listed actual LRP that it was read from, or compared with; undefined where an event came later. */
  fingerprint: number | undefined;
}

interface ProcessRecord {
  readonly guid: string;
  /** "" until a list or a created event says it: changed events don't. */
  appGuid: string;
  /** Replaced rather than pushed to: an array that grows takes several times its size. */
  records: readonly InstanceRecord[];
}

interface Tombstone extends Tag {
  readonly touched: number;
}

/** A list while it is read. One that fails is simply left: it changes nothing. */
export interface InstanceList {
  /** Whether the list before held the same, and no event changed it since: it need not be taken. */
  isUnchanged(fingerprint: number): boolean;
  /** @param fingerprint  equal where all but metric tags is; left out, it is always taken. */
  take(sighting: Sighting, fingerprint?: number): void;
  /**
   * Makes the list known, now that it is complete.
   *
   * @param isFresh  whether its domain was fresh before the list was read. Where it was not, an instance that is missing
   *                 is kept: nobody said that it should be gone.
   * Returns  guids of the processes that moved.
   */
  finish(isFresh: boolean): ReadonlySet<string>;
}

export class Instances {
  readonly #processes = new Map<string, ProcessRecord>();
  readonly #records = new Map<string, InstanceRecord>();
  readonly #byFingerprint = new Map<number, InstanceRecord>();
  /** Instances that an event removed: a list that was read before, or an older event, must not bring them back. */
  readonly #removed = new Map<string, Tombstone>();
  /**
   * App guids by process, of actual LRPs that wait for an instance: the events with which it comes will not say it.
   * Those that still wait when a list is read come up in it again.
   */
  readonly #announcedAppGuids = new Map<string, string>();
  /** Of 250,000 instances many share a cell, an address, a version: such strings are kept once. */
  readonly #strings = new Map<string, string>();
  readonly #onLeftOut: (sighting: Sighting) => void;
  #listNumber = 0;

  readonly #segmentOf: SegmentOf;

  /** @param onLeftOut  told of each actual LRP that is none of an app's. */
  constructor(segmentOf: SegmentOf = () => "", onLeftOut: (sighting: Sighting) => void = () => undefined) {
    this.#segmentOf = segmentOf;
    this.#onLeftOut = onLeftOut;
  }

  /** Instances known, those included that take no requests. */
  get instanceCount(): number {
    return this.#records.size;
  }

  processGuids(): IterableIterator<string> {
    return this.#processes.keys();
  }

  /** Returns the guid of the process that moved; undefined when the event says nothing new. */
  apply(event: InstanceEvent): string | undefined {
    switch (event.kind) {
      case "seen": {
        const seen = this.#describe(event.sighting);
        if (seen === undefined) return undefined;
        const known = this.#records.get(seen.guid) ?? this.#removed.get(seen.guid);
        if (known?.epoch === seen.epoch && known.index >= seen.index) return undefined;
        return this.#put(this.#withSharedStrings(seen), { listed: 0, touched: this.#listNumber });
      }
      case "removed": {
        const gone = this.#describe(event.sighting);
        if (gone === undefined) return undefined;
        const known = this.#records.get(gone.guid);
        if (known?.epoch === gone.epoch && known.index > gone.index) return undefined;
        this.#removed.set(gone.guid, { epoch: gone.epoch, index: gone.index, touched: this.#listNumber });
        return known && this.#drop(known);
      }
      case "crashed": {
        // It has no tag, and needs none: an instance that crashed never runs again, its successor has a new guid.
        const known = this.#records.get(event.instanceGuid);
        if (known === undefined) return undefined;
        return this.#put({ ...describedBy(known), served: undefined }, { listed: 0, touched: this.#listNumber });
      }
    }
  }

  /** To be called before the list is asked for. Events go on being applied while it is read. */
  beginList(): InstanceList {
    this.#listNumber += 1;
    const number = this.#listNumber;
    // Only events that overlap with the list before this one may still arrive out of order.
    for (const [guid, tombstone] of this.#removed) if (tombstone.touched < number - 1) this.#removed.delete(guid);
    this.#strings.clear();
    this.#announcedAppGuids.clear();
    const differences: Difference[] = [];
    return {
      isUnchanged: (fingerprint) => {
        const known = this.#byFingerprint.get(fingerprint);
        // Metric tags tell the app, which may have been unknown.
        if (known === undefined || known.process.appGuid === "") return false;
        known.listed = number;
        return true;
      },
      take: (sighting, fingerprint) => {
        const listed = this.#describe(sighting);
        if (listed === undefined) return;
        const known = this.#records.get(listed.guid);
        // Only differences are kept: the list of a foundation at rest costs no memory.
        if (known && isKnown(known, listed)) {
          known.listed = number;
          this.#mark(known, fingerprint);
        } else {
          differences.push({ listed: this.#withSharedStrings(listed), fingerprint });
        }
      },
      finish: (isFresh) => this.#finishList(number, differences, isFresh),
    };
  }

  /** What is known besides actual LRPs changed: each has to be read anew. */
  forgetFingerprints(): void {
    for (const record of this.#byFingerprint.values()) record.fingerprint = undefined;
    this.#byFingerprint.clear();
  }

  /**
   * Makes an entry of an earlier run known again: for a start at which the domain is not fresh, so that no list can say
   * that an instance is gone. Whatever a list or an event says wins over it.
   */
  recall({ processGuid, appGuid, instances }: Process): void {
    for (const instance of instances) {
      const { guid, index: lrpIndex, version } = instance;
      if (this.#records.has(guid) || this.#removed.has(guid)) continue;
      const served = servedBy(instance);
      this.#put(
        { guid, processGuid, appGuid, version, lrpIndex, epoch: "", index: 0, served },
        { listed: 0, touched: 0 },
      );
    }
  }

  /** undefined for a process of which nothing takes requests: it has no entry. */
  entry(processGuid: string): ProcessInit | undefined {
    const process = this.#processes.get(processGuid);
    if (process === undefined) return undefined;
    const instances = process.records.flatMap((record) => (record.served ? [toInstance(record, record.served)] : []));
    if (instances.length === 0) return undefined;
    instances.sort((a, b) => compareText(a.version, b.version) || a.index - b.index || compareText(a.guid, b.guid));
    return { processGuid, appGuid: process.appGuid, instances };
  }

  #finishList(number: number, differences: readonly Difference[], isFresh: boolean): ReadonlySet<string> {
    const moved = new Set<string>();
    const note = (processGuid: string | undefined) => {
      if (processGuid !== undefined) moved.add(processGuid);
    };
    for (const { listed, fingerprint } of differences) {
      const known = this.#records.get(listed.guid);
      const rival = known ?? this.#removed.get(listed.guid);
      if (rival === undefined || listWins(listed, rival, rival.touched >= number)) {
        note(this.#put(listed, { listed: number, touched: rival?.touched ?? 0 }));
        const written = this.#records.get(listed.guid);
        if (written) this.#mark(written, fingerprint);
      } else if (known) {
        known.listed = number;
        // The one thing that changed events don't tell.
        if (learnAppGuid(known.process, listed.appGuid)) note(known.process.guid);
      }
    }
    this.#strings.clear();
    if (!isFresh) return moved;
    for (const record of this.#records.values()) {
      if (record.listed !== number && record.touched < number) note(this.#drop(record));
    }
    return moved;
  }

  #mark(record: InstanceRecord, fingerprint: number | undefined): void {
    this.#unmark(record);
    if (fingerprint === undefined) return;
    record.fingerprint = fingerprint;
    this.#byFingerprint.set(fingerprint, record);
  }

  #unmark(record: InstanceRecord): void {
    const { fingerprint } = record;
    if (fingerprint !== undefined && this.#byFingerprint.get(fingerprint) === record) {
      this.#byFingerprint.delete(fingerprint);
    }
    record.fingerprint = undefined;
  }

  /** undefined for what can take no request, now or later: no instance yet, or none of an app's. */
  #describe(sighting: Sighting): Description | undefined {
    const description = describe(sighting, this.#segmentOf);
    if (description === undefined) this.#onLeftOut(sighting);
    if (description?.guid !== "") return description;
    if (description.appGuid !== "") this.#announcedAppGuids.set(description.processGuid, description.appGuid);
    return undefined;
  }

  #withSharedStrings(description: Description): Description {
    const { processGuid, version, appGuid, served } = description;
    return {
      ...description,
      processGuid: this.#shared(processGuid),
      version: this.#shared(version),
      appGuid: this.#shared(appGuid),
      served: served && {
        ...served,
        address: this.#shared(served.address),
        availabilityZone: this.#shared(served.availabilityZone),
        cellId: this.#shared(served.cellId),
      },
    };
  }

  #shared(text: string): string {
    const known = this.#strings.get(text);
    if (known === undefined) this.#strings.set(text, text);
    return known ?? text;
  }

  /** Returns the guid of its process where the process's entry is another now. */
  #put(description: Description, seen: Pick<InstanceRecord, "listed" | "touched">): string | undefined {
    const { guid, processGuid, version, appGuid, lrpIndex, epoch, index, served } = description;
    const before = this.#records.get(guid);
    const process = this.#processes.get(processGuid) ?? this.#addProcess(processGuid);
    const { listed, touched } = seen;
    const record = { guid, process, version, lrpIndex, epoch, index, served, listed, touched, fingerprint: undefined };
    if (before) this.#unmark(before);
    process.records = [...process.records.filter((sibling) => sibling !== before), record];
    this.#records.set(guid, record);
    this.#removed.delete(guid);
    const learned = learnAppGuid(process, appGuid);
    return learned || !isSameServing(before?.served, served) ? processGuid : undefined;
  }

  #addProcess(guid: string): ProcessRecord {
    const process = { guid, appGuid: this.#announcedAppGuids.get(guid) ?? "", records: [] };
    this.#processes.set(guid, process);
    this.#announcedAppGuids.delete(guid);
    return process;
  }

  /** Returns the guid of its process where the process's entry is another now. */
  #drop(record: InstanceRecord): string | undefined {
    const { process } = record;
    this.#unmark(record);
    this.#records.delete(record.guid);
    process.records = process.records.filter((sibling) => sibling !== record);
    if (process.records.length === 0) this.#processes.delete(process.guid);
    return record.served && process.guid;
  }
}

/** A listed actual LRP that is not known so. */
interface Difference {
  readonly listed: Description;
  readonly fingerprint: number | undefined;
}

function listWins(listed: Tag, known: Tag, isTouched: boolean): boolean {
  if (listed.epoch !== known.epoch) return !isTouched;
  return isTouched ? listed.index > known.index : listed.index >= known.index;
}

function isKnown(record: InstanceRecord, listed: Description): boolean {
  return (
    record.epoch === listed.epoch &&
    record.index === listed.index &&
    (listed.appGuid === "" || record.process.appGuid === listed.appGuid) &&
    isSameServing(record.served, listed.served)
  );
}

function describedBy({ process, guid, version, lrpIndex, epoch, index, served }: InstanceRecord): Description {
  return { guid, processGuid: process.guid, version, appGuid: process.appGuid, lrpIndex, epoch, index, served };
}

/** True where it was not known before. */
function learnAppGuid(process: ProcessRecord, appGuid: string): boolean {
  if (appGuid === "" || appGuid === process.appGuid) return false;
  process.appGuid = appGuid;
  return true;
}
