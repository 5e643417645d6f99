import { randomBytes } from "node:crypto";
import { clone, create, toBinary } from "@bufbuild/protobuf";
import {
  type ActualLRP,
  ActualLRPInstanceChangedEventSchema,
  ActualLRPSchema,
  Presence,
} from "../../gen/bbs/v1/bbs_pb.js";
import type { BbsRecords } from "./bbs-records.js";
import type { BadAnswer, BbsServer } from "./bbs-server.js";
import type { Cells } from "./cells.js";
import { CELLS } from "./lrp.js";

/** What goes wrong with a Diego, on demand. A fault stays until it is ended; those that name an instance happen once. */
export class DiegoFaults {
  readonly #server: BbsServer;
  readonly #records: BbsRecords;
  readonly #cells: Cells;

  constructor(server: BbsServer, records: BbsRecords, cells: Cells) {
    this.#server = server;
    this.#records = records;
    this.#cells = cells;
  }

  /** How many clients follow the events now. */
  get eventStreamCount(): number {
    return this.#server.hub.streamCount;
  }

  /** Ends the connection of every event stream; clients may come back at once. */
  cutEventStreams(): void {
    this.#server.hub.cut();
  }

  /**
   * Writes no more events, or nothing at all, while every connection stays open. A stream on which more than 1,024
   * events wait is cut.
   */
  stall(what: "events" | "everything"): void {
    this.#server.hub.stall(true);
    this.#server.stallCalls(what === "everything");
  }

  /** Ends a stall: what waited is written. */
  resume(): void {
    this.#server.stallCalls(false);
    this.#server.hub.stall(false);
  }

  /** An event of a type that a newer BBS might have. */
  sendUnknownEvent(): void {
    this.#send("actual_lrp_teleported", randomBytes(16).toString("base64"));
  }

  /** An event of a known type, its data no protobuf message. */
  sendBrokenProtobuf(): void {
    this.#send("actual_lrp_instance_changed", Buffer.from([0x0a, 0x7f, 0x01]).toString("base64"));
  }

  /** An event of a known type, its data no base64. */
  sendBrokenBase64(): void {
    this.#send("actual_lrp_instance_changed", "*** this is not base64 ***");
  }

  /** An event without data, which the BBS's own client takes for an error. */
  sendEmptyEvent(): void {
    this.#send("actual_lrp_instance_changed", "");
  }

  /** An event of a known type without any of its fields. */
  sendHollowEvent(): void {
    const hollow = create(ActualLRPInstanceChangedEventSchema);
    const bytes = toBinary(ActualLRPInstanceChangedEventSchema, hollow);
    this.#send("actual_lrp_instance_changed", Buffer.from(bytes).toString("base64"));
  }

  /** Sends each of the next `count` events twice. */
  duplicateEvents(count: number): void {
    this.#server.hub.duplicateNext(count);
  }

  /** Holds the next `count` events back, then sends them in reverse. */
  reverseEvents(count: number): void {
    this.#server.hub.reverseNext(count);
  }

  /** Calls to a path (all: "*"; not the event stream) go wrong, until `answerWell` is called with the same. */
  answerBadly(bad: BadAnswer, path = "*"): void {
    this.#server.setBadAnswer(path, bad);
  }

  answerWell(path = "*"): void {
    this.#server.setBadAnswer(path, undefined);
  }

  /** Cuts all connections and refuses new ones, like a BBS that is not the active one. */
  async refuseConnections(): Promise<void> {
    await this.#server.close();
  }

  /** Listens again, on the same port. Throws MESH_PORT_TAKEN when somebody else has it. */
  async acceptConnections(): Promise<void> {
    await this.#server.listen();
  }

  /** False: the list of desired LRPs may be incomplete, as while Cloud Controller does not talk to the BBS. */
  setDomainFresh(isFresh: boolean): void {
    this.#records.isDomainFresh = isFresh;
  }

  /** Moves an instance to another cell: the old one serves as EVACUATING, also a while beside the new one. */
  evacuate(lrpProcessGuid: string, index: number): void {
    this.#cells.replace(lrpProcessGuid, index, Presence.EVACUATING);
  }

  /** Diego lost sight of the instance's cell: it serves as SUSPECT until its replacement runs, and is stopped later. */
  suspect(lrpProcessGuid: string, index: number): void {
    this.#cells.replace(lrpProcessGuid, index, Presence.SUSPECT);
  }

  /** Evacuates every instance that runs in a cell, and is not being replaced already. */
  evacuateCell(cellId: string): void {
    for (const [lrpProcessGuid, index] of this.#runningIn(cellId)) this.evacuate(lrpProcessGuid, index);
  }

  /** Makes every instance suspect that runs in a cell, and is not being replaced already. */
  suspectCell(cellId: string): void {
    for (const [lrpProcessGuid, index] of this.#runningIn(cellId)) this.suspect(lrpProcessGuid, index);
  }

  /** Kills the process of an instance; Diego starts another one. */
  crash(lrpProcessGuid: string, index: number): void {
    const pid = this.#cells.pid(lrpProcessGuid, index);
    if (pid === undefined) throw new Error(`instance ${index} of ${lrpProcessGuid} does not run`);
    process.kill(pid, "SIGKILL");
  }

  /** A readiness check fails, or passes again. */
  setRoutable(lrpProcessGuid: string, index: number, isRoutable: boolean): void {
    this.#change(lrpProcessGuid, index, (lrp) => (lrp.routable = isRoutable));
  }

  /** Host ports become 0, as where Diego runs without unproxied ports. */
  hideHostPorts(lrpProcessGuid: string, index: number): void {
    this.#change(lrpProcessGuid, index, (lrp) => {
      for (const port of lrp.netInfo?.ports ?? []) port.hostPort = 0;
    });
  }

  #runningIn(cellId: string): readonly (readonly [string, number])[] {
    if (!CELLS.some(({ id }) => id === cellId)) throw new Error(`there is no cell "${cellId}"`);
    const processGuids = this.#records.processGuids().filter((processGuid) => this.#cells.runs(processGuid));
    return processGuids.flatMap((processGuid) => {
      const lrps = this.#records.actuals(processGuid);
      const indexOf = (lrp: ActualLRP): number => lrp.key?.index ?? 0;
      const isBeingReplaced = (lrp: ActualLRP): boolean =>
        lrps.some((other) => other !== lrp && indexOf(other) === indexOf(lrp));
      return lrps
        .filter((lrp) => lrp.state === "RUNNING" && lrp.instanceKey?.cellId === cellId && !isBeingReplaced(lrp))
        .map((lrp) => [processGuid, indexOf(lrp)] as const);
    });
  }

  #change(processGuid: string, index: number, change: (lrp: ActualLRP) => void): void {
    const before = this.#records.actual({ processGuid, index, presence: Presence.ORDINARY });
    if (before === undefined) throw new Error(`there is no instance ${index} of ${processGuid}`);
    const after = clone(ActualLRPSchema, before);
    change(after);
    this.#records.change([{ before, after }]);
  }

  #send(name: string, data: string): void {
    this.#server.hub.emit(() => [{ name, data, cellId: undefined }]);
  }
}
