import type { MeshLog, Write } from "../src/log/log.js";
import { appWrites, hostAt } from "./synthetic.js";

export interface FillReport {
  readonly entryCount: number;
  /** Spent in the log, without making the entries. */
  readonly appendMs: number;
}

/** As large as those of the key space writers. */
const BATCH_WRITES = 900;
/** Batches that are appended without waiting for each other. */
const BATCHES_AT_ONCE = 10;

/** Writes routes, each with a process of its own, into the log. Throws when the signal aborts. */
export async function fillLog(
  log: MeshLog,
  routeCount: number,
  appPort: number,
  signal: AbortSignal,
): Promise<FillReport> {
  let entryCount = 0;
  let appendMs = 0;
  let batches: Write[][] = [[]];
  async function append(): Promise<void> {
    signal.throwIfAborted();
    const startedMs = performance.now();
    await Promise.all(batches.map((batch) => log.append(batch)));
    appendMs += performance.now() - startedMs;
    batches = [[]];
  }
  for (let index = 0; index < routeCount; index += 1) {
    const writes = appWrites(hostAt(index), appPort);
    entryCount += writes.length;
    const batch = batches.at(-1);
    batch?.push(...writes);
    if (batch?.length !== BATCH_WRITES) continue;
    if (batches.length === BATCHES_AT_ONCE) await append();
    else batches.push([]);
  }
  await append();
  return { entryCount, appendMs };
}
