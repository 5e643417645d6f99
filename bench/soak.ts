/** Does anything grow, or drift? A whole mesh under changes without end; then it is held against one made anew. */
import { setMaxListeners } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { COMPLETION_PREFIX } from "../src/log/completion.js";
import { KEY_SPACES } from "../src/entries/keys.js";
import type { MeshLog } from "../src/log/log.js";
import { Children } from "./child.js";
import { Churn } from "./churn.js";
import { Connection } from "./connection.js";
import { envoyContents } from "./envoy-contents.js";
import { type Growth, growthLimit, growthOf, type MemorySample } from "./growth.js";
import type { Measurement } from "./measurement.js";
import { type JobProcess, type MeshProcesses, type RouterJob, startMeshProcesses } from "./mesh-processes.js";
import { canSeeProcesses, residentMemory } from "./process-usage.js";

export interface SoakOptions {
  readonly minutes: number;
  /** Of apps that do not run. */
  readonly routeCount: number;
  readonly signal: AbortSignal;
  readonly progress: (line: string) => void;
}

const STREAM = "cf-mesh";
const FRESH_STREAM = "fresh";
const STEP_PAUSE_MS = 100;
const SAMPLE_PAUSE_MS = 2_500;
/** A full collection takes part in what is measured: not at every sample. */
const SAMPLES_PER_COLLECTION = 2;
const PROGRESS_MS = 60_000;
const MS_PER_MINUTE = 60_000;
/** Changes that were made last are on their way for a while. */
const SETTLE_TIMEOUT_MS = 60_000;
const SETTLE_PAUSE_MS = 500;
const SHOWN_DIFFERENCES = 5;
const MB = 1e6;

/** Throws when the signal aborts, when a process ends unasked, and where the system does not show processes. */
export async function measureSoak(options: SoakOptions): Promise<readonly Measurement[]> {
  if (!canSeeProcesses)
    throw new Error("a soak watches the memory of processes, and this system has no /proc as Linux has it");
  const { routeCount, progress } = options;
  const directory = await mkdtemp(join(tmpdir(), "cfm-soak-"));
  const children = new Children();
  let mesh: MeshProcesses | undefined;
  try {
    progress("starting the foundation and the jobs");
    mesh = await startMeshProcesses({ children, directory, routeCount, signal: options.signal });
    const control = await mesh.startControl("control", STREAM);
    const syncer = await mesh.startRouteSyncer("syncer", STREAM);
    const router = await mesh.startRouter("router", STREAM);
    const signal = AbortSignal.any([options.signal, ...[control, syncer, router].map(({ ended }) => ended)]);
    setMaxListeners(0, signal);
    return await soak({ ...options, signal }, mesh, { control, syncer, router });
  } finally {
    await children.close();
    await mesh?.close();
    await rm(directory, { recursive: true, force: true });
  }
}

interface Jobs {
  readonly control: JobProcess;
  readonly syncer: JobProcess;
  readonly router: RouterJob;
}

async function soak(options: SoakOptions, mesh: MeshProcesses, jobs: Jobs): Promise<readonly Measurement[]> {
  const { minutes, signal, progress } = options;
  const churn = await Churn.open(mesh.foundation, jobs.router.port, signal);
  const log = await mesh.openLog(STREAM);
  try {
    const series = seriesOf(mesh, jobs);
    progress(`changes for ${minutes} min`);
    await under(churn, options, series);
    const { routes, weights, instances, requests, failures } = churn.counts;
    for (const failure of failures.slice(0, SHOWN_DIFFERENCES)) progress(`  not served: ${failure}`);
    progress("a mesh made anew, to compare with");
    const logDifferences = await compareLogs(options, mesh, log);
    const fresh = await mesh.startRouter("fresh-router", STREAM);
    const modelDifferences = await compareRouters(options, churn, jobs.router, fresh);
    return [
      {
        ...{
          what: "soak: answers other than 200 of standing routes",
          value: failures.length,
          unit: "",
          goal: { atMost: 0 },
        },
        note: `${minutes} min: ${routes} routes made, ${weights} reweighed, ${instances} scalings; ${requests} requests`,
      },
      {
        ...{ what: "soak: entries that differ from a fresh full read", value: logDifferences.length, unit: "" },
        ...{
          goal: { atMost: 0 },
          note: "of all key spaces, byte by byte; by a control and a route-syncer on an empty stream",
        },
      },
      {
        ...{ what: "soak: what differs in a router made anew", value: modelDifferences.length, unit: "" },
        ...{
          goal: { atMost: 0 },
          note: "routes, clusters and endpoints in Envoy; answers of hosts that are, and that were",
        },
      },
      ...series.map(({ name, isOurs, samples }) => growthMeasurement(name, isOurs, growthOf(samples))),
    ];
  } finally {
    churn.close();
    await log.close();
  }
}

