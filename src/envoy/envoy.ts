import { mkdir, realpath, stat } from "node:fs/promises";
import { resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Backoff } from "../lib/backoff.js";
import { systemClock } from "../lib/clock.js";
import { asError, MeshError } from "../lib/errors.js";
import type { Logger } from "../lib/logger.js";
import { type EnvoyAdmin, envoyAdmin } from "./admin.js";
import { envoyFailure } from "./envoy-failure.js";
import { connectKeeper, type KeeperConnection } from "./keeper-client.js";
import {
  type EnvoySpec,
  keeperSocketPath,
  type KeeperState,
  MAX_SOCKET_PATH_BYTES,
  specIdOf,
} from "./keeper-protocol.js";

export interface EnvoyOptions {
  /** Made when missing (mode 0700). Holds the keeper's socket, Envoy's bootstrap and the logs of both. */
  readonly runDirectory: string;
  /** See findEnvoy. */
  readonly envoyPath: string;
  /** JSON text. */
  readonly bootstrap: string;
  /** The unix socket that the bootstrap gives the admin API. */
  readonly adminSocketPath: string;
  /** Worker threads. */
  readonly concurrency: number;
  /** How long Envoy goes on serving with no agent. */
  readonly orphanTimeoutMs: number;
  /** How long a drain goes on taking connections while the health check fails; 0 when left out. */
  readonly drainWaitMs?: number;
  /** How long it then waits for active requests at most. */
  readonly drainTimeMs: number;
  /** From SIGTERM to SIGKILL; 5 s when left out. */
  readonly stopGraceMs?: number;
  /** How long the first start may take until Envoy answers on its admin API; 60 s when left out. */
  readonly startTimeoutMs?: number;
  /** Envoy's own log; "warning" when left out. */
  readonly logLevel?: "debug" | "info" | "warning" | "error";
  /** envoy.log and envoy.log.1 take up to this each; 10 MiB when left out. */
  readonly maxLogBytes?: number;
  readonly logger: Logger;
  readonly onState?: (state: EnvoyState) => void;
}

export type EnvoyState =
  | { readonly kind: "starting" }
  /** adopted: it ran before this agent did. */
  | { readonly kind: "running"; readonly pid: number; readonly adopted: boolean }
  /** An Envoy with another bootstrap or command still runs: it is drained and stopped first. */
  | { readonly kind: "replacing"; readonly pid: number }
  /** Envoy ended by itself. */
  | { readonly kind: "restarting"; readonly error: MeshError; readonly restartInMs: number }
  /** The keeper died, and Envoy with it; both are started anew. */
  | { readonly kind: "keeper-lost"; readonly restartInMs: number }
  | { readonly kind: "stopping" }
  | { readonly kind: "stopped" }
  /** Envoy goes on, for the next agent. */
  | { readonly kind: "detached" };

export interface Envoy {
  readonly state: EnvoyState;
  /** undefined while none runs. */
  readonly pid: number | undefined;
  readonly admin: EnvoyAdmin;
  /** Resolves when Envoy serves (its /ready says LIVE); rejects with the signal's reason, or when it was stopped. */
  whenReady(signal: AbortSignal): Promise<void>;
  /**
   * Lets traffic move away: fails the health check and closes connections after their answers; after drainWaitMs takes
   * no more of them, and waits until no request is active and none came for a second, drainTimeMs at most.
   *
   * Returns  the requests that are still active; 0 when Envoy is gone already.
   */
  drain(): Promise<number>;
  /** Stops Envoy (SIGTERM, then SIGKILL) and its keeper; resolves when both and their sockets are gone. */
  stop(): Promise<void>;
  /** Leaves Envoy to its keeper, which waits orphanTimeoutMs for the next agent. */
  detach(): Promise<void>;
}

const STOP_GRACE_MS = 5_000;
const START_TIMEOUT_MS = 60_000;
const MAX_LOG_BYTES = 10 * 1024 * 1024;
const POLL_MS = 50;
const QUIET_MS = 1_000;
/** Beyond the grace that the keeper gives Envoy. */
const KEEPER_STOP_TIMEOUT_MS = 10_000;
const KEEPER_RESTART = { initialMs: 100, maxMs: 10_000, stableAfterMs: 30_000 };

/**
 * Runs Envoy through its keeper: adopts the one that runs already when it is the same (bootstrap, command, binary),
 * else starts one. Restarts with backoff are the keeper's, and a keeper that died is replaced.
 *
 * Returns  when Envoy's admin API answers: its bootstrap is good, and its static listeners are bound.
 * Throws   for the first start: MESH_PORT_TAKEN, MESH_ENVOY_FAILED (with Envoy's own words), MESH_STATE_IN_USE when
 *          another agent runs this directory, MESH_CONFIG_INVALID when the directory's name is too long for sockets.
 *          Nothing is left running then. Later faults show in `state`.
 */
