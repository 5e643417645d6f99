/** What routes cost in memory: each figure is the difference to a router without routes, per route. */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { Connection, hitEach, isServed } from "./connection.js";
import type { Measurement } from "./measurement.js";
import { residentMemory, type ResidentMemory } from "./process-usage.js";
import type { RouterProcess } from "./router-process.js";
import type { Stage } from "./stage.js";
import { processWrite, routeWrite } from "./synthetic.js";

/** Hosts that are asked for, to see what an active one costs. */
const ACTIVE_HOSTS = 1_000;
const PART_OF_HOSTS = 0.2;
/** Routes that lead to an app with four instances. */
const ROUTES_WITH_INSTANCES = 500;
const SERVED_TIMEOUT_MS = 30_000;
/** Of connections to apps, where they are to end soon. */
const IDLE_TIMEOUT_MS = 500;
const LOOK_PAUSE_MS = 100;

interface RouterMemory {
  readonly agent: ResidentMemory;
  /** What the agent uses of its heap after a full collection. */
  readonly agentHeapBytes: number;
  readonly agentAfterCollection: ResidentMemory;
  readonly envoy: EnvoyMemory;
}

interface EnvoyMemory {
  readonly resident: ResidentMemory;
  readonly allocatedBytes: number;
}

export async function measureMemory(stage: Stage, router: RouterProcess): Promise<readonly Measurement[]> {
  const { routeCount, goals, signal } = stage;
  const empty = await stage.startRouter({ isEmpty: true });
  const without = await routerMemory(empty);
  await empty.stop();
  const idle = await routerMemory(router);
  if (!without || !idle || !router.pids) {
    stage.progress(`memory is not measured: this system has no /proc as Linux has it`);
    return [];
  }
  const active = stage.coldHosts(Math.min(ACTIVE_HOSTS, Math.floor(routeCount * PART_OF_HOSTS)));
  await hitEach(router.port, active, 1, signal);
  const busy = await envoyMemory(router, router.pids.envoy);
  const withInstances = await addRoutesWithInstances(stage, router);
  await hitEach(router.port, withInstances, 1, signal);
  const busier = await envoyMemory(router, router.pids.envoy);
  const withoutConnections = await unconnectedKb(stage, withInstances);

  const perRoute = (of: (memory: RouterMemory) => number) => (of(idle) - of(without)) / routeCount;
  const perActive = (of: (memory: EnvoyMemory) => number) => (of(busy) - of(idle.envoy)) / active.length;
  const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(0)} MB`;
  const unit = "B/route";
  return [
    {
      what: "memory: agent, resident",
      value: perRoute(({ agent }) => agent.totalBytes),
      unit,
      goal: goals.agentBytesPerRoute,
      note: `${megabytes(idle.agent.totalBytes)} in all, ${megabytes(without.agent.totalBytes)} without routes`,
    },
    {
      what: "memory: agent, resident, without pages of files",
      value: perRoute(({ agent }) => agent.totalBytes - agent.fileBytes),
      unit,
      note: "the mapped log is such a file",
    },
    {
      what: "memory: agent, resident after a full collection, without pages of files",
      value: perRoute(({ agentAfterCollection: { totalBytes, fileBytes } }) => totalBytes - fileBytes),
      unit,
    },
    { what: "memory: agent, heap in use", value: perRoute(({ agentHeapBytes }) => agentHeapBytes), unit },
    {
      what: "memory: Envoy, resident, idle route",
      value: perRoute(({ envoy }) => envoy.resident.totalBytes),
      unit,
      goal: goals.envoyBytesPerIdleRoute,
      note: `${megabytes(idle.envoy.resident.totalBytes)} in all, ${megabytes(without.envoy.resident.totalBytes)} without routes`,
    },
    {
      what: "memory: Envoy, allocated, idle route",
      value: perRoute(({ envoy }) => envoy.allocatedBytes),
      unit,
    },
    {
      what: "memory: Envoy, resident, active host",
      value: perActive(({ resident }) => resident.totalBytes) / 1_000,
      unit: "kB/host",
      note: `${active.length} hosts, each with a connection to its app; one worker; in part of memory that the start left free`,
    },
    {
      what: "memory: Envoy, allocated, active host",
      value: perActive(({ allocatedBytes }) => allocatedBytes) / 1_000,
      unit: "kB/host",
    },
    {
      what: "memory: Envoy, allocated, active route with 4 instances",
      value: (busier.allocatedBytes - busy.allocatedBytes) / ROUTES_WITH_INSTANCES / 1_000,
      unit: "kB/route",
      goal: goals.activeRouteKb,
      note: `${ROUTES_WITH_INSTANCES} routes, each with a connection to one of them`,
    },
    {
      what: "memory: Envoy, allocated, route with 4 instances, used before",
      value: withoutConnections,
      unit: "kB/route",
      goal: goals.activeRouteKb,
      note: "its connection has ended, as it does 90 s after the last request",
    },
  ];
}

/** Of an Envoy whose connections to apps have ended, for each of these hosts that was used, in kB. */
async function unconnectedKb(stage: Stage, hosts: readonly string[]): Promise<number> {
  const { signal } = stage;
  const router = await stage.startRouter({ section: { http: { backends: { idleTimeoutMs: IDLE_TIMEOUT_MS } } } });
  try {
    const [first = "", ...others] = hosts;
    const after = async (asked: readonly string[]) => {
      await hitEach(router.port, asked, 1, signal);
      await untilUnconnected(router, signal);
      return (await router.admin.memory()).allocatedBytes;
    };
    // What Envoy makes at the very first request is no route's.
    const before = await after([first]);
    return ((await after(others)) - before) / others.length / 1_000;
  } finally {
    await router.stop();
  }
}

async function untilUnconnected({ admin }: RouterProcess, signal: AbortSignal): Promise<void> {
  while ((await admin.clusters()).some(({ stats }) => (stats.get("cx_active") ?? 0) > 0)) {
    await delay(LOOK_PAUSE_MS, undefined, { signal });
  }
}

/** Returns  their hosts, of which none was asked for. */
async function addRoutesWithInstances(
  { log, appPorts, signal }: Stage,
  { port }: RouterProcess,
): Promise<readonly string[]> {
  const hosts = Array.from({ length: ROUTES_WITH_INSTANCES }, (_, index) => `four-${index}.apps.example.com`);
  const last = "four-last.apps.example.com";
  await log.append(
    [...hosts, last].flatMap((host) => {
      const processGuid = randomUUID();
      return [
        processWrite(processGuid, appPorts),
        routeWrite({ guid: randomUUID(), host }, [{ processGuid, weight: 0 }]),
      ];
    }),
  );
  const connection = await Connection.open(port, signal);
  await connection.until(last, SERVED_TIMEOUT_MS, isServed);
  connection.close();
  return hosts;
}

/** undefined where the system does not show processes. */
async function routerMemory(router: RouterProcess): Promise<RouterMemory | undefined> {
  if (!router.pids) return undefined;
  const { agent: agentPid, envoy: envoyPid } = router.pids;
  const agent = await residentMemory(agentPid);
  const envoy = await envoyMemory(router, envoyPid);
  const { heapUsed } = await router.collectedMemory();
  return { agent, envoy, agentHeapBytes: heapUsed, agentAfterCollection: await residentMemory(agentPid) };
}

async function envoyMemory({ admin }: RouterProcess, pid: number): Promise<EnvoyMemory> {
  const { allocatedBytes } = await admin.memory();
  return { allocatedBytes, resident: await residentMemory(pid) };
}
