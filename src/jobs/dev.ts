/** The laptop: an emulated foundation with sample apps, and the whole mesh before it, on loopback. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { stringify } from "yaml";
import { parseConfig } from "../config/config.js";
import { findEnvoy } from "../envoy/find-envoy.js";
import { MeshError } from "../lib/errors.js";
import type { Logger } from "../lib/logger.js";
import { requireFreePort } from "../lib/ports.js";
import { type LaptopFoundation, startLaptopFoundation } from "./dev-foundation.js";
import { LaptopApi, type LaptopRoute, pushSamples } from "./samples.js";
import { type Expectation, firstAnswer } from "./first-answer.js";
import type { StateDirectory } from "./state-directory.js";
import { type Mesh, startMesh } from "./up.js";

export interface DevOptions {
  readonly host: string;
  readonly routerPort: number;
  readonly apiPort: number;
  /** Names the app domains; the sample routes are made on the first. */
  readonly domains: readonly string[];
  readonly systemDomain: string;
  readonly state: StateDirectory;
  /** Envoy's worker threads. */
  readonly concurrency: number;
  readonly envoyPath?: string;
  readonly logger: Logger;
  /** Hears what is being done, step by step. */
  readonly onStep: (step: string) => void;
  /** Ends the start; what was started is stopped. */
  readonly signal: AbortSignal;
}

export interface Dev {
  readonly mesh: Mesh;
  readonly laptop: LaptopFoundation;
  readonly routes: readonly LaptopRoute[];
  readonly adminSocketPath: string;
  stop(): Promise<void>;
}

/** Ctrl-C should not feel slow: no load balancer has to see it, and nobody takes a laptop's Envoy over. */
const HASTE = { drainWaitMs: 0, drainTimeMs: 500, orphanTimeoutMs: 200 };
const FIRST_ANSWER_TIMEOUT_MS = 30_000;
/** Apps of an earlier start are their developers': one that does not come up keeps nothing else from starting. */
const KEPT_APPS_TIMEOUT_MS = 10_000;

/** Starts all of it. Throws the signal's reason when it aborts; what was started is stopped again when a part fails. */
export async function startDev(options: DevOptions): Promise<Dev> {
  const { host, routerPort, apiPort, domains, systemDomain, state, logger, signal } = options;
  const onStep = (step: string) => {
    signal.throwIfAborted();
    options.onStep(step);
  };
  const cleanups: (() => Promise<void>)[] = [];
  async function stop(): Promise<void> {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  }

  try {
    const { path: envoyPath } = await findEnvoy({
      ...(options.envoyPath !== undefined && { path: options.envoyPath }),
      setting: "--envoy",
    });
    await requireFreePort(host, routerPort, { port: "--port", host: "--host" });
    await requireFreePort(host, apiPort, { port: "--api-port", host: "--host" });

    onStep("starting the foundation: UAA, Cloud Controller, Diego, NATS");
    const laptop = await startLaptopFoundation({ host, apiPort, routerPort, domains, systemDomain, state, logger });
    cleanups.push(() => laptop.close());

    onStep("starting the mesh: log, sources, router with Envoy");
    const config = parseConfig(
      {
        log: { directory: state.logDirectory },
        router: {
          listenAddress: host,
          port: routerPort,
          runDirectory: state.runDirectory,
          concurrency: options.concurrency,
          ...HASTE,
          envoyPath,
          accessLog: laptop.accessLog,
        },
        ...laptop.sections,
      },
      "cf-mesh dev",
      [],
    );
    const mesh = await startMesh(config, logger);
    cleanups.push(() => mesh.stop());

    const api = new LaptopApi(laptop.foundation.apiUrl, await laptop.foundation.adminToken());
    const answer = (url: string, expected: Expectation, timeoutMs: number) =>
      firstAnswer({ host, port: routerPort, url, expected, signal, timeoutMs });
    if (state.isFresh) {
      onStep("pushing the sample apps hello and hola");
      await pushSamples(laptop.foundation, api, domains[0] ?? "");
      await state.keep();
    }
    const routes = await api.routes();
    onStep("waiting for the first answers through the router");
    const system = await answer(`api.${systemDomain}/v3/info`, "success", FIRST_ANSWER_TIMEOUT_MS);
    const timeoutMs = state.isFresh ? FIRST_ANSWER_TIMEOUT_MS : KEPT_APPS_TIMEOUT_MS;
    const expected = state.isFresh ? "success" : "an app's answer";
    const running = routes.filter(({ apps }) => apps.some(({ isStarted }) => isStarted));
    const answers = await Promise.all(running.map(({ url }) => answer(url, expected, timeoutMs)));
    if (!system || (state.isFresh && answers.includes(false))) throw notServing(state.logFile);
    for (const [index, { url }] of running.entries()) {
      if (!answers[index]) onStep(`${url} does not answer yet: see cf logs, or ${state.logFile}`);
    }
    return { mesh, laptop, routes, adminSocketPath: join(state.runDirectory, "admin.sock"), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

export type FoundationOnlyOptions = Pick<
  DevOptions,
  "host" | "routerPort" | "apiPort" | "domains" | "systemDomain" | "state" | "logger"
>;

/** The foundation without a mesh and without samples, and a configuration for a mesh that runs beside it. */
export async function startFoundationOnly(options: FoundationOnlyOptions): Promise<LaptopFoundation> {
  const { host, apiPort, routerPort, state } = options;
  await requireFreePort(host, apiPort, { port: "--api-port", host: "--host" });
  const laptop = await startLaptopFoundation(options);
  const config = {
    log: { directory: join(state.meshDirectory, "log") },
    router: {
      listenAddress: host,
      port: routerPort,
      runDirectory: join(state.meshDirectory, "run"),
      ...HASTE,
      accessLog: laptop.accessLog,
    },
    ...laptop.sections,
  };
  await writeFile(state.meshConfigFile, stringify(config), { mode: 0o600 });
  await state.keep();
  return laptop;
}

const notServing = (logFile: string) =>
  new MeshError(
    "MESH_SOURCE_UNREACHABLE",
    `the router did not answer for all sample routes within ${FIRST_ANSWER_TIMEOUT_MS / 1_000} s; all was stopped again`,
    `see ${logFile} for what went wrong, and whether the machine is overloaded`,
  );
