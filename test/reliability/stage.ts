/**
 * A mesh as operators run it, on one machine: three NATS servers with the log, two routers, two controls, two
 * route-syncers, all processes of their own, before an emulated foundation whose apps run; and a network between them
 * that may fail.
 */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { Reaper } from "../../src/lib/reaper.js";
import { eventually } from "../support/eventually.js";
import { freePort } from "../support/free-port.js";
import { JOB_DOMAIN, type JobFoundation, startJobFoundation } from "../support/jobs.js";
import { type NatsCluster, startNatsCluster } from "../support/nats-cluster.js";
import { JobProcess } from "./job-process.js";
import { Link } from "./link.js";
import type { LoadTarget } from "./load.js";

export const STREAM = "cf-mesh";
export const JOBS = ["router", "control", "route-syncer"] as const;
export type JobKind = (typeof JOBS)[number];

/** The ways of one job to what it needs. */
export interface Links {
  readonly log: readonly Link[];
  readonly cloudController: Link;
  readonly uaa: Link;
  readonly diego: Link;
  readonly nats: Link;
}

export interface StageJob {
  readonly process: JobProcess;
  readonly links: Links;
}

export interface StageRouter extends StageJob {
  readonly port: number;
  readonly runDirectory: string;
  /** Of a file system of its own, with little room; undefined where this user may not mount one. */
  readonly mirrorDisk: string | undefined;
}

export interface Stage {
  readonly foundation: JobFoundation;
  readonly cluster: NatsCluster;
  readonly routers: readonly [StageRouter, StageRouter];
  readonly controls: readonly [StageJob, StageJob];
  readonly syncers: readonly [StageJob, StageJob];
  readonly targets: readonly LoadTarget[];
  /** A route that nobody heard of before, to the app "blue". Returns its host. */
  newRoute(): Promise<string>;
  /**
   * Leads a route that all know from the app "blue" to "green", or back. Of a new route, the platform's route-emitter
   * tells by NATS as well; what a known one leads to, Cloud Controller alone decides. Returns where it leads now.
   */
  moveRoute(): Promise<{ readonly host: string; readonly app: string }>;
  /** Resolves when every job is ready, and every key space has a writer. */
  settled(): Promise<void>;
  close(): Promise<void>;
}

const SETTLE_TIMEOUT_MS = 60_000;
const MIRROR_DISK = "16m";
const BLUE_WEIGHT = 80;
const MOVED_HOST = "moved";

const run = promisify(execFile);

export interface StageOptions {
  /** Hears what is being started. */
  readonly progress: (line: string) => void;
  /** An existing folder for what the jobs log; undefined: nobody wants it. */
  readonly logsFolder?: string | undefined;
}

export async function startStage({ progress, logsFolder }: StageOptions): Promise<Stage> {
  const directory = await mkdtemp(join(tmpdir(), "cfm-stage-"));
  const reaper = new Reaper();
  const cleanups: (() => Promise<unknown>)[] = [() => rm(directory, { recursive: true, force: true })];
  const close = async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  };
  try {
    cleanups.push(() => reaper.close());
    progress("the foundation, and three NATS servers for the log");
    const foundation = await startJobFoundation();
    cleanups.push(() => foundation.stop());
    const cluster = await startNatsCluster(3);
    cleanups.push(() => cluster.close());
    const targets = await makeTargets(foundation);

    const startJob = async (kind: JobKind, index: number): Promise<StageRouter> => {
      const name = `${kind}-${index}`;
      const home = join(directory, name);
      await mkdir(home, { mode: 0o700 });
      const links = await openLinks(foundation, cluster);
      cleanups.push(() => closeLinks(links));
      const [port, apiPort] = [await freePort(), await freePort()];
      const runDirectory = join(home, "run");
      const mirrorDisk = kind === "router" ? await mountDisk(join(home, "disk")) : undefined;
      if (mirrorDisk !== undefined) cleanups.push(() => run("umount", [mirrorDisk]));
      const config = {
        api: { port: apiPort },
        ...proxied(foundation, cluster, links),
        router: {
          nodeId: name,
          listenAddress: "127.0.0.1",
          port,
          runDirectory,
          mirrorDirectory: join(mirrorDisk ?? home, "mirror"),
          concurrency: 1,
          drainWaitMs: 500,
          drainTimeMs: 5_000,
          orphanTimeoutMs: 60_000,
        },
      };
      const configFile = join(home, "mesh.json");
      await writeFile(configFile, JSON.stringify(config), { mode: 0o600 });
      const process = new JobProcess({
        reaper,
        job: kind,
        name,
        configFile,
        apiPort,
        logFile: join(logsFolder ?? home, `${name}.log`),
      });
      cleanups.push(async () => {
        await process.stop();
        await endEnvoy(runDirectory);
      });
      return { process, links, port, runDirectory, mirrorDisk };
    };
    const two = async (kind: JobKind) => [await startJob(kind, 0), await startJob(kind, 1)] as const;
    progress("two of each job");
    const [routers, controls, syncers] = [await two("router"), await two("control"), await two("route-syncer")];
    let routeCount = 0;
    let moveCount = 0;
    const stage: Stage = {
      foundation,
      cluster,
      routers,
      controls,
      syncers,
      targets,
      async newRoute() {
        routeCount += 1;
        const host = `new-${routeCount}`;
        await foundation.route(host, foundation.guidOf("blue"));
        return `${host}.${JOB_DOMAIN}`;
      },
      async moveRoute() {
        moveCount += 1;
        const app = moveCount % 2 === 0 ? "blue" : "green";
        await foundation.route(MOVED_HOST, foundation.guidOf(app));
        return { host: `${MOVED_HOST}.${JOB_DOMAIN}`, app };
      },
      settled: () => eventually(() => isSettled(stage), SETTLE_TIMEOUT_MS).then(() => undefined),
      close,
    };
    progress("waiting until all are ready");
    await stage.settled();
    return stage;
  } catch (error) {
    await close();
    throw error;
  }
}

