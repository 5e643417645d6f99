/** A whole mesh as operators run it: a foundation, a JetStream server and every job, each a process of its own. */
import { mkdir, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type NatsServer, startNatsServer } from "../src/emulator/nats/nats-server.js";
import { type EnvoyAdmin, envoyAdmin } from "../src/envoy/admin.js";
import type { MeshStatus } from "../src/jobs/up.js";
import { type MeshLog } from "../src/log/log.js";
import { openJetStreamLog } from "../src/log/jetstream.js";
import type { Child, Children } from "./child.js";
import type { BenchFoundation } from "./foundation-main.js";
import { freePort } from "./free-port.js";
import type { CollectedMemory } from "./memory-probe-main.js";
import { parentPid, pidByArgument } from "./process-usage.js";

const FOUNDATION = join(import.meta.dirname, "foundation-main.js");
const COMMAND_LINE = fileURLToPath(new URL("../src/cli/main.js", import.meta.url));
const MEMORY_PROBE = new URL("./memory-probe-main.js", import.meta.url).href;
const START_TIMEOUT_MS = 120_000;
const LOOK_PAUSE_MS = 50;
const REQUESTS_PER_SECOND = 20;

export interface JobProcess {
  readonly pid: number;
  readonly ended: AbortSignal;
  status(): Promise<MeshStatus>;
  /** Makes it collect its garbage first. */
  collectedMemory(): Promise<CollectedMemory>;
  stop(): Promise<void>;
}

export interface RouterJob extends JobProcess {
  readonly port: number;
  readonly admin: EnvoyAdmin;
  readonly envoyPid: number;
  readonly keeperPid: number;
}

export interface MeshProcesses {
  readonly foundation: BenchFoundation;
  readonly foundationPid: number;
  readonly nats: NatsServer;
  openLog(stream: string): Promise<MeshLog>;
  /** Each resolves when it is ready. @param id  names its directory, which is made for it */
  startControl(id: string, stream: string): Promise<JobProcess>;
  startRouteSyncer(id: string, stream: string): Promise<JobProcess>;
  startRouter(id: string, stream: string): Promise<RouterJob>;
  close(): Promise<void>;
}

export interface MeshProcessesOptions {
  readonly children: Children;
  /** Its name is short: unix sockets lie in it. */
  readonly directory: string;
  /** Of apps that do not run, beside the two that do. */
  readonly routeCount: number;
  readonly signal: AbortSignal;
}

/** Starts the foundation and the server; jobs when they are asked for. */
export async function startMeshProcesses(options: MeshProcessesOptions): Promise<MeshProcesses> {
  const { children, directory, routeCount, signal } = options;
  const nats = await startNatsServer({
    directory: join(directory, "nats"),
    settings: { jetstream: { store_dir: "jetstream" } },
  });
  try {
    const natsUrl = `nats://${nats.host}:${nats.port}`;
    const home = join(directory, "foundation");
    await mkdir(home, { mode: 0o700 });
    const args = [FOUNDATION, home, String(routeCount), natsUrl];
    const child = children.start("the foundation", process.execPath, args, home);
    const foundation = JSON.parse(await child.firstLine) as BenchFoundation;
    const { apiUrl: url, clientId, clientSecret, diego } = foundation;
    const sections = {
      control: { diego, nats: { servers: [natsUrl] } },
      "route-syncer": {
        cloudController: { url, clientId, clientSecret, requestsPerSecond: REQUESTS_PER_SECOND },
        diego,
      },
    };
    const start = async (job: string, id: string, stream: string, own: object) => {
      const place = join(directory, id);
      await mkdir(place, { mode: 0o700 });
      const apiPort = await freePort();
      const configFile = join(place, "config.json");
      const log = { jetstream: { servers: [natsUrl], stream, replicas: 1 } };
      const config = { logLevel: "warn", api: { port: apiPort }, log, ...own };
      await writeFile(configFile, JSON.stringify(config), { mode: 0o600 });
      return ready(startJob(children, job, place, configFile, apiPort), signal);
    };
    return {
      foundation,
      foundationPid: child.pid,
      nats,
      openLog: (stream) => openJetStreamLog({ servers: [natsUrl], stream, replicas: 1 }),
      startControl: (id, stream) => start("control", id, stream, sections.control),
      startRouteSyncer: (id, stream) => start("route-syncer", id, stream, sections["route-syncer"]),
      async startRouter(id, stream) {
        const runDirectory = join(directory, id, "run");
        const port = await freePort();
        const router = {
          ...{
            nodeId: id,
            listenAddress: "127.0.0.1",
            port,
            runDirectory,
            mirrorDirectory: join(directory, id, "mirror"),
          },
          ...{ concurrency: 1, drainWaitMs: 0, drainTimeMs: 0, orphanTimeoutMs: 1_000 },
        };
        const job = await start("router", id, stream, { router });
        const envoyPid = await pidByArgument(join(runDirectory, "envoy.json"));
        const admin = envoyAdmin(join(runDirectory, "admin.sock"));
        return { ...job, port, admin, envoyPid, keeperPid: await parentPid(envoyPid) };
      },
      close: () => nats.close(),
    };
  } catch (error) {
    await nats.close();
    throw error;
  }
}

interface StartedJob {
  readonly name: string;
  readonly child: Child;
  readonly probeSocket: string;
  readonly url: string;
}

function startJob(children: Children, name: string, place: string, configFile: string, apiPort: number): StartedJob {
  const probeSocket = join(place, "probe.sock");
  const child = children.start(
    name,
    process.execPath,
    ["--expose-gc", "--import", MEMORY_PROBE, COMMAND_LINE, name, "--config", configFile],
    place,
    { CF_MESH_BENCH_PROBE: probeSocket },
  );
  return { name, child, probeSocket, url: `http://127.0.0.1:${apiPort}` };
}

async function ready({ name, child, probeSocket, url }: StartedJob, signal: AbortSignal): Promise<JobProcess> {
  const deadline = AbortSignal.timeout(START_TIMEOUT_MS);
  const either = AbortSignal.any([signal, child.ended, deadline]);
  try {
    while (!(await isReady(url, either))) await delay(LOOK_PAUSE_MS, undefined, { signal: either });
  } catch (error) {
    await child.stop();
    if (deadline.aborted) throw new Error(`${name} was not ready within ${START_TIMEOUT_MS} ms`, { cause: error });
    throw either.aborted ? either.reason : error;
  }
  return {
    pid: child.pid,
    ended: child.ended,
    status: async () => (await (await fetch(`${url}/status`)).json()) as MeshStatus,
    collectedMemory: async () => JSON.parse(await text(connect(probeSocket))) as CollectedMemory,
    stop: () => child.stop(),
  };
}

async function isReady(url: string, signal: AbortSignal): Promise<boolean> {
  signal.throwIfAborted();
  const answer = await fetch(`${url}/ready`, { signal }).catch(() => undefined);
  await answer?.arrayBuffer();
  return answer?.ok === true;
}
