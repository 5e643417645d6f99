/**
 * The emulated Diego: takes what Cloud Controller desires, runs it as child processes, and tells about it over the BBS
 * protocol. Cloud Controller's half of the emulator knows no more of it than this.
 */

import type { AppLogs } from "../logs.js";

/** `timeoutMs`: how long an instance may take to pass; left out, what Diego is configured with. */
export type HealthCheck = { readonly timeoutMs?: number } & (
  { readonly type: "port" | "process" } | { readonly type: "http"; readonly endpoint: string }
);

/** What Cloud Controller wants to run: one process in one version. */
export interface DesiredProcess {
  /** Cloud Controller's process guid, "-", version. */
  readonly lrpProcessGuid: string;
  readonly appGuid: string;
  readonly instances: number;
  /** Container ports that the process listens on; the first is its PORT. */
  readonly ports: readonly number[];
  /** Program and arguments. The program listens on the port in its environment's PORT. */
  readonly command: readonly string[];
  readonly workingDirectory: string;
  /** Beside PORT, VCAP_APPLICATION, CF_INSTANCE_* and INSTANCE_GUID, which each instance gets its own values of. */
  readonly environment: Readonly<Record<string, string>>;
  /** VCAP_APPLICATION without the parts that differ by instance (instance_id, instance_index, port). */
  readonly vcapApplication: Readonly<Record<string, unknown>>;
  /** JSON by router: cf-router, internal-router (contracts of Diego's routing infos). */
  readonly routes: Readonly<Record<string, unknown>>;
  readonly metricTags: Readonly<Record<string, string>>;
  /** process.updated_at as a float epoch. */
  readonly annotation: string;
  /** When an instance counts as running: it answers 200, it accepts connections (when left out), or it was started. */
  readonly healthCheck?: HealthCheck;
  readonly placementTags: readonly string[];
}

/** What runs of a process, as Cloud Controller's stats endpoint tells it. */
export interface RunningInstance {
  readonly index: number;
  readonly guid: string;
  readonly state: "RUNNING" | "STARTING" | "CRASHED" | "DOWN" | "STOPPING";
  readonly host: string;
  readonly instanceAddress: string;
  readonly ports: readonly { readonly external: number; readonly internal: number }[];
  /** Unix time in milliseconds. */
  readonly sinceMs: number;
}

export interface Diego {
  /** What the instances write; Cloud Controller adds what it has to say about an app. */
  readonly logs: AppLogs;
  /**
   * Makes it so: starts a process that is new, or changes instance count and routes of one that is known. Resolves when
   * it is accepted, not when it runs.
   */
  desire(process: DesiredProcess): Promise<void>;
  /** Stops all its instances: SIGTERM, and SIGKILL after the grace period. Resolves when it is accepted. */
  remove(lrpProcessGuid: string): Promise<void>;
  /** Stops one instance, and starts another in its place. */
  restartInstance(lrpProcessGuid: string, index: number): Promise<void>;
  instances(lrpProcessGuid: string): readonly RunningInstance[];
  /** Resolves when `count` instances run (accept connections); rejects when the signal aborts or the process is gone. */
  whenRunning(lrpProcessGuid: string, count: number, signal: AbortSignal): Promise<void>;
}
