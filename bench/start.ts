/** From the start of a router's process to serving, out of the log on disk, with all else down. */
import type { Measurement } from "./measurement.js";
import { cpuSeconds } from "./process-usage.js";
import type { Stage } from "./stage.js";
import { median } from "./statistics.js";

const STARTS = 3;
/** Beyond, one start takes long enough to say it all. */
const MANY_ROUTES = 200_000;

export async function measureStart(stage: Stage): Promise<readonly Measurement[]> {
  const { routeCount, goals, signal } = stage;
  const starts = routeCount > MANY_ROUTES ? 1 : STARTS;
  const servingMs: number[] = [];
  const completeMs: number[] = [];
  const agentSeconds: number[] = [];
  const envoySeconds: number[] = [];
  for (let count = 0; count < starts; count += 1) {
    signal.throwIfAborted();
    const router = await stage.startRouter();
    servingMs.push(router.servingMs);
    completeMs.push(router.completeMs);
    if (router.pids) {
      agentSeconds.push(await cpuSeconds(router.pids.agent));
      envoySeconds.push(await cpuSeconds(router.pids.envoy));
    }
    await router.stop();
  }
  const cpu = (samples: readonly number[]) => median(samples).toFixed(1);
  return [
    {
      what: "start: process to serving",
      value: median(servingMs),
      unit: "ms",
      goal: goals.servingMs,
      note: `first, middle and last host; ${starts === 1 ? "1 start" : `median of ${starts} starts`}`,
    },
    {
      what: "start: process to all scopes accepted",
      value: median(completeMs),
      unit: "ms",
      note: agentSeconds.length > 0 ? `CPU: agent ${cpu(agentSeconds)} s, Envoy ${cpu(envoySeconds)} s` : undefined,
    },
  ];
}
