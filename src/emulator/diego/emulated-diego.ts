import { EventEmitter, once } from "node:events";
import { setImmediate } from "node:timers/promises";
import { type ActualLRP, Presence } from "../../gen/bbs/v1/bbs_pb.js";
import type { Logger } from "../../lib/logger.js";
import { Reaper } from "../../lib/reaper.js";
import type { Certificates } from "../certificates.js";
import { AppLogs } from "../logs.js";
import type { OutputLine } from "./app-instance.js";
import { BbsRecords } from "./bbs-records.js";
import { BbsServer } from "./bbs-server.js";
import { Cells } from "./cells.js";
import type { Diego, RunningInstance } from "./diego.js";
import type { LrpFeed } from "./lrp-feed.js";
import { DiegoFaults } from "./faults.js";
import { putSynthetic, removeSynthetic, type SyntheticProcess } from "./synthetic.js";

export interface DiegoOptions {
  /** Address of the BBS and of every app instance. */
  readonly host: string;
  /** 0: any free one. */
  readonly bbsPort: number;
  readonly certificates: Certificates;
  /** From SIGTERM to SIGKILL, in milliseconds. Default: 10,000, as in Diego. */
  readonly stopGraceMs?: number;
  /** For an instance to listen on its PORT, in milliseconds. Default: 60,000. */
  readonly startTimeoutMs?: number;
  /** Pause before the restart after the third crash in a row, doubling with each further one. Default: 30,000. */
  readonly crashBackoffMs?: number;
  /**
   * How long an instance that is being evacuated serves beside its replacement, in milliseconds: until its cell asks
   * again. Default: 1,000; in Diego it is 10,000.
   */
  readonly cellPollMs?: number;
  readonly logger: Logger;
}

export interface EmulatedDiego extends Diego {
  /** "https://127.0.0.1:8889" */
  readonly bbsUrl: string;
  readonly faults: DiegoFaults;
  readonly lrps: LrpFeed;
  /**
   * Adds or changes processes that are in the BBS only, with instances that run without a process of the system: for
   * many of them. Waits for those who follow the events. `remove` removes them.
   */
  addSyntheticProcesses(processes: Iterable<SyntheticProcess>): Promise<void>;
  /** The last 500 lines that an instance wrote, oldest first. */
  output(lrpProcessGuid: string, index: number): readonly OutputLine[];
  /** Process id of an instance; undefined while it has none. */
  pid(lrpProcessGuid: string, index: number): number | undefined;
  /** Stops the BBS and all instances at once: SIGKILL comes after 2 s at most. */
  close(): Promise<void>;
}

const STOP_GRACE_MS = 10_000;
const START_TIMEOUT_MS = 60_000;
const CRASH_BACKOFF_MS = 30_000;
const CELL_POLL_MS = 1_000;
const MAX_CLOSE_GRACE_MS = 2_000;
/** Events of synthetic processes between two pauses: fewer than a stream may be behind. */
const SYNTHETIC_BATCH = 256;