interface Series {
  readonly name: string;
  /** The emulator keeps what real platforms have databases for. */
  readonly isOurs: boolean;
  readonly isCollected: boolean;
  readonly samples: MemorySample[];
  read(): Promise<number>;
}

function seriesOf({ foundationPid, nats }: MeshProcesses, { control, syncer, router }: Jobs): readonly Series[] {
  const resident = (name: string, pid: number, isOurs = true): Series => ({
    ...{ name: `${name}, resident`, isOurs, isCollected: false, samples: [] },
    read: async () => (await residentMemory(pid)).totalBytes,
  });
  const heap = (name: string, job: JobProcess): Series => ({
    ...{ name: `${name}, heap after a full collection`, isOurs: true, isCollected: true, samples: [] },
    read: async () => (await job.collectedMemory()).heapUsed,
  });
  return [
    resident("router's agent", router.pid),
    heap("router's agent", router),
    resident("keeper", router.keeperPid),
    resident("Envoy", router.envoyPid),
    {
      ...{ name: "Envoy, allocated", isOurs: true, isCollected: false, samples: [] },
      read: async () => (await router.admin.memory()).allocatedBytes,
    },
    resident("control", control.pid),
    heap("control", control),
    resident("route-syncer", syncer.pid),
    heap("route-syncer", syncer),
    ...(nats.pid === undefined ? [] : [resident("nats-server", nats.pid, false)]),
    resident("emulated foundation", foundationPid, false),
  ];
}

/** Changes, and samples beside them, until the time is over. */
async function under(
  churn: Churn,
  { minutes, signal, progress }: SoakOptions,
  series: readonly Series[],
): Promise<void> {
  const startedMs = performance.now();
  const endMs = startedMs + minutes * MS_PER_MINUTE;
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  const changing = (async () => {
    while (performance.now() < endMs) {
      await churn.step();
      await delay(STEP_PAUSE_MS, undefined, { signal: either });
    }
  })();
  const sampling = (async () => {
    let toldMs = startedMs;
    for (let round = 0; performance.now() < endMs; round += 1) {
      for (const one of series) {
        if (one.isCollected && round % SAMPLES_PER_COLLECTION > 0) continue;
        one.samples.push({ atMs: performance.now() - startedMs, bytes: await one.read() });
      }
      if (performance.now() - toldMs >= PROGRESS_MS) {
        toldMs = performance.now();
        const sizes = series.map(({ name, samples }) => `${name} ${megabytes(samples.at(-1)?.bytes ?? 0)}`);
        progress(`  ${Math.round((toldMs - startedMs) / MS_PER_MINUTE)} min: ${sizes.join("; ")}`);
      }
      await delay(SAMPLE_PAUSE_MS, undefined, { signal: either });
    }
  })();
  try {
    await Promise.all([changing, sampling]);
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  } finally {
    failed.abort();
    await Promise.allSettled([changing, sampling]);
  }
}

/** Returns the keys whose values differ, when those that differ at first had time to settle. */
async function compareLogs(options: SoakOptions, mesh: MeshProcesses, log: MeshLog): Promise<readonly string[]> {
  const control = await mesh.startControl("fresh-control", FRESH_STREAM);
  const syncer = await mesh.startRouteSyncer("fresh-syncer", FRESH_STREAM);
  const freshLog = await mesh.openLog(FRESH_STREAM);
  try {
    return await settled(options, "the log", async () => {
      const [soaked, fresh] = [await contents(log), await contents(freshLog)];
      return differences(soaked, fresh);
    });
  } finally {
    await freshLog.close();
    await syncer.stop();
    await control.stop();
  }
}

