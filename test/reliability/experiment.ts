/** One fault, or several at once, under load: what clients saw of it, and how long a new route took. */
import { setTimeout as delay } from "node:timers/promises";
import type { Fault } from "./faults.js";
import { appOf, ask, type Load, type LoadCounts } from "./load.js";
import type { Stage } from "./stage.js";

export interface Outcome {
  readonly name: string;
  readonly counts: LoadCounts;
  readonly newRoute: ChangeTimes;
  /** Of a route that was known before, and leads to another app now. */
  readonly movedRoute: ChangeTimes;
  readonly breaksConnections: boolean;
  readonly withholdsRoutes: string | undefined;
  /** Why the mesh was not as before, a minute after the fault; undefined: it was. */
  readonly unsettled: string | undefined;
}

/** In milliseconds, from Cloud Controller's answer to the app's through a router; undefined: not within a minute. */
export interface ChangeTimes {
  readonly first: number | undefined;
  readonly both: number | undefined;
}

const CHANGE_TIMEOUT_MS = 60_000;
const POLL_MS = 20;
/** Of load after everything is as before. */
const AFTER_MS = 1_000;

export async function runFaults(stage: Stage, load: Load, faults: readonly Fault[]): Promise<Outcome> {
  await load.take();
  const mendings = await Promise.all(
    faults.map(async ({ inject, holdMs }) => {
      const mend = await inject(stage);
      return { mend, holdMs };
    }),
  );
  const mended = Promise.all(
    mendings.map(async ({ mend, holdMs }) => {
      await delay(holdMs);
      await mend();
    }),
  );
  const made = stage.newRoute().then((host) => timeChange(stage, { host, app: "blue" }));
  const moved = stage.moveRoute().then((change) => timeChange(stage, change));
  const [newRoute, movedRoute] = [await made, await moved];
  await mended;
  const unsettled = (await whyUnsettled(stage)) ?? (await whyUnserved(stage));
  await delay(AFTER_MS);
  return {
    name: faults.map(({ name }) => name).join(" + "),
    counts: await load.take(),
    newRoute,
    movedRoute,
    breaksConnections: faults.some(({ breaksConnections }) => breaksConnections === true),
    withholdsRoutes: faults.find(({ withholdsRoutes }) => withholdsRoutes !== undefined)?.withholdsRoutes,
    unsettled,
  };
}

async function whyUnsettled(stage: Stage): Promise<string | undefined> {
  return stage.settled().then(
    () => undefined,
    (error: unknown) => String(error),
  );
}

/** A mesh that says that all is well may still be stuck. */
async function whyUnserved(stage: Stage): Promise<string | undefined> {
  const { both } = await timeChange(stage, { host: await stage.newRoute(), app: "blue" });
  return both === undefined ? "a route that was made afterwards is not served" : undefined;
}

async function timeChange(stage: Stage, { host, app }: { host: string; app: string }): Promise<ChangeTimes> {
  const startedMs = performance.now();
  const times = await Promise.all(
    stage.routers.map(async ({ port }) => {
      for (;;) {
        const answered = await ask(port, host, false).then(appOf, () => undefined);
        const tookMs = performance.now() - startedMs;
        if (answered === app) return tookMs;
        if (tookMs > CHANGE_TIMEOUT_MS) return undefined;
        await delay(POLL_MS);
      }
    }),
  );
  const served = times.filter((time) => time !== undefined);
  return {
    first: served.length > 0 ? Math.min(...served) : undefined,
    both: served.length === times.length ? Math.max(...served) : undefined,
  };
}

/** Requests that a fault may not have cost. */
export function failedCount({ counts, breaksConnections }: Outcome): number {
  return counts.failures.length + (breaksConnections ? 0 : counts.broken.length);
}
