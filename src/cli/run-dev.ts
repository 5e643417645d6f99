import { createWriteStream } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Dev, startDev } from "../jobs/dev.js";
import { TrafficMeter } from "../jobs/traffic.js";
import { createLogger } from "../lib/logger.js";
import { introduction } from "./dev-introduction.js";
import { stopSignal } from "./stop-signals.js";
import { trafficView } from "./traffic-view.js";

export interface DevFlags {
  readonly host: string;
  readonly port: number;
  readonly apiPort: number;
  readonly domain: readonly string[];
  readonly state: string;
  readonly concurrency: number;
  readonly envoy?: string;
}

/** How often the traffic is looked at. */
const SAMPLE_INTERVAL_MS = 1_000;

export async function runDev(flags: DevFlags): Promise<void> {
  const startedMs = Date.now();
  const stateDirectory = resolve(flags.state);
  await mkdir(stateDirectory, { recursive: true, mode: 0o700 });
  const logFile = join(stateDirectory, "cf-mesh.log");
  const logger = createLogger("info", createWriteStream(logFile, { flags: "w" }));
  const print = (line: string) => void process.stdout.write(`${line}\n`);

  const ending = new AbortController();
  void stopSignal().then(() => ending.abort());
  const { signal } = ending;
  const dev = await startDev({
    host: flags.host,
    routerPort: flags.port,
    apiPort: flags.apiPort,
    domains: flags.domain,
    stateDirectory,
    concurrency: flags.concurrency,
    ...(flags.envoy !== undefined && { envoyPath: flags.envoy }),
    logger,
    onStep: (step) => print(`… ${step}`),
    signal,
  }).catch((error: unknown) => {
    if (!signal.aborted) throw error;
  });
  if (dev) {
    print(await introduction(dev, { ...flags, logFile, tookMs: Date.now() - startedMs }));
    await showTraffic(dev, signal);
    print("stopping");
    await dev.stop();
  }
}

/** Until the end is asked for. */
async function showTraffic(dev: Dev, signal: AbortSignal): Promise<void> {
  const { router } = dev.mesh;
  if (!router) throw new Error("a laptop has a router");
  const view = trafficView(process.stdout);
  const meter = new TrafficMeter(router.table);
  while (!signal.aborted) {
    // While Envoy restarts there is nothing to see.
    const endpoints = await router.envoy.admin.clusters().catch(() => undefined);
    if (endpoints) view.show(meter.sample(endpoints, Date.now()), new Date());
    await delay(SAMPLE_INTERVAL_MS, undefined, { signal }).catch(() => undefined);
  }
  view.end();
}
