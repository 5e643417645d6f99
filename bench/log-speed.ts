/** The mesh log by itself, in this process: how fast it takes entries, and hands them out. */
import { randomUUID } from "node:crypto";
import type { Measurement } from "./measurement.js";
import type { Stage } from "./stage.js";
import { quantile } from "./statistics.js";
import { processWrite } from "./synthetic.js";

const SINGLE_WRITES = 300;

export async function measureLog({ log, filled, appPorts, signal }: Stage): Promise<readonly Measurement[]> {
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
    const write = processWrite(processGuid, appPorts[count % 2] ?? 0);
    const startedMs = performance.now();
    await log.append([write]);
    singleMs.push(performance.now() - startedMs);
  }
  const perSecond = (ms: number) => (1_000 * filled.entryCount) / ms;
  const unit = "entries/s";
  return [
    { what: "log: write, durable", value: perSecond(filled.appendMs), unit, note: "batches of 900" },
    { what: "log: read", value: perSecond(readMs), unit },
    { what: "log: follow from the start", value: perSecond(followMs), unit },
    { what: "log: a single write, durable, p50", value: quantile(singleMs, 0.5), unit: "ms" },
    {
      what: "log: a single write, durable, p99",
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
