import { createWriteStream } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Command, InvalidArgumentError } from "commander";
import { type Dev, DEV_DEFAULTS, startDev } from "../jobs/dev.js";
import { TrafficMeter } from "../jobs/traffic.js";
import { createLogger } from "../lib/logger.js";
import { introduction } from "./dev-introduction.js";
import { stopSignal } from "./stop-signals.js";
import { trafficView } from "./traffic-view.js";

interface Flags {
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

export function devCommand(): Command {
  return new Command("dev")
    .description("a laptop foundation with two sample apps, and the mesh before it")
    .option("--host <address>", "address to listen on", DEV_DEFAULTS.host)
    .option("-p, --port <port>", "the router's port", parsePort, DEV_DEFAULTS.routerPort)
    .option("--api-port <port>", "Cloud Controller's port", parsePort, DEV_DEFAULTS.apiPort)
    .option(
      "--domain <name...>",
      "app domains; the sample routes are made on the first",
      // commander hands the default over as the first value.
      (name: string, before: readonly string[]) => (before === DEV_DEFAULTS.domains ? [name] : [...before, name]),
      DEV_DEFAULTS.domains as readonly string[],
    )
    .option("--state <directory>", "sockets, logs and certificates; emptied at the start", DEV_DEFAULTS.stateDirectory)
    .option("--concurrency <threads>", "Envoy's worker threads", parseCount, DEV_DEFAULTS.concurrency)
    .option("--envoy <file>", "the Envoy to run")
    .action(run);
}

async function run(flags: Flags): Promise<void> {
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

function parsePort(text: string): number {
  const port = Number(text);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new InvalidArgumentError("a port is 1 to 65535");
  return port;
}

function parseCount(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1) throw new InvalidArgumentError("give a whole number from 1 on");
  return count;
}
