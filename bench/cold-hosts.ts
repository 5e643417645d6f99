/** The first request to a host: Envoy fetches its routes, cluster and endpoints from the agent meanwhile. */
import { hitEach } from "./connection.js";
import type { Measurement } from "./measurement.js";
import { cpuSeconds } from "./process-usage.js";
import type { RouterProcess } from "./router-process.js";
import type { Stage } from "./stage.js";
import { quantile } from "./statistics.js";

const HITS = 1_000;
const CONCURRENT_HITS = 2_000;
const CONCURRENCY = 32;
/** Each of them, of all hosts; other parts need some too. */
const PART_OF_HOSTS = 0.2;

interface RouterCpu {
  readonly agent: number;
  readonly envoy: number;
}

export async function measureColdHosts(stage: Stage, router: RouterProcess): Promise<readonly Measurement[]> {
  const { routeCount, goals, signal } = stage;
  const most = Math.floor(routeCount * PART_OF_HOSTS);
  const tookMs = await hitEach(router.port, stage.coldHosts(Math.min(HITS, most)), 1, signal);

  const hosts = stage.coldHosts(Math.min(CONCURRENT_HITS, most));
  const before = await routerCpu(router);
  const startedMs = performance.now();
  await hitEach(router.port, hosts, CONCURRENCY, signal);
  const allMs = performance.now() - startedMs;
  const after = await routerCpu(router);

  const measurements: Measurement[] = [
    { what: "cold host: first answer, p50", value: quantile(tookMs, 0.5), unit: "ms", goal: goals.coldHitMs },
    {
      what: "cold host: first answer, p99",
      value: quantile(tookMs, 0.99),
      unit: "ms",
      note: `${tookMs.length} hosts, one after the other`,
    },
    {
      what: "cold hosts: on this machine",
      value: (1_000 * hosts.length) / allMs,
      unit: "hosts/s",
      note: `${hosts.length} hosts, ${CONCURRENCY} at once; client, apps, agent and Envoy share the cores`,
    },
  ];
  if (!before || !after) return measurements;
  const msEach = (process: keyof RouterCpu) => (1_000 * (after[process] - before[process])) / hosts.length;
  return [
    ...measurements,
    {
      what: "cold hosts: by Envoy's CPU",
      value: 1_000 / msEach("envoy"),
      unit: "hosts/s per core",
      goal: goals.coldHitsPerSecondOfCore,
      note: `CPU of a first hit: Envoy ${msEach("envoy").toFixed(2)} ms`,
    },
    {
      what: "cold hosts: by the CPU of Envoy and agent",
      value: 1_000 / (msEach("envoy") + msEach("agent")),
      unit: "hosts/s per core",
      note: `CPU of a first hit: agent ${msEach("agent").toFixed(2)} ms`,
    },
  ];
}

async function routerCpu({ pids }: RouterProcess): Promise<RouterCpu | undefined> {
  return pids && { agent: await cpuSeconds(pids.agent), envoy: await cpuSeconds(pids.envoy) };
}
