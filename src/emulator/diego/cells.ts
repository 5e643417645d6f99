import { randomUUID } from "node:crypto";
import { clone } from "@bufbuild/protobuf";
import { type ActualLRP, ActualLRPSchema, Presence } from "../../gen/bbs/v1/bbs_pb.js";
import { asError } from "../../lib/errors.js";
import type { Logger } from "../../lib/logger.js";
import type { Reaper } from "../../lib/reaper.js";
import type { AppLogs } from "../logs.js";
import { AppInstance, type OutputLine } from "./app-instance.js";
import type { BbsRecords } from "./bbs-records.js";
import type { DesiredProcess } from "./diego.js";
import {
  type Cell,
  cellFor,
  claimedLrp,
  desiredLrp,
  homelessLrp,
  nowNs,
  otherCell,
  runningLrp,
  unclaimedLrp,
} from "./lrp.js";
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
  /** From the start of a replacement until the cell of the old instance hears of it, in milliseconds. */
  readonly cellPollMs: number;
  readonly records: BbsRecords;
  readonly reaper: Reaper;
  /** Gets what every instance writes. */
  readonly logs: AppLogs;
  readonly logger: Logger;
}

/** One run of an instance in a cell, from the choice of the cell to the end of its process. */
interface Placement {
  readonly guid: string;
  readonly cell: Cell;
  presence: Presence;
  instance: AppInstance | undefined;
  /** Nobody wants it any more: its record is gone, and its end is no crash. */
  isRetired: boolean;
  /** Of an outgoing one whose replacement runs. */
  retirement: NodeJS.Timeout | undefined;
}

/** An index of a process. */
interface Slot {
  readonly running: Running;
  readonly index: number;
  /** The ordinary one; undefined while it waits after crashes. */
  placement: Placement | undefined;
  /** Evacuating and suspect ones, until another runs in their place. */
  outgoing: readonly Placement[];
  restart: NodeJS.Timeout | undefined;
}

interface Running {
  desired: DesiredProcess;
  readonly slots: Map<number, Slot>;
}

/** Diego's numbers: models/restart_calculator.go and db/sqldb/actual_lrp_db.go of cloudfoundry/bbs. */
const FIRST_BACKED_OFF_CRASH = 3;
const MAX_CRASH_BACKOFF_MS = 16 * 60_000;
const MAX_CRASHES = 200;
const CRASH_RESET_NS = 5n * 60n * 1_000_000_000n;

/**
 * Runs what is desired as child processes, and tells the records of each step as Diego's cells do: UNCLAIMED, CLAIMED,
 * RUNNING when the first port accepts connections.
 *
 * An instance that shall end gets its SIGTERM and loses its record at the same moment. Diego's cells remove the record
 * when the process has ended, so that routers still lead requests to it in between; here an app that finishes what it
 * has, and waits a moment before it closes connections, loses no request.
 */
export class Cells {
  readonly #options: CellsOptions;
  readonly #records: BbsRecords;
  readonly #ports: PortPool;
  readonly #processes = new Map<string, Running>();
  /** Placements that have not ended. */
  readonly #lives = new Map<Placement, Promise<void>>();
  #isClosed = false;

  constructor(options: CellsOptions) {
    this.#options = options;
    this.#records = options.records;
    this.#ports = new PortPool(options.host);
  }

