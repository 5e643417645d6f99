/** The numbers that the mesh wants to hold, by the number of routes. A value without a goal is there to explain others. */
import type { Goal } from "./measurement.js";

const KIB = 1_024;

/** Where the goals of a router of a usual size end, and those of a large one begin. */
const USUAL_ROUTES = 20_000;
/** With fewer routes, a megabyte that a process takes or leaves by chance counts as much as all of them. */
const LEAST_ROUTES_FOR_MEMORY = 20_000;

export interface Goals {
  readonly servingMs: Goal;
  readonly agentBytesPerRoute: Goal | undefined;
  readonly envoyBytesPerIdleRoute: Goal | undefined;
  readonly activeRouteKb: Goal;
  readonly newRouteMs: Goal;
  readonly instanceChangeMs: Goal;
  readonly weightChangeMs: Goal;
  readonly coldHitMs: Goal;
  readonly coldHitsPerSecondOfCore: Goal;
  readonly cpuRatio: Goal;
  /** Of the control job, while as many registrations as routes are renewed. */
  readonly renewalCores: Goal;
  readonly syncMs: Goal;
  readonly changeToLogMs: Goal | undefined;
  readonly hintedChangeToLogMs: Goal | undefined;
}

export function goalsFor(routeCount: number): Goals {
  const isUsual = routeCount <= USUAL_ROUTES;
  const judgesMemory = routeCount >= LEAST_ROUTES_FOR_MEMORY;
  const changeMs = { atMost: isUsual ? 50 : 500 };
  return {
    servingMs: { atMost: isUsual ? 2_000 : 25_000 },
    agentBytesPerRoute: judgesMemory ? { atMost: KIB } : undefined,
    envoyBytesPerIdleRoute: judgesMemory ? { atMost: 1.2 * KIB } : undefined,
    activeRouteKb: { atMost: (64 * KIB) / 1_000 },
    newRouteMs: changeMs,
    instanceChangeMs: changeMs,
    weightChangeMs: { atMost: 50 },
    coldHitMs: { atMost: 5 },
    coldHitsPerSecondOfCore: { atLeast: 1_000 },
    cpuRatio: { atMost: 1.45 },
    renewalCores: { atMost: 0.5 },
    syncMs: { atMost: routeCount <= 100_000 ? 20_000 : 60_000 },
    changeToLogMs: isUsual ? { atMost: 1_000 } : undefined,
    hintedChangeToLogMs: isUsual ? { atMost: 300 } : undefined,
  };
}
