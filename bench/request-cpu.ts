/** Envoy's CPU for a request to a warm host, against a bare Envoy that proxies to the same app. */
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type BareEnvoy, startBareEnvoy } from "./bare-envoy.js";
import { Connection, hitEach, isServed } from "./connection.js";
import type { Measurement } from "./measurement.js";
import { cpuSeconds } from "./process-usage.js";
import type { RouterProcess } from "./router-process.js";
import type { Stage } from "./stage.js";
import { median, quantile } from "./statistics.js";
import { appWrites } from "./synthetic.js";

/** Many short rounds: what else the machine does meets all targets alike. */
const ROUNDS = 42;
const REQUESTS = 4_000;
const CONNECTIONS = 8;
const WARM_UP_REQUESTS = 2_000;
const SCOPE_PAUSE_MS = 5_000;
const SERVED_TIMEOUT_MS = 30_000;
const EXACT_HOST = "warm.apps.example.com";
/** Alone under its last two words, so that its group holds nothing else. */
const WILDCARD_HOST = "*.warm.example.org";
const HOST_BELOW_WILDCARD = "any.warm.example.org";

interface Target {
  readonly pid: number;
  readonly port: number;
  readonly host: string;
}

export async function measureRequestCpu(stage: Stage, router: RouterProcess): Promise<readonly Measurement[]> {
  if (!router.pids) {
    stage.progress(`CPU per request is not measured: this system has no /proc as Linux has it`);
    return [];
  }
  const { log, appPorts, children, directory, envoy, signal } = stage;
  await log.append([...appWrites(EXACT_HOST, appPorts[0]), ...appWrites(WILDCARD_HOST, appPorts[0])]);
  const connection = await Connection.open(router.port, signal);
  for (const host of [EXACT_HOST, HOST_BELOW_WILDCARD]) await connection.until(host, SERVED_TIMEOUT_MS, isServed);
  connection.close();
  const bare = await startBareEnvoy(children, envoy.path, join(directory, "bare"), appPorts[0], signal);
  try {
    return await compare(stage, router, router.pids.envoy, bare);
  } finally {
    await bare.stop();
  }
}

async function compare(
  { goals, signal }: Stage,
  router: RouterProcess,
  routerEnvoyPid: number,
  bare: BareEnvoy,
): Promise<readonly Measurement[]> {
  const targets = {
    bare: { pid: bare.pid, port: bare.port, host: EXACT_HOST },
    exact: { pid: routerEnvoyPid, port: router.port, host: EXACT_HOST },
    wildcard: { pid: routerEnvoyPid, port: router.port, host: HOST_BELOW_WILDCARD },
  };
  for (const target of Object.values(targets)) await cpuPerRequest(target, WARM_UP_REQUESTS, signal);
  // A host that is used much below a wildcard has a scope of its own by then.
  await delay(SCOPE_PAUSE_MS, undefined, { signal });
  const rounds: Record<keyof typeof targets, number>[] = [];
  // Each takes its turn at being first: who follows another process finds the caches cold.
  const order: (keyof typeof targets)[] = ["bare", "exact", "wildcard"];
  for (let round = 0; round < ROUNDS; round += 1) {
    const cpu = { bare: 0, exact: 0, wildcard: 0 };
    for (const name of order) cpu[name] = await cpuPerRequest(targets[name], REQUESTS, signal);
    rounds.push(cpu);
    order.push(...order.splice(0, 1));
  }
  const microseconds = (target: keyof typeof targets) => median(rounds.map((round) => round[target]));
  const ratio = (target: "exact" | "wildcard"): Measurement => {
    const ratios = rounds.map((round) => round[target] / round.bare);
    const spread = [0.1, 0.9].map((part) => quantile(ratios, part).toFixed(2)).join(" to ");
    return {
      what: `CPU per request: ${target} host, against bare Envoy`,
      value: median(ratios),
      unit: "×",
      goal: goals.cpuRatio,
      note: `median of ${ROUNDS} rounds; p10 to p90 ${spread}`,
    };
  };
  return [
    {
      what: "CPU per request: bare Envoy",
      value: microseconds("bare"),
      unit: "µs",
      note: `${REQUESTS.toLocaleString("en")} requests a round on ${CONNECTIONS} connections; one worker`,
    },
    { what: "CPU per request: exact host", value: microseconds("exact"), unit: "µs" },
    ratio("exact"),
    { what: "CPU per request: wildcard host", value: microseconds("wildcard"), unit: "µs" },
    ratio("wildcard"),
  ];
}

/** In microseconds, user and system. */
async function cpuPerRequest({ pid, port, host }: Target, requests: number, signal: AbortSignal): Promise<number> {
  const before = await cpuSeconds(pid);
  await hitEach(port, new Array<string>(requests).fill(host), CONNECTIONS, signal);
  return (1e6 * ((await cpuSeconds(pid)) - before)) / requests;
}
