/** One run: the parts that were asked for, over one number of routes. */
import { setMaxListeners } from "node:events";
import { measureChanges } from "./changes.js";
import { measureColdHosts } from "./cold-hosts.js";
import { measureJetStream } from "./jetstream.js";
import { measureFeatures } from "./feature-cpu.js";
import { measureLog } from "./log-speed.js";
import { type Measurement, type Part, PARTS } from "./measurement.js";
import { measureMemory } from "./memory.js";
import { measureRequestCpu } from "./request-cpu.js";
import { measureNats } from "./nats-registrations.js";
import { measureRouteSync } from "./route-sync.js";
import { onStage, type Stage, type StageOptions } from "./stage.js";
import { measureStart } from "./start.js";

const WITHOUT_ROUTER = {
  log: measureLog,
  jetstream: measureJetStream,
  sync: measureRouteSync,
  nats: measureNats,
  start: measureStart,
} as const;
/** One router for all of them; memory comes first, while nobody has asked it for anything. */
const WITH_ROUTER = {
  memory: measureMemory,
  cold: measureColdHosts,
  changes: measureChanges,
  cpu: measureRequestCpu,
  features: measureFeatures,
} as const;

/** Throws when the signal aborts. */
export async function run(
  options: StageOptions,
  parts: ReadonlySet<Part>,
): Promise<ReadonlyMap<Part, readonly Measurement[]>> {
  return onStage(options, async (stage) => {
    const results = new Map<Part, readonly Measurement[]>();
    for (const part of partsOf(WITHOUT_ROUTER, parts)) {
      stage.progress(part);
      results.set(part, await WITHOUT_ROUTER[part](stage));
    }
    const rest = partsOf(WITH_ROUTER, parts);
    if (rest.length > 0) await withRouter(stage, rest, results);
    return results;
  });
}

async function withRouter(
  stage: Stage,
  parts: readonly (keyof typeof WITH_ROUTER)[],
  results: Map<Part, readonly Measurement[]>,
): Promise<void> {
  stage.progress("starting the router");
  const router = await stage.startRouter();
  const signal = AbortSignal.any([stage.signal, router.ended]);
  setMaxListeners(0, signal);
  try {
    for (const part of parts) {
      stage.progress(part);
      results.set(part, await WITH_ROUTER[part]({ ...stage, signal }, router));
    }
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  } finally {
    await router.stop();
  }
}

/** In the order in which they are told. */
function partsOf<Name extends Part>(of: Readonly<Record<Name, unknown>>, wanted: ReadonlySet<Part>): readonly Name[] {
  return PARTS.filter((part): part is Name => part in of && wanted.has(part));
}
