import { randomUUID } from "node:crypto";
import { clone, create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type ActualLRP,
  type ActualLRPInternalRouteSchema,
  ActualLRPSchema,
  MetricTagValue_DynamicValue,
  type MetricTagValueSchema,
  PreferredAddress,
  Presence,
} from "../../gen/bbs/v1/bbs_pb.js";
import { asError } from "../../lib/errors.js";
import type { Logger } from "../../lib/logger.js";
import type { Reaper } from "../../lib/reaper.js";
import { AppInstance, type OutputLine } from "./app-instance.js";
import { type BbsRecords, DOMAIN } from "./bbs-records.js";
import type { DesiredProcess } from "./diego.js";
import { PortPool } from "./port-pool.js";

export interface CellsOptions {
  /** Address of every cell. */
  readonly host: string;
  /** From SIGTERM to SIGKILL, in milliseconds. */
  readonly stopGraceMs: number;
  /** For an instance to listen on its port, in milliseconds. */
  readonly startTimeoutMs: number;
  /** Pause before the restart after the third crash, in milliseconds; it doubles with each further one. */
  readonly crashBackoffMs: number;
  readonly records: BbsRecords;
  readonly reaper: Reaper;
  readonly logger: Logger;
}

interface Cell {
  readonly id: string;
  readonly zone: string;
}

/** One run of an instance in a cell, from the choice of the cell to the end of its process. */
interface Placement {
  readonly guid: string;
  readonly cell: Cell;
  presence: Presence;
  instance: AppInstance | undefined;
  /** Nobody wants it any more: its record is gone, and its end is no crash. */
  isRetired: boolean;
}

/** An index of a process. */
interface Slot {
  readonly index: number;
  /** The ordinary one; undefined while it waits after crashes. */
  placement: Placement | undefined;
  /** Evacuating and suspect ones, until another runs in their place. */
  readonly outgoing: Placement[];
  restart: NodeJS.Timeout | undefined;
}

interface Running {
  desired: DesiredProcess;
  readonly slots: Map<number, Slot>;
}

/** Instances of a process alternate between them, and an evacuation goes from one to the other. */
const CELLS: readonly [Cell, Cell] = [
  { id: "cell-1", zone: "z1" },
  { id: "cell-2", zone: "z2" },
];

/** Diego's numbers: models/restart_calculator.go and db/sqldb/actual_lrp_db.go of cloudfoundry/bbs. */
const IMMEDIATE_RESTARTS = 3;
const MAX_CRASH_BACKOFF_MS = 16 * 60_000;
const MAX_RESTARTS = 200;
const CRASH_RESET_NS = 5n * 60n * 1_000_000_000n;

/**
 * Runs what is desired as child processes, and tells the records of each step as Diego's cells do: UNCLAIMED, CLAIMED,
 * RUNNING when the first port accepts connections.
 *
 * An instance that shall end gets its SIGTERM and loses its record at the same moment. Diego's cells remove the record
 * when the process has ended, so that routers lead requests to it in between; here an app that finishes what it has, and
 * waits a moment before it closes connections, loses no request.
 */
export class Cells {
  readonly #options: CellsOptions;
  readonly #records: BbsRecords;
  readonly #ports: PortPool;
  readonly #processes = new Map<string, Running>();
  /** Lives of placements that have not ended. */
  readonly #lives = new Map<Placement, Promise<void>>();
  #isClosed = false;

  constructor(options: CellsOptions) {
    this.#options = options;
    this.#records = options.records;
    this.#ports = new PortPool(options.host);
  }