async function makeTargets(foundation: JobFoundation): Promise<readonly LoadTarget[]> {
  const [blue, green] = [await foundation.app("blue"), await foundation.app("green")];
  await foundation.route("both", [
    { guid: blue, weight: BLUE_WEIGHT },
    { guid: green, weight: 100 - BLUE_WEIGHT },
  ]);
  await foundation.route(MOVED_HOST, blue);
  return [
    { host: `blue.${JOB_DOMAIN}`, apps: ["blue"] },
    { host: `green.${JOB_DOMAIN}`, apps: ["green"] },
    { host: `both.${JOB_DOMAIN}`, apps: ["blue", "green"] },
  ];
}

async function openLinks({ sections }: JobFoundation, { urls }: NatsCluster): Promise<Links> {
  const to = (url: string | undefined) => Link.to(new URL(url ?? ""));
  return {
    log: await Promise.all(urls.map(to)),
    cloudController: await to(sections.cloudController.url),
    // The emulator's UAA has the address of its Cloud Controller.
    uaa: await to(sections.cloudController.url),
    diego: await to(sections.diego.urls[0]),
    nats: await to(sections.nats.servers[0]),
  };
}

async function closeLinks({ log, ...others }: Links): Promise<void> {
  await Promise.all([...log, ...Object.values(others)].map((link: Link) => link.close()));
}

/** The configuration of a job whose connections take these ways. */
function proxied({ sections }: JobFoundation, { urls }: NatsCluster, links: Links): object {
  const via = (link: Link | undefined, url: string | undefined) => link?.via(new URL(url ?? "")) ?? "";
  const { cloudController, diego, nats } = sections;
  return {
    log: { jetstream: { servers: urls.map((url, index) => via(links.log[index], url)), replicas: 3 } },
    cloudController: {
      ...cloudController,
      url: via(links.cloudController, cloudController.url),
      uaaUrl: via(links.uaa, cloudController.url),
    },
    diego: { ...diego, urls: [via(links.diego, diego.urls[0])] },
    nats: { ...nats, servers: [via(links.nats, nats.servers[0])] },
  };
}

/** A small file system in memory; undefined where this user may not mount one. */
async function mountDisk(place: string): Promise<string | undefined> {
  await mkdir(place);
  try {
    await run("mount", ["-t", "tmpfs", "-o", `size=${MIRROR_DISK}`, "tmpfs", place]);
    return place;
  } catch {
    return undefined;
  }
}

async function isSettled({ routers, controls, syncers }: Stage): Promise<boolean> {
  const jobs = [...routers, ...controls, ...syncers];
  const ready = await Promise.all(jobs.map(({ process }) => process.isReady()));
  if (ready.includes(false)) return false;
  for (const pair of [controls, syncers]) {
    const statuses = await Promise.all(pair.map(({ process }) => process.status()));
    const sources = statuses[0]?.sources.map(({ name }) => name) ?? [];
    const isLed = sources.every((name) =>
      statuses.some((status) => status?.sources.some((source) => source.name === name && source.role === "leader")),
    );
    if (!isLed) return false;
  }
  const routerStatuses = await Promise.all(routers.map(({ process }) => process.status()));
  return routerStatuses.every((status) => status?.router?.proxies.length === 1 && status.router.envoy.isRunning);
}

/** The pids of a router's Envoy, by its bootstrap's place, and of the keeper that started it. */
export async function envoyPids(
  runDirectory: string,
): Promise<{ readonly envoy: number[]; readonly keeper: number[] }> {
  const { stdout } = await run("ps", ["-A", "-o", "pid=,ppid=,args="]);
  const found = stdout
    .split("\n")
    .filter((line) => line.includes(join(runDirectory, "envoy.json")))
    .map((line) => line.trim().split(/\s+/).map(Number));
  return { envoy: found.map(([pid = 0]) => pid), keeper: found.map(([, parent = 0]) => parent) };
}

async function endEnvoy(runDirectory: string): Promise<void> {
  await eventually(async () => {
    const { envoy, keeper } = await envoyPids(runDirectory);
    for (const pid of [...keeper, ...envoy]) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It ended by itself.
      }
    }
    return envoy.length === 0;
  });
}