/** Throws MESH_PORT_TAKEN when the BBS can't listen. */
export async function startDiego(options: DiegoOptions): Promise<EmulatedDiego> {
  const { host, bbsPort, certificates, logger } = options;
  const { stopGraceMs = STOP_GRACE_MS, startTimeoutMs = START_TIMEOUT_MS } = options;
  const { crashBackoffMs = CRASH_BACKOFF_MS, cellPollMs = CELL_POLL_MS } = options;
  // One listener for each caller of whenRunning.
  const changes = new EventEmitter().setMaxListeners(0);
  const followers = new Set<(processGuid: string) => void>();
  const records: BbsRecords = new BbsRecords((makeEvents, processGuids) => {
    server.hub.emit(makeEvents);
    changes.emit("changed");
    for (const follow of followers) processGuids.forEach(follow);
  });
  const server = new BbsServer(host, bbsPort, certificates, records);
  await server.listen();
  const reaper = new Reaper();
  const logs = new AppLogs();
  const cells = new Cells({
    ...{ host, stopGraceMs, startTimeoutMs, crashBackoffMs, cellPollMs },
    ...{ records, reaper, logs, logger },
  });

  return {
    bbsUrl: server.url,
    logs,
    faults: new DiegoFaults(server, records, cells),
    lrps: {
      processGuids: () => records.processGuids(),
      desired: (processGuid) => records.desired(processGuid),
      actuals: (processGuid) => records.actuals(processGuid),
      follow(onChange) {
        // An object of its own, so that two calls with one function are two.
        const follower = (processGuid: string): void => onChange(processGuid);
        followers.add(follower);
        return () => void followers.delete(follower);
      },
    },
    desire(process) {
      cells.desire(process);
      return Promise.resolve();
    },
    remove(lrpProcessGuid) {
      if (!cells.remove(lrpProcessGuid)) removeSynthetic(records, lrpProcessGuid);
      return Promise.resolve();
    },
    restartInstance(lrpProcessGuid, index) {
      cells.restart(lrpProcessGuid, index);
      return Promise.resolve();
    },
    instances: (lrpProcessGuid) => instancesOf(records, lrpProcessGuid),
    async whenRunning(lrpProcessGuid, count, signal) {
      for (;;) {
        if (records.desired(lrpProcessGuid) === undefined) throw new Error(`process ${lrpProcessGuid} is gone`);
        if (ordinary(records, lrpProcessGuid).filter(({ state }) => state === "RUNNING").length >= count) return;
        await once(changes, "changed", { signal });
      }
    },
    async addSyntheticProcesses(processes) {
      let eventCount = 0;
      for (const process of processes) {
        putSynthetic(records, process);
        eventCount += 1 + process.instances;
        if (eventCount < SYNTHETIC_BATCH) continue;
        eventCount = 0;
        await setImmediate();
        await server.hub.drained();
      }
    },
    output: (lrpProcessGuid, index) => cells.output(lrpProcessGuid, index),
    pid: (lrpProcessGuid, index) => cells.pid(lrpProcessGuid, index),
    async close() {
      await Promise.all([server.close(), cells.close(Math.min(stopGraceMs, MAX_CLOSE_GRACE_MS))]);
      await reaper.close();
    },
  };
}

function ordinary(records: BbsRecords, lrpProcessGuid: string): readonly ActualLRP[] {
  return records.actuals(lrpProcessGuid).filter(({ presence }) => presence === Presence.ORDINARY);
}

/** One for each index; where an instance is being replaced, the one that runs. */
function instancesOf(records: BbsRecords, lrpProcessGuid: string): readonly RunningInstance[] {
  const byIndex = new Map<number, ActualLRP>();
  for (const lrp of records.actuals(lrpProcessGuid)) {
    const index = lrp.key?.index ?? 0;
    const other = byIndex.get(index);
    const isBetter = lrp.state === "RUNNING" && (other?.state !== "RUNNING" || lrp.presence === Presence.ORDINARY);
    if (other === undefined || isBetter) byIndex.set(index, lrp);
  }
  return [...byIndex].sort(([one], [other]) => one - other).map(([index, lrp]) => instanceOf(index, lrp));
}

function instanceOf(index: number, { instanceKey, netInfo, since, state }: ActualLRP): RunningInstance {
  const isKnown = state === "RUNNING" || state === "CRASHED";
  return {
    index,
    guid: instanceKey?.instanceGuid ?? "",
    state: isKnown ? state : "STARTING",
    host: netInfo?.address ?? "",
    instanceAddress: netInfo?.instanceAddress ?? "",
    ports: netInfo?.ports.map(({ hostPort, containerPort }) => ({ external: hostPort, internal: containerPort })) ?? [],
    sinceMs: Number(since / 1_000_000n),
  };
}