  desire(desired: DesiredProcess): void {
    if (this.#isClosed) throw new Error("the emulated Diego is closed");
    this.#records.desire(desiredRecord(desired));
    const running: Running = this.#processes.get(desired.lrpProcessGuid) ?? { desired, slots: new Map() };
    running.desired = desired;
    this.#processes.set(desired.lrpProcessGuid, running);
    for (const slot of [...running.slots.values()].reverse()) {
      if (slot.index >= desired.instances) this.#removeSlot(running, slot);
    }
    for (let index = 0; index < desired.instances; index++) {
      if (!running.slots.has(index)) this.#addSlot(running, index);
    }
  }

  /** False when it does not run here. */
  remove(lrpProcessGuid: string): boolean {
    const running = this.#processes.get(lrpProcessGuid);
    if (running === undefined) return false;
    this.#records.removeDesired(lrpProcessGuid);
    this.#processes.delete(lrpProcessGuid);
    for (const slot of running.slots.values()) this.#removeSlot(running, slot);
    return true;
  }

  /** Throws a plain Error when there is no such instance, as `replace` and `output` do. */
  restart(lrpProcessGuid: string, index: number): void {
    const { running, slot } = this.#slot(lrpProcessGuid, index);
    this.#removeSlot(running, slot);
    this.#addSlot(running, index);
  }

  /**
   * Makes an instance that runs EVACUATING or SUSPECT, and starts another in the other cell. The old one is removed and
   * stopped when the new one runs or crashes.
   */
  replace(lrpProcessGuid: string, index: number, presence: Presence.EVACUATING | Presence.SUSPECT): void {
    const { running, slot } = this.#slot(lrpProcessGuid, index);
    const old = slot.placement;
    const before = this.#records.actual({ processGuid: lrpProcessGuid, index, presence: Presence.ORDINARY });
    if (old === undefined || before?.state !== "RUNNING") {
      throw new Error(`instance ${index} of ${lrpProcessGuid} does not run`);
    }
    if (slot.outgoing.some((other) => other.presence === presence)) {
      throw new Error(`instance ${index} of ${lrpProcessGuid} is being replaced already`);
    }
    old.presence = presence;
    slot.outgoing.push(old);
    const after = { ...clone(ActualLRPSchema, before), presence };
    this.#records.change([
      { before, after },
      { before: undefined, after: unclaimed(lrpProcessGuid, index) },
    ]);
    this.#place(running, slot, otherCell(old.cell));
  }

  output(lrpProcessGuid: string, index: number): readonly OutputLine[] {
    return this.#slot(lrpProcessGuid, index).slot.placement?.instance?.output ?? [];
  }

  /** Process id of an instance; undefined while it has none. */
  pid(lrpProcessGuid: string, index: number): number | undefined {
    return this.#slot(lrpProcessGuid, index).slot.placement?.instance?.pid;
  }

  /** Stops everything at once, within the grace period given here; records stay as they are. */
  async close(stopGraceMs: number): Promise<void> {
    this.#isClosed = true;
    for (const { slots } of this.#processes.values()) for (const slot of slots.values()) clearTimeout(slot.restart);
    const lives = [...this.#lives];
    for (const [placement] of lives) {
      placement.isRetired = true;
      void placement.instance?.stop(stopGraceMs);
    }
    await Promise.all(lives.map(([, life]) => life));
  }

  #slot(lrpProcessGuid: string, index: number): { running: Running; slot: Slot } {
    const running = this.#processes.get(lrpProcessGuid);
    const slot = running?.slots.get(index);
    if (running === undefined || slot === undefined) {
      throw new Error(`no instance ${index} of ${lrpProcessGuid} runs here`);
    }
    return { running, slot };
  }

  #addSlot(running: Running, index: number): void {
    const slot: Slot = { index, placement: undefined, outgoing: [], restart: undefined };
    running.slots.set(index, slot);
    this.#records.change([{ before: undefined, after: unclaimed(running.desired.lrpProcessGuid, index) }]);
    this.#place(running, slot, index % 2 === 0 ? CELLS[0] : CELLS[1]);
  }

  #removeSlot(running: Running, slot: Slot): void {
    running.slots.delete(slot.index);
    clearTimeout(slot.restart);
    for (const placement of slot.outgoing.splice(0)) this.#retire(running, slot, placement);
    if (slot.placement !== undefined) this.#retire(running, slot, slot.placement);
    else this.#removeRecord(running, slot, Presence.ORDINARY);
  }

  #retire(running: Running, slot: Slot, placement: Placement): void {
    placement.isRetired = true;
    void placement.instance?.stop(this.#options.stopGraceMs);
    this.#removeRecord(running, slot, placement.presence);
  }

  #removeRecord(running: Running, slot: Slot, presence: Presence): void {
    const before = this.#record(running, slot, presence);
    if (before !== undefined) this.#records.change([{ before, after: undefined }]);
  }

  #record(running: Running, slot: Slot, presence: Presence): ActualLRP | undefined {
    return this.#records.actual({ processGuid: running.desired.lrpProcessGuid, index: slot.index, presence });
  }

  /** The ordinary record of a slot is UNCLAIMED when this is called. */
  #place(running: Running, slot: Slot, cell: Cell): void {
    const placement: Placement = {
      guid: randomUUID(),
      cell,
      presence: Presence.ORDINARY,
      instance: undefined,
      isRetired: false,
    };
    slot.placement = placement;
    const life = this.#live(running, slot, placement).finally(() => this.#lives.delete(placement));
    this.#lives.set(placement, life);
  }

  async #live(running: Running, slot: Slot, placement: Placement): Promise<void> {
    const hostPorts: number[] = [];
    try {
      const reason = await this.#run(running, slot, placement, hostPorts);
      if (!placement.isRetired) this.#ended(running, slot, placement, reason);
    } finally {
      for (const port of hostPorts) this.#ports.release(port);
    }
  }

  /** Returns why it ended. `hostPorts` are those that it took. */
  async #run(running: Running, slot: Slot, placement: Placement, hostPorts: number[]): Promise<string> {
    const { desired } = running;
    const { host, reaper, startTimeoutMs, stopGraceMs } = this.#options;
    try {
      while (hostPorts.length < desired.ports.length) hostPorts.push(await this.#ports.take());
    } catch (error) {
      return asError(error).message;
    }
    if (isRetired(placement)) return "";
    this.#change(running, slot, (lrp) => {
      lrp.state = "CLAIMED";
      lrp.instanceKey = instanceKey(placement);
    });
    const { guid } = placement;
    const instance = new AppInstance({ process: desired, index: slot.index, guid, host, hostPorts, reaper });
    placement.instance = instance;
    const isAccepting = await instance.whenAccepting(startTimeoutMs);
    if (isRetired(placement)) {
      await instance.exited;
      return "";
    }
    if (!isAccepting) {
      const timedOut = `Instance never healthy after ${startTimeoutMs} ms: port ${hostPorts[0] ?? ""} does not accept`;
      const isUp = Symbol("up");
      const ended = await Promise.race([instance.exited, Promise.resolve(isUp)]);
      if (typeof ended === "string") return ended;
      await instance.stop(stopGraceMs);
      return timedOut;
    }
    this.#runs(running, slot, placement, hostPorts);
    return await instance.exited;
  }

  #runs(running: Running, slot: Slot, placement: Placement, hostPorts: readonly number[]): void {
    const { desired } = running;
    const { host } = this.#options;
    const before = this.#record(running, slot, Presence.ORDINARY);
    if (before === undefined) throw new Error(`no record of instance ${slot.index} of ${desired.lrpProcessGuid}`);
    const after = create(ActualLRPSchema, {
      ...clone(ActualLRPSchema, before),
      state: "RUNNING",
      since: nowNs(),
      netInfo: {
        address: host,
        instanceAddress: host,
        preferredAddress: PreferredAddress.HOST,
        ports: desired.ports.map((containerPort, position) => ({ containerPort, hostPort: hostPorts[position] ?? 0 })),
      },
      internalRoutes: internalRoutes(desired),
      metricTags: metricTags(desired, slot.index, placement.guid),
      routable: true,
      availabilityZone: placement.cell.zone,
    });
    const outgoing = slot.outgoing.splice(0);
    // A suspect one goes in the same step, an evacuating one when its cell hears of it: both after the new one runs.
    const suspects = outgoing.filter(({ presence }) => presence === Presence.SUSPECT);
    this.#records.change([
      { before, after },
      ...suspects.map(({ presence }) => ({ before: this.#record(running, slot, presence), after: undefined })),
    ]);
    for (const old of outgoing) this.#retire(running, slot, old);
  }

  /** A process ended that nobody had told to. */
  #ended(running: Running, slot: Slot, placement: Placement, reason: string): void {
    const { desired } = running;
    const { logger, crashBackoffMs } = this.#options;
    const position = slot.outgoing.indexOf(placement);
    if (position >= 0) {
      slot.outgoing.splice(position, 1);
      this.#removeRecord(running, slot, placement.presence);
      return;
    }
    const before = this.#record(running, slot, Presence.ORDINARY);
    if (before === undefined) throw new Error(`no record of instance ${slot.index} of ${desired.lrpProcessGuid}`);
    const since = nowNs();
    const wasStable = before.state === "RUNNING" && since - before.since >= CRASH_RESET_NS;
    const crashCount = wasStable ? 1 : before.crashCount + 1;
    const restartsNow = crashCount < IMMEDIATE_RESTARTS;
    const after = create(ActualLRPSchema, {
      ...clone(ActualLRPSchema, before),
      state: restartsNow ? "UNCLAIMED" : "CRASHED",
      instanceKey: {},
      netInfo: {},
      crashCount,
      crashReason: reason,
      since,
    });
    slot.placement = undefined;
    this.#records.change([{ before, after }], true);
    for (const old of slot.outgoing.splice(0)) this.#retire(running, slot, old);
    const { guid } = placement;
    logger.info({ lrpProcessGuid: desired.lrpProcessGuid, index: slot.index, guid, crashCount, reason }, "app crashed");
    if (restartsNow) this.#place(running, slot, otherCell(placement.cell));
    else if (crashCount < MAX_RESTARTS) {
      const pauseMs = Math.min(MAX_CRASH_BACKOFF_MS, crashBackoffMs * 2 ** (crashCount - IMMEDIATE_RESTARTS));
      slot.restart = setTimeout(() => {
        this.#change(running, slot, (lrp) => {
          lrp.state = "UNCLAIMED";
          lrp.since = nowNs();
        });
        this.#place(running, slot, otherCell(placement.cell));
      }, pauseMs);
    }
  }

  /** Changes the ordinary record of a slot. */
  #change(running: Running, slot: Slot, change: (lrp: ActualLRP) => void): void {
    const before = this.#record(running, slot, Presence.ORDINARY);
    if (before === undefined) return;
    const after = clone(ActualLRPSchema, before);
    change(after);
    this.#records.change([{ before, after }]);
  }
}
