/** The laptop: an emulated foundation with sample apps, and the whole mesh before it, on loopback. */
import { mkdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { serveStatus } from "../api/status-server.js";
import { parseConfig } from "../config/config.js";
import { createCertificates } from "../emulator/certificates.js";
import { startDiego } from "../emulator/diego/emulated-diego.js";
import { type Foundation, startFoundation } from "../emulator/foundation.js";
import type { Logger } from "../lib/logger.js";
import { requireFreePort } from "../lib/ports.js";
import { firstAnswer, pushSamples, type SampleRoute } from "./samples.js";
import { type Mesh, startMesh } from "./up.js";

export interface DevOptions {
  readonly host: string;
  readonly routerPort: number;
  readonly apiPort: number;
  /** Names the app domains; the sample routes are made on the first. */
  readonly domains: readonly string[];
  /** Sockets, certificates, logs and the mesh log; emptied at the start. */
  readonly stateDirectory: string;
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
  readonly foundation: Foundation;
  readonly routes: readonly SampleRoute[];
  readonly adminSocketPath: string;
  stop(): Promise<void>;
}

/** A laptop's traffic ends in this time; Ctrl-C should not feel slow. */
const DRAIN_TIME_MS = 500;
const STOP_GRACE_MS = 1_000;
/** Nobody takes a laptop's Envoy over. */
const ORPHAN_TIMEOUT_MS = 200;
const FIRST_ANSWER_TIMEOUT_MS = 30_000;

const SAMPLE_APP = fileURLToPath(new URL("../emulator/sample-app/main.js", import.meta.url));

/** Starts all of it. Throws the signal's reason when it aborts; what was started is stopped again when a part fails. */
export async function startDev(options: DevOptions): Promise<Dev> {
  const { host, routerPort, apiPort, domains, stateDirectory, logger, signal } = options;
  const onStep = (step: string) => {
    signal.throwIfAborted();
    options.onStep(step);
  };
  const cleanups: (() => Promise<void>)[] = [];
  async function stop(): Promise<void> {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  }

  try {
    const runDirectory = join(stateDirectory, "run");
    await mkdir(runDirectory, { recursive: true, mode: 0o700 });
    const running: { mesh?: Mesh } = {};
    const status = await serveStatus(join(runDirectory, "api.sock"), () => running.mesh?.status ?? {});
    cleanups.push(() => status.close());
    await requireFreePort(host, routerPort, "--port");
    await requireFreePort(host, apiPort, "--api-port");

    onStep("starting the foundation: UAA, Cloud Controller, Diego");
    const certificates = await createCertificates();
    const diego = await startDiego({ host, bbsPort: 0, certificates, stopGraceMs: STOP_GRACE_MS, logger });
    cleanups.push(() => diego.close());
    const foundation = await startFoundation({
      host,
      port: apiPort,
      appDomains: domains,
      diego,
      droplets: ["hello", "hola"].map((greeting) => ({
        name: greeting,
        command: [process.execPath, SAMPLE_APP, greeting],
        workingDirectory: dirname(SAMPLE_APP),
      })),
      logger,
    });
    cleanups.push(() => foundation.close());

    onStep("starting the mesh: log, sources, router with Envoy");
    const files = await writeSecrets(stateDirectory, {
      "bbs-ca.crt": certificates.ca,
      "bbs-client.crt": certificates.client.certificate,
      "bbs-client.key": certificates.client.key,
      "client-secret": foundation.clientSecret,
    });
    const logDirectory = join(stateDirectory, "log");
    // The foundation begins anew each time, so what an earlier one left in the log is nobody's.
    await rm(logDirectory, { recursive: true, force: true });
    const config = parseConfig(
      {
        log: { directory: logDirectory },
        router: {
          listenAddress: host,
          port: routerPort,
          runDirectory,
          concurrency: options.concurrency,
          drainTimeMs: DRAIN_TIME_MS,
          orphanTimeoutMs: ORPHAN_TIMEOUT_MS,
          ...(options.envoyPath !== undefined && { envoyPath: options.envoyPath }),
        },
        cloudController: {
          url: foundation.apiUrl,
          clientId: foundation.clientId,
          clientSecretFile: files["client-secret"],
        },
        diego: {
          urls: [diego.bbsUrl],
          caFile: files["bbs-ca.crt"],
          certificateFile: files["bbs-client.crt"],
          keyFile: files["bbs-client.key"],
        },
      },
      "cf-mesh dev",
      [],
    );
    const mesh = await startMesh(config, logger);
    running.mesh = mesh;
    cleanups.push(() => mesh.stop());

    onStep("pushing the sample apps hello and hola");
    const routes = await pushSamples(foundation, domains[0] ?? "");
    onStep("waiting for the first answers through the router");
    const waiting = AbortSignal.any([signal, AbortSignal.timeout(FIRST_ANSWER_TIMEOUT_MS)]);
    await Promise.all(routes.map(({ url }) => firstAnswer(host, routerPort, url, waiting)));
    return { mesh, foundation, routes, adminSocketPath: join(runDirectory, "admin.sock"), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Writes files that only their owner may read; returns their paths by name. */
async function writeSecrets<Name extends string>(
  directory: string,
  secrets: Readonly<Record<Name, string>>,
): Promise<Readonly<Record<Name, string>>> {
  const paths = {} as Record<Name, string>;
  for (const name of Object.keys(secrets) as Name[]) {
    paths[name] = join(directory, name);
    await writeFile(paths[name], secrets[name], { mode: 0o600 });
  }
  return paths;
}
