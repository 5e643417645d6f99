import { createWriteStream } from "node:fs";
import { resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Dev, startDev, startFoundationOnly } from "../jobs/dev.js";
import { jobView } from "../jobs/job-view.js";
import { openStateDirectory, type StateDirectory } from "../jobs/state-directory.js";
import { readCounters, TrafficMeter } from "../jobs/traffic.js";
import { createLogger } from "../lib/logger.js";
import { foundationIntroduction, introduction } from "./dev-introduction.js";
import { packageVersion } from "./package-version.js";
import { stopSignal } from "./stop-signals.js";
import { trafficView } from "./traffic-view.js";

export interface DevFlags {
  readonly host: string;
  readonly port: number;
  readonly apiPort: number;
  readonly domain: readonly string[];
  readonly systemDomain: string;
  readonly state: string;
  readonly fresh: boolean;
  readonly foundationOnly: boolean;
  readonly concurrency: number;
  readonly envoy?: string;
}

/** What runs, and how it shows while it does. */
interface Running {
  readonly introduction: string;
  /** Resolves when the end is asked for. */
  show(signal: AbortSignal): Promise<void>;
  stop(): Promise<void>;
}

/** How often the traffic is looked at. */
const SAMPLE_INTERVAL_MS = 1_000;

const print = (line: string) => void process.stdout.write(`${line}\n`);

export async function runDev(flags: DevFlags): Promise<void> {
  const startedMs = performance.now();
  const ending = new AbortController();
  void stopSignal().then(() => ending.abort());
  const { signal } = ending;
  const path = resolve(flags.state);
  const started: { dev?: Dev } = {};
  const view = jobView(packageVersion(), () => started.dev?.mesh);
  const state = await openStateDirectory({ path, fresh: flags.fresh, view });
  try {
    const running = await start(flags, path, state, started, signal).catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
    if (!running) return;
    print(`\nready in ${((performance.now() - startedMs) / 1_000).toFixed(1)} s\n\n${running.introduction}`);
    await running.show(signal);
    const stoppingMs = performance.now();
    print("stopping");
    await running.stop();
    const tookSeconds = ((performance.now() - stoppingMs) / 1_000).toFixed(1);
    print(
      `stopped in ${tookSeconds} s; ${path} keeps what was made: the next start goes on with it, --fresh begins anew`,
    );
  } finally {
    await state.close();
  }
}

async function start(
  flags: DevFlags,
  path: string,
  state: StateDirectory,
  started: { dev?: Dev },
  signal: AbortSignal,
): Promise<Running> {
  const options = {
    host: flags.host,
    routerPort: flags.port,
    apiPort: flags.apiPort,
    domains: flags.domain,
    systemDomain: flags.systemDomain,
    concurrency: flags.concurrency,
    ...(flags.envoy !== undefined && { envoyPath: flags.envoy }),
    state,
    logger: createLogger("info", createWriteStream(state.logFile, { flags: "w" })),
    onStep: (step: string) => print(`… ${step}`),
    signal,
  };
  if (flags.foundationOnly) {
    const laptop = await startFoundationOnly(options);
    return {
      introduction: foundationIntroduction(laptop, { ...flags, path, state }),
      show: untilAborted,
      stop: () => laptop.close(),
    };
  }
  const dev = await startDev(options);
  started.dev = dev;
  return {
    introduction: await introduction(dev, { ...flags, path, state }),
    show: (until) => showTraffic(dev, until),
    stop: () => dev.stop(),
  };
}

async function showTraffic({ mesh: { router } }: Dev, signal: AbortSignal): Promise<void> {
  if (!router) throw new Error("a laptop has a router");
  const view = trafficView(process.stdout);
  const meter = new TrafficMeter(router.table);
  while (!signal.aborted) {
    // While Envoy restarts there is nothing to see.
    const counters = await readCounters(router.envoy.admin).catch(() => undefined);
    if (counters) view.show(meter.sample(counters, performance.now()), new Date());
    await delay(SAMPLE_INTERVAL_MS, undefined, { signal }).catch(() => undefined);
  }
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolveEnd) => {
    if (signal.aborted) resolveEnd();
    signal.addEventListener("abort", () => resolveEnd(), { once: true });
  });
}
