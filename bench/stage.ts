/** What the parts of a run share: programs, a directory, a filled log, and hosts that nobody asked for yet. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { EnvoyBinary } from "../src/envoy/find-envoy.js";
import { openEmbeddedLog } from "../src/log/embedded.js";
import type { MeshLog } from "../src/log/log.js";
import { Children } from "./child.js";
import { type FillReport, fillLog } from "./fill-log.js";
import { type Goals, goalsFor } from "./goals.js";
import { type RouterProcess, startRouterProcess } from "./router-process.js";
import { hostAt } from "./synthetic.js";

const BACKEND = join(import.meta.dirname, "backend-main.js");

export interface Stage {
  readonly routeCount: number;
  readonly goals: Goals;
  readonly envoy: EnvoyBinary;
  readonly children: Children;
  /** Removed at the end. */
  readonly directory: string;
  /** The ports of the four apps, which answer "1" to "4". */
  readonly appPorts: readonly [number, number, number, number];
  readonly log: MeshLog;
  readonly filled: FillReport;
  readonly signal: AbortSignal;
  readonly progress: (line: string) => void;
  /** Hosts of the log that were not handed out before. Throws when there are no more. */
  coldHosts(count: number): readonly string[];
  /** A router over the log; over an empty one when `isEmpty`. `section`: more of its section in the configuration. */
  startRouter(options?: { readonly isEmpty?: boolean; readonly section?: object }): Promise<RouterProcess>;
}

export interface StageOptions {
  readonly routeCount: number;
  readonly envoy: EnvoyBinary;
  readonly signal: AbortSignal;
  readonly progress: (line: string) => void;
}

/** Sets the stage, calls `play`, and clears all of it away, whatever happened. */
export async function onStage<T>(options: StageOptions, play: (stage: Stage) => Promise<T>): Promise<T> {
  const { routeCount, signal, progress } = options;
  const children = new Children();
  const directory = await mkdtemp(join(tmpdir(), "cfm-bench-"));
  const log = await openEmbeddedLog({ directory: join(directory, "log") });
  try {
    const backend = children.start("the apps", process.execPath, [BACKEND], directory);
    const appPorts = JSON.parse(await backend.firstLine) as [number, number, number, number];
    progress(`writing ${routeCount.toLocaleString("en")} routes with their processes`);
    const filled = await fillLog(log, routeCount, appPorts[0], signal);

    const probes = [0, Math.floor(routeCount / 2), routeCount - 1];
    let nextHost = 0;
    let routers = 0;
    return await play({
      ...options,
      goals: goalsFor(routeCount),
      children,
      directory,
      appPorts,
      log,
      filled,
      coldHosts(count) {
        const hosts: string[] = [];
        for (; hosts.length < count; nextHost += 1) {
          if (nextHost >= routeCount) throw new Error(`all ${routeCount} hosts are used up`);
          if (!probes.includes(nextHost)) hosts.push(hostAt(nextHost));
        }
        return hosts;
      },
      async startRouter({ isEmpty = false, section = {} } = {}) {
        routers += 1;
        return startRouterProcess({
          children,
          directory: join(directory, `router-${routers}`),
          logDirectory: join(directory, isEmpty ? "empty-log" : "log"),
          hostCount: isEmpty ? 0 : routeCount,
          probeHosts: isEmpty ? [] : probes.map(hostAt),
          section,
          signal,
        });
      },
    });
  } finally {
    await children.close();
    await log.close();
    await rm(directory, { recursive: true, force: true });
  }
}