  desire(desired: DesiredProcess): void {
    if (this.#isClosed) throw new Error("the emulated Diego is closed");
    this.#records.desire(desiredLrp(desired));
    const running: Running = this.#processes.get(desired.lrpProcessGuid) ?? { desired, slots: new Map() };
    running.desired = desired;
    this.#processes.set(desired.lrpProcessGuid, running);
    for (const slot of [...running.slots.values()].reverse()) {
      if (slot.index >= desired.instances) this.#removeSlot(slot);
    }
    for (let index = 0; index < desired.instances; index++) {
      if (!running.slots.has(index)) this.#addSlot(running, index);
    }
  }

  /** Returns false when it does not run here. */
  remove(lrpProcessGuid: string): boolean {
    const running = this.#processes.get(lrpProcessGuid);
    if (running === undefined) return false;
    this.#records.removeDesired(lrpProcessGuid);
    this.#processes.delete(lrpProcessGuid);
    for (const slot of [...running.slots.values()]) this.#removeSlot(slot);
    return true;
  }

  /** Whether it has child processes here: synthetic ones have none. */
  runs(lrpProcessGuid: string): boolean {
    return this.#processes.has(lrpProcessGuid);
  }

  /** Throws a plain Error when there is no such instance, as `replace`, `output` and `pid` do. */
  restart(lrpProcessGuid: string, index: number): void {
    const { running } = this.#removeSlot(this.#slot(lrpProcessGuid, index));
    this.#addSlot(running, index);
  }

  /**
   * Makes an instance that runs EVACUATING or SUSPECT, and starts another in the other cell. When the new one runs, the
   * record of a suspect one goes in the same step; that of an evacuating one goes, and both are stopped, when their cell
   * hears of it. All of this happens at once when the new one has crashed too often to be started again.
   */
  replace(lrpProcessGuid: string, index: number, presence: Presence.EVACUATING | Presence.SUSPECT): void {
    const slot = this.#slot(lrpProcessGuid, index);
    const old = slot.placement;
    const before = this.#record(slot, Presence.ORDINARY);
    if (old === undefined || before?.state !== "RUNNING" || slot.outgoing.some((one) => one.presence === presence)) {
      throw new Error(`instance ${index} of ${lrpProcessGuid} does not run, or is being replaced already`);
    }
    old.presence = presence;
    slot.outgoing = [...slot.outgoing, old];
    const after = clone(ActualLRPSchema, before);
    after.presence = presence;
    this.#records.change([
      { before, after },
      { before: undefined, after: unclaimedLrp(lrpProcessGuid, index) },
    ]);
    this.#place(slot, otherCell(old.cell));
  }

  /** The last lines that an instance wrote, oldest first. */
  output(lrpProcessGuid: string, index: number): readonly OutputLine[] {
    return this.#slot(lrpProcessGuid, index).placement?.instance?.output ?? [];
  }

  /** Process id of an instance; undefined while it has none. */
  pid(lrpProcessGuid: string, index: number): number | undefined {
    return this.#slot(lrpProcessGuid, index).placement?.instance?.pid;
  }

  /** Stops everything at once, with this grace period; records stay as they are. */
  async close(stopGraceMs: number): Promise<void> {
    this.#isClosed = true;
    for (const { slots } of this.#processes.values()) for (const slot of slots.values()) clearTimeout(slot.restart);
    const lives = [...this.#lives];
    for (const [placement] of lives) {
      clearTimeout(placement.retirement);
      placement.isRetired = true;
      void placement.instance?.stop(stopGraceMs);
    }
    await Promise.all(lives.map(([, life]) => life));
  }

  #slot(lrpProcessGuid: string, index: number): Slot {
    const slot = this.#processes.get(lrpProcessGuid)?.slots.get(index);
    if (slot === undefined) throw new Error(`no instance ${index} of ${lrpProcessGuid} runs here`);
    return slot;
  }

  #addSlot(running: Running, index: number): void {
    const slot: Slot = { running, index, placement: undefined, outgoing: [], restart: undefined };
    running.slots.set(index, slot);
    this.#records.change([{ before: undefined, after: unclaimedLrp(running.desired.lrpProcessGuid, index) }]);
    this.#place(slot, cellFor(index));
  }

  #removeSlot(slot: Slot): Slot {
    slot.running.slots.delete(slot.index);
    clearTimeout(slot.restart);
    this.#retireOutgoing(slot);
    if (slot.placement === undefined) this.#removeRecord(slot, Presence.ORDINARY);
    else this.#retire(slot, slot.placement);
    return slot;
  }

  #retire(slot: Slot, placement: Placement): void {
    clearTimeout(placement.retirement);
    placement.isRetired = true;
    void placement.instance?.stop(this.#options.stopGraceMs);
    this.#removeRecord(slot, placement.presence);
  }

  #retireOutgoing(slot: Slot): void {
    const { outgoing } = slot;
    slot.outgoing = [];
    for (const placement of outgoing) this.#retire(slot, placement);
  }

  #removeRecord(slot: Slot, presence: Presence): void {
    const before = this.#record(slot, presence);
    if (before !== undefined) this.#records.change([{ before, after: undefined }]);
  }

  #record({ running, index }: Slot, presence: Presence): ActualLRP | undefined {
    return this.#records.actual({ processGuid: running.desired.lrpProcessGuid, index, presence });
  }

  #ordinaryRecord(slot: Slot): ActualLRP {
    const record = this.#record(slot, Presence.ORDINARY);
    if (record !== undefined) return record;
    throw new Error(`no record of instance ${slot.index} of ${slot.running.desired.lrpProcessGuid}`);
  }

  /** The ordinary record of the slot is UNCLAIMED when this is called. */
  #place(slot: Slot, cell: Cell): void {
    const guid = randomUUID();
    const placement: Placement = {
      ...{ guid, cell, presence: Presence.ORDINARY, instance: undefined },
      ...{ isRetired: false, retirement: undefined },
    };
    slot.placement = placement;
    const life = this.#live(slot, placement).finally(() => this.#lives.delete(placement));
    this.#lives.set(placement, life);
  }

  async #live(slot: Slot, placement: Placement): Promise<void> {
    const hostPorts: number[] = [];
    try {
      const reason = await this.#run(slot, placement, hostPorts);
      if (!placement.isRetired) this.#ended(slot, placement, reason);
    } finally {
      for (const port of hostPorts) this.#ports.release(port);
    }
  }

  /** Returns why it ended. Adds the ports that it takes to `hostPorts`. */
  async #run(slot: Slot, placement: Placement, hostPorts: number[]): Promise<string> {
    const { running, index } = slot;
    const { host, reaper, logs, startTimeoutMs, stopGraceMs } = this.#options;
    const process = running.desired;
    try {
      while (hostPorts.length < process.ports.length) hostPorts.push(await this.#ports.take());
      if (placement.isRetired) return "";
      const before = this.#ordinaryRecord(slot);
      this.#records.change([{ before, after: claimedLrp(before, placement) }]);
      placement.instance = new AppInstance({ process, index, guid: placement.guid, host, hostPorts, reaper, logs });
    } catch (error) {
      return asError(error).message;
    }
    const { instance } = placement;
    const timeoutMs = process.healthCheck?.timeoutMs ?? startTimeoutMs;
    const beginning = await instance.whenAccepting(timeoutMs);
    if (beginning === "timeout") {
      await instance.stop(stopGraceMs);
      return `Instance never healthy after ${timeoutMs} ms: ${complaint(process)}`;
    }
    if (beginning === "accepting" && !hasRetired(placement)) this.#runs(slot, placement, hostPorts);
    return await instance.exited;
  }

  #runs(slot: Slot, placement: Placement, hostPorts: readonly number[]): void {
    const { guid, cell } = placement;
    const { desired } = slot.running;
    const ports = desired.ports.map((containerPort, position) => ({
      containerPort,
      hostPort: hostPorts[position] ?? 0,
    }));
    const before = this.#ordinaryRecord(slot);
    const after = runningLrp(before, desired, { guid, cell, address: this.#options.host, ports });
    const suspect = this.#record(slot, Presence.SUSPECT);
    this.#records.change([{ before, after }, ...(suspect ? [{ before: suspect, after: undefined }] : [])]);
    for (const old of slot.outgoing) {
      old.retirement ??= setTimeout(() => {
        slot.outgoing = slot.outgoing.filter((other) => other !== old);
        this.#retire(slot, old);
      }, this.#options.cellPollMs);
    }
  }

  /** A process ended that nobody had told to. */
  #ended(slot: Slot, placement: Placement, reason: string): void {
    if (slot.outgoing.includes(placement)) {
      clearTimeout(placement.retirement);
      slot.outgoing = slot.outgoing.filter((other) => other !== placement);
      this.#removeRecord(slot, placement.presence);
      return;
    }
    const { logger, crashBackoffMs } = this.#options;
    const before = this.#ordinaryRecord(slot);
    const wasStable = before.state === "RUNNING" && nowNs() - before.since >= CRASH_RESET_NS;
    const crash = { crashCount: wasStable ? 1 : before.crashCount + 1, crashReason: reason };
    const { lrpProcessGuid } = slot.running.desired;
    logger.info({ lrpProcessGuid, index: slot.index, instanceGuid: placement.guid, ...crash }, "app crashed");
    const next = otherCell(placement.cell);
    slot.placement = undefined;
    if (crash.crashCount < FIRST_BACKED_OFF_CRASH) {
      this.#records.change([{ before, after: homelessLrp(before, "UNCLAIMED", crash) }], true);
      this.#place(slot, next);
      return;
    }
    this.#records.change([{ before, after: homelessLrp(before, "CRASHED", crash) }], true);
    this.#retireOutgoing(slot);
    if (crash.crashCount >= MAX_CRASHES) return;
    const doublings = crash.crashCount - FIRST_BACKED_OFF_CRASH;
    const restart = (): void => {
      const crashed = this.#ordinaryRecord(slot);
      this.#records.change([{ before: crashed, after: homelessLrp(crashed, "UNCLAIMED", crash) }]);
      this.#place(slot, next);
    };
    slot.restart = setTimeout(restart, Math.min(MAX_CRASH_BACKOFF_MS, crashBackoffMs * 2 ** doublings));
  }
}

function complaint({ healthCheck }: DesiredProcess): string {
  return healthCheck?.type === "http"
    ? `nothing answers 200 to GET ${healthCheck.endpoint} on its PORT`
    : "nothing accepts connections on its PORT";
}

/** It may have been retired while something was waited for. */
function hasRetired(placement: Placement): boolean {
  return placement.isRetired;
}
