/** The mesh log by itself, in this process: how fast it takes entries, and hands them out. */
import { randomUUID } from "node:crypto";
import type { MeshLog } from "../src/log/log.js";
import type { FillReport } from "./fill-log.js";
import type { Goal, Measurement } from "./measurement.js";
import type { Stage } from "./stage.js";
import { quantile } from "./statistics.js";
import { processWrite } from "./synthetic.js";

const SINGLE_WRITES = 300;

export async function measureLog({ log, filled, appPorts, signal }: Stage): Promise<readonly Measurement[]> {
  return measureLogSpeed({ name: "log", log, filled, appPort: appPorts[0], signal });
}

export interface LogToMeasure {
  /** What the measurements begin with. */
  readonly name: string;
  /** Holds nothing but what it was filled with. */
  readonly log: MeshLog;
  readonly filled: FillReport;
  readonly appPort: number;
  readonly signal: AbortSignal;
  readonly writeGoal?: Goal;
  readonly followGoal?: Goal;
}

export async function measureLogSpeed({
  name,
  log,
  filled,
  appPort,
  signal,
  writeGoal,
  followGoal,
}: LogToMeasure): Promise<readonly Measurement[]> {
  const readMs = await timed(async () => {
    let count = 0;
    for await (const entries of log.read()) count += entries.length;
    return count;
  }, filled.entryCount);
  const followMs = await timed(async () => {
    let count = 0;
    for await (const { entries, caughtUp } of log.follow(0, signal)) {
      count += entries.length;
      if (caughtUp) return count;
    }
    return count;
  }, filled.entryCount);

  const singleMs: number[] = [];
  const processGuid = randomUUID();
  for (let count = 0; count < SINGLE_WRITES; count += 1) {
    signal.throwIfAborted();
    const write = processWrite(processGuid, [appPort + count]);
    const startedMs = performance.now();
    await log.append([write]);
    singleMs.push(performance.now() - startedMs);
  }
  const perSecond = (ms: number) => (1_000 * filled.entryCount) / ms;
  const unit = "entries/s";
  return [
    { what: `${name}: write`, value: perSecond(filled.appendMs), unit, goal: writeGoal, note: "batches of 900" },
    { what: `${name}: read`, value: perSecond(readMs), unit },
    { what: `${name}: follow from the start`, value: perSecond(followMs), unit, goal: followGoal },
    { what: `${name}: a single write, p50`, value: quantile(singleMs, 0.5), unit: "ms" },
    {
      what: `${name}: a single write, p99`,
      value: quantile(singleMs, 0.99),
      unit: "ms",
      note: `${SINGLE_WRITES} writes`,
    },
  ];
}

/** Checks that all entries came. */
async function timed(count: () => Promise<number>, expected: number): Promise<number> {
  const startedMs = performance.now();
  const counted = await count();
  if (counted !== expected) throw new Error(`the log gave ${counted} entries, ${expected} were written`);
  return performance.now() - startedMs;
}
