/** A router as operators run it: `cf-mesh router` in a process of its own, over the embedded log. */
import { request } from "node:http";
import { connect } from "node:net";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { json, text } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type EnvoyAdmin, envoyAdmin } from "../src/envoy/admin.js";
import { TYPE_URLS } from "../src/jobs/mesh-resources.js";
import type { MeshStatus } from "../src/jobs/up.js";
import type { Children } from "./child.js";
import { untilServed } from "./connection.js";
import { freePort } from "./free-port.js";
import type { CollectedMemory } from "./memory-probe-main.js";
import { canSeeProcesses, pidByArgument } from "./process-usage.js";

const COMMAND_LINE = fileURLToPath(new URL("../src/cli/main.js", import.meta.url));
const MEMORY_PROBE = new URL("./memory-probe-main.js", import.meta.url).href;

const START_TIMEOUT_MS = 300_000;
const LOOK_PAUSE_MS = 10;
/** Should this process be killed, Envoy is not to stay for longer. */
const ORPHAN_TIMEOUT_MS = 1_000;
/** What asks Envoy, with a million scopes in it, waits for those that are being applied. */
const ADMIN_TIMEOUT_MS = 60_000;

export interface RouterProcess {
  readonly port: number;
  /** Where the system does not show processes, undefined. */
  readonly pids: { readonly agent: number; readonly envoy: number } | undefined;
  readonly admin: EnvoyAdmin;
  /** From the start of the process until all probe hosts were served. */
  readonly servingMs: number;
  /** From the start of the process until Envoy had accepted the scopes of all hosts. */
  readonly completeMs: number;
  /** Aborts when it ends unasked. */
  readonly ended: AbortSignal;
  /** Makes the agent collect its garbage first. */
  collectedMemory(): Promise<CollectedMemory>;
  stop(): Promise<void>;
}

export interface RouterProcessOptions {
  readonly children: Children;
  /** Made for it. Its name is short: unix sockets lie in it. */
  readonly directory: string;
  readonly logDirectory: string;
  /** The hosts in the log. */
  readonly hostCount: number;
  readonly probeHosts: readonly string[];
  /** More of the section `router` in its configuration. */
  readonly section: object;
  readonly signal: AbortSignal;
}

/** Resolves when it serves the probe hosts, and Envoy has all scopes. Throws when it ends before, or takes too long. */
export async function startRouterProcess(options: RouterProcessOptions): Promise<RouterProcess> {
  const { children, directory, logDirectory, hostCount, probeHosts, section } = options;
  await mkdir(directory, { mode: 0o700 });
  const runDirectory = join(directory, "run");
  const probeSocket = join(directory, "probe.sock");
  const configFile = join(directory, "config.json");
  const port = await freePort();
  await writeFile(
    configFile,
    JSON.stringify({
      logLevel: "warn",
      log: { directory: logDirectory },
      router: {
        listenAddress: "127.0.0.1",
        port,
        runDirectory,
        concurrency: 1,
        drainWaitMs: 0,
        drainTimeMs: 0,
        orphanTimeoutMs: ORPHAN_TIMEOUT_MS,
        ...section,
      },
    }),
  );
  const startedMs = performance.now();
  const child = children.start(
    "the router",
    process.execPath,
    ["--expose-gc", "--import", MEMORY_PROBE, COMMAND_LINE, "router", "--config", configFile],
    directory,
    { CF_MESH_BENCH_PROBE: probeSocket },
  );
  const signal = AbortSignal.any([options.signal, child.ended, AbortSignal.timeout(START_TIMEOUT_MS)]);
  try {
    for (const host of probeHosts) await untilServed(port, host, signal);
    const servingMs = performance.now() - startedMs;
    await untilComplete(join(runDirectory, "api.sock"), hostCount, signal);
    const completeMs = performance.now() - startedMs;
    return {
      port,
      pids: canSeeProcesses
        ? { agent: child.pid, envoy: await pidByArgument(join(runDirectory, "envoy.json")) }
        : undefined,
      admin: envoyAdmin(join(runDirectory, "admin.sock"), ADMIN_TIMEOUT_MS),
      servingMs,
      completeMs,
      ended: child.ended,
      collectedMemory: async () => JSON.parse(await text(connect(probeSocket))) as CollectedMemory,
      stop: () => child.stop(),
    };
  } catch (error) {
    await child.stop();
    throw signal.aborted ? signal.reason : error;
  }
}

async function untilComplete(statusSocket: string, hostCount: number, signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    const status = await readStatus(statusSocket, signal).catch(() => undefined);
    const scopes = status?.router?.proxies[0]?.types.find(({ typeUrl }) => typeUrl === TYPE_URLS.scopes);
    if (scopes && scopes.heldCount >= hostCount && scopes.pending + scopes.unanswered === 0) return;
    await delay(LOOK_PAUSE_MS, undefined, { signal });
  }
}

function readStatus(socketPath: string, signal: AbortSignal): Promise<Partial<MeshStatus>> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, path: "/status", agent: false, signal }, (response) => {
      json(response).then((body) => resolve(body as Partial<MeshStatus>), reject);
    });
    call.once("error", reject);
    call.end();
  });
}