export async function superviseEnvoy(options: EnvoyOptions): Promise<Envoy> {
  const spec = await specOf(options);
  const runDirectory = resolve(options.runDirectory);
  for (const path of [keeperSocketPath(runDirectory), spec.adminSocketPath]) checkSocketPath(path);
  await mkdir(runDirectory, { recursive: true, mode: 0o700 });
  const supervisor = new Supervisor({ ...options, runDirectory }, spec);
  await supervisor.start();
  return supervisor;
}

async function specOf(options: EnvoyOptions): Promise<EnvoySpec> {
  // A package that is installed anew may put another binary under the same path.
  const program = await realpath(options.envoyPath);
  const { size, mtimeMs } = await stat(program);
  return {
    command: [
      program,
      // Hot restart leaves a file in /dev/shm at each end, clean ones included, and keepers have no use for it.
      "--disable-hot-restart",
      "--concurrency",
      String(options.concurrency),
      "--drain-time-s",
      String(Math.max(1, Math.ceil(options.drainTimeMs / 1_000))),
      "--log-level",
      options.logLevel ?? "warning",
    ],
    bootstrap: options.bootstrap,
    binaryMark: `${size}-${mtimeMs}`,
    adminSocketPath: options.adminSocketPath,
  };
}

function checkSocketPath(path: string): void {
  const byteCount = Buffer.byteLength(path);
  if (byteCount <= MAX_SOCKET_PATH_BYTES) return;
  throw new MeshError(
    "MESH_CONFIG_INVALID",
    `the unix socket ${path} has a path of ${byteCount} bytes, systems take ${MAX_SOCKET_PATH_BYTES}; nothing was started`,
    `choose a router.runDirectory that is ${byteCount - MAX_SOCKET_PATH_BYTES} bytes shorter`,
  );
}

class Supervisor implements Envoy {
  readonly admin: EnvoyAdmin;
  readonly #options: EnvoyOptions;
  readonly #spec: EnvoySpec;
  readonly #specId: string;
  readonly #stopGraceMs: number;
  /** Aborts when this agent lets go, by stop or detach. */
  readonly #letGo = new AbortController();
  #state: EnvoyState = { kind: "starting" };
  #connection: KeeperConnection | undefined;
  #following: Promise<void> = Promise.resolve();
  #firstFailure = new AbortController();

  constructor(options: EnvoyOptions, spec: EnvoySpec) {
    this.#options = options;
    this.#spec = spec;
    this.#specId = specIdOf(spec);
    this.#stopGraceMs = options.stopGraceMs ?? STOP_GRACE_MS;
    this.admin = envoyAdmin(spec.adminSocketPath);
  }

  get state(): EnvoyState {
    return this.#state;
  }

  get pid(): number | undefined {
    return this.#state.kind === "running" || this.#state.kind === "replacing" ? this.#state.pid : undefined;
  }

