import { availableParallelism, cpus, loadavg, totalmem } from "node:os";
import type { EnvoyBinary } from "../src/envoy/find-envoy.js";

/** Where something was measured: numbers of different machines do not belong into one table. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGb: number;
  readonly system: string;
  readonly node: string;
  readonly envoy: string;
}

export function thisMachine(envoy: EnvoyBinary): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    memoryGb: Math.round(totalmem() / 2 ** 30),
    system: `${process.platform} ${process.arch}`,
    node: process.version.slice(1),
    envoy: envoy.version,
  };
}

export function describeMachine({ cpu, cores, memoryGb, system, node, envoy }: Machine): string {
  return `${cores} cores (${cpu}), ${memoryGb} GB, ${system}, Node ${node}, Envoy ${envoy}`;
}

/** How many processes wanted a core over the last minute. */
export const currentLoad = (): number => loadavg()[0] ?? 0;