/** Every entry of a key space, and which key spaces are complete. */
async function contents(log: MeshLog): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>();
  for (const prefix of [...Object.values(KEY_SPACES), COMPLETION_PREFIX]) {
    for await (const entries of log.read(prefix)) {
      for (const { key, value } of entries) if (value) found.set(key, Buffer.from(value).toString("base64"));
    }
  }
  return found;
}

async function compareRouters(
  options: SoakOptions,
  churn: Churn,
  soaked: RouterJob,
  fresh: RouterJob,
): Promise<readonly string[]> {
  const { hosts, goneHosts } = churn;
  const ask = async ({ port }: RouterJob) => {
    const connection = await Connection.open(port, options.signal);
    try {
      const answers = new Map<string, string>();
      for (const host of [...hosts, ...goneHosts]) {
        const { status } = await connection.get(host);
        answers.set(`answer of ${host}`, String(status));
      }
      return answers;
    } finally {
      connection.close();
    }
  };
  const wanted = new Map([
    ...hosts.map((host) => [`answer of ${host}`, "200"] as const),
    ...goneHosts.map((host) => [`answer of ${host}`, "404"] as const),
  ]);
  return settled(options, "the model", async () => {
    const answers = [await ask(soaked), await ask(fresh)] as const;
    const [ours, theirs] = [await envoyContents(soaked.admin), await envoyContents(fresh.admin)];
    const sequences = await Promise.all([soaked, fresh].map(async (job) => (await job.status()).router?.sequence));
    return [
      ...answers.flatMap((found) => differences(found, wanted)),
      ...differences(ours, theirs),
      ...(sequences[0] === sequences[1] ? [] : [`sequences ${sequences.join(" and ")}`]),
    ];
  });
}

/** What differs once that is nothing, or the time is over. */
async function settled(
  { signal, progress }: SoakOptions,
  what: string,
  compare: () => Promise<readonly string[]>,
): Promise<readonly string[]> {
  const deadlineMs = performance.now() + SETTLE_TIMEOUT_MS;
  for (;;) {
    const found = await compare();
    if (found.length === 0) return found;
    if (performance.now() > deadlineMs) {
      for (const key of found.slice(0, SHOWN_DIFFERENCES)) progress(`  ${what} differs: ${key}`);
      return found;
    }
    await delay(SETTLE_PAUSE_MS, undefined, { signal });
  }
}

/** The keys whose values differ, each with how. */
function differences(soaked: ReadonlyMap<string, string>, fresh: ReadonlyMap<string, string>): readonly string[] {
  const how = (key: string) => {
    if (!fresh.has(key)) return "only in the soaked one";
    return soaked.has(key) ? "another value" : "only in the fresh one";
  };
  return [...new Set([...soaked.keys(), ...fresh.keys()])]
    .filter((key) => soaked.get(key) !== fresh.get(key))
    .sort()
    .map((key) => `${key}: ${how(key)}`);
}

function growthMeasurement(name: string, isOurs: boolean, growth: Growth): Measurement {
  const { fromBytes, percentPerHour, marginPercentPerHour, hours } = growth;
  const rounded = (percent: number) => percent.toFixed(1);
  return {
    what: `soak: growth at least, ${name}`,
    // Less than nothing is nothing: the line may fall.
    value: Math.max(0, percentPerHour - marginPercentPerHour),
    unit: "%/h",
    goal: isOurs ? { atMost: growthLimit(hours) } : undefined,
    note: `slope ${rounded(percentPerHour)} ± ${rounded(marginPercentPerHour)} %/h, from ${megabytes(fromBytes)}, over ${(hours * 60).toFixed(1)} min`,
  };
}

const megabytes = (bytes: number) => `${(bytes / MB).toFixed(1)} MB`;