  async start(): Promise<void> {
    const connection = await this.#connect();
    const before = connection.initialState;
    if (before.kind === "running") this.#take(before);
    const adopted = this.#state.kind === "running";
    if (this.#state.kind === "replacing") await this.drain();
    this.#run(connection);
    this.#following = this.#follow(connection);
    if (adopted) return;
    try {
      await this.#firstAnswer();
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  async whenReady(signal: AbortSignal): Promise<void> {
    const either = AbortSignal.any([signal, this.#letGo.signal]);
    while ((await this.admin.ready().catch(() => undefined)) !== "LIVE") await pause(either);
  }

  async drain(): Promise<number> {
    try {
      await this.admin.failHealthcheck();
      await systemClock.sleep(this.#options.drainWaitMs ?? 0, this.#letGo.signal);
      await this.admin.drainListeners();
      const deadlineMs = performance.now() + this.#options.drainTimeMs;
      let seen = await this.admin.requests();
      let busyMs = performance.now();
      while (performance.now() < deadlineMs && (seen.active > 0 || performance.now() - busyMs < QUIET_MS)) {
        await delay(POLL_MS);
        const { active, total } = await this.admin.requests();
        if (active > 0 || total !== seen.total) busyMs = performance.now();
        seen = { active, total };
      }
      return seen.active;
    } catch (error) {
      this.#options.logger.warn({ err: error }, "the drain ends early: Envoy is gone, or does not answer");
      return 0;
    }
  }

  async stop(): Promise<void> {
    if (this.#hasLetGo()) return this.#following;
    this.#become({ kind: "stopping" });
    this.#letGo.abort(new Error("Envoy was stopped"));
    this.#connection?.send({ type: "stop" });
    const timer = setTimeout(() => this.#killKeeper(), this.#stopGraceMs + KEEPER_STOP_TIMEOUT_MS);
    await this.#following;
    clearTimeout(timer);
    this.#become({ kind: "stopped" });
  }

  async detach(): Promise<void> {
    if (this.#hasLetGo()) return this.#following;
    this.#become({ kind: "detached" });
    this.#letGo.abort(new Error("Envoy was left to its keeper"));
    this.#connection?.close();
    await this.#following;
  }

  /** Reads what the keeper tells, keeper after keeper, until this agent lets go. */
  async #follow(first: KeeperConnection): Promise<void> {
    const backoff = new Backoff(KEEPER_RESTART.initialMs, KEEPER_RESTART.maxMs);
    for (let connection: KeeperConnection | undefined = first; connection;) {
      const sinceMs = performance.now();
      for await (const state of connection.states) this.#take(state);
      this.#connection = undefined;
      if (performance.now() - sinceMs >= KEEPER_RESTART.stableAfterMs) backoff.reset();
      connection = await this.#reconnect(backoff);
    }
  }

  async #reconnect(backoff: Backoff): Promise<KeeperConnection | undefined> {
    while (!this.#hasLetGo()) {
      const restartInMs = backoff.next();
      this.#become({ kind: "keeper-lost", restartInMs });
      this.#options.logger.error({ restartInMs }, "Envoy's keeper ended, and Envoy with it; starting both again");
      await systemClock.sleep(restartInMs, this.#letGo.signal);
      if (this.#hasLetGo()) return undefined;
      try {
        const connection = await this.#connect();
        if (this.#hasLetGo()) this.#leave(connection);
        else this.#run(connection);
        return connection;
      } catch (error) {
        this.#options.logger.error({ err: error }, "Envoy's keeper can't be used");
      }
    }
    return undefined;
  }

  async #connect(): Promise<KeeperConnection> {
    const { runDirectory, orphanTimeoutMs, maxLogBytes = MAX_LOG_BYTES } = this.#options;
    const stopGraceMs = this.#stopGraceMs;
    const connection = await connectKeeper({ runDirectory, orphanTimeoutMs, stopGraceMs, maxLogBytes });
    this.#connection = connection;
    return connection;
  }

  #run(connection: KeeperConnection): void {
    connection.send({ type: "run", spec: this.#spec, orphanTimeoutMs: this.#options.orphanTimeoutMs });
  }

  #hasLetGo(): boolean {
    return this.#letGo.signal.aborted;
  }

  /** For a connection that came about while this agent let go. */
  #leave(connection: KeeperConnection): void {
    if (this.#state.kind === "stopping") connection.send({ type: "stop" });
    else connection.close();
  }

  #killKeeper(): void {
    const pid = this.#connection?.keeperPid;
    if (pid === undefined) return;
    this.#options.logger.error({ keeperPid: pid }, "Envoy's keeper does not stop: killing it, and Envoy with it");
    try {
      process.kill(pid, "SIGKILL");
    } catch (error) {
      this.#options.logger.debug({ err: error }, "Envoy's keeper ended by itself");
    }
  }

  #take(state: KeeperState): void {
    if (this.#hasLetGo()) return;
    switch (state.kind) {
      case "running":
        if (state.specId !== this.#specId) this.#become({ kind: "replacing", pid: state.pid });
        else this.#become({ kind: "running", pid: state.pid, adopted: this.#connection?.initialState === state });
        return;
      case "waiting": {
        if (state.specId !== this.#specId) return;
        const { exit, restartInMs } = state;
        this.#firstFailure.abort(envoyFailure(exit, "it is not started again"));
        const error = envoyFailure(exit, `starting it again in ${restartInMs} ms`);
        this.#become({ kind: "restarting", error, restartInMs });
        return;
      }
      case "stopping":
        this.#become({ kind: "replacing", pid: state.pid });
        return;
      case "idle":
        return;
    }
  }

  async #firstAnswer(): Promise<void> {
    const timeoutMs = this.#options.startTimeoutMs ?? START_TIMEOUT_MS;
    const either = AbortSignal.any([this.#firstFailure.signal, AbortSignal.timeout(timeoutMs)]);
    for (;;) {
      // Whoever answers before that is the Envoy that is being replaced.
      if (this.#state.kind === "running" && (await this.#answers())) return;
      await pause(either).catch((reason: unknown) => {
        throw reason instanceof MeshError ? reason : notAnswering(timeoutMs, asError(reason));
      });
    }
  }

  async #answers(): Promise<boolean> {
    try {
      await this.admin.ready();
      return true;
    } catch {
      return false;
    }
  }

  #become(state: EnvoyState): void {
    this.#state = state;
    if (state.kind === "running") {
      this.#options.logger.info({ pid: state.pid, adopted: state.adopted }, "Envoy runs");
    } else if (state.kind === "restarting") {
      const { error, restartInMs } = state;
      this.#options.logger.error({ error: error.message, restartInMs }, "Envoy ended by itself");
    }
    this.#options.onState?.(state);
  }
}

/** Rejects with the signal's reason. */
async function pause(signal: AbortSignal): Promise<void> {
  await systemClock.sleep(POLL_MS, signal);
  signal.throwIfAborted();
}

const notAnswering = (timeoutMs: number, cause: Error) =>
  new MeshError(
    "MESH_ENVOY_FAILED",
    `Envoy did not answer on its admin API within ${timeoutMs} ms; it was stopped`,
    "see envoy.log in the run directory, and whether the machine is overloaded",
    { cause },
  );
