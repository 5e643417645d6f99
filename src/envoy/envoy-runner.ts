import { type ChildProcess, spawn } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Backoff } from "../lib/backoff.js";
import { asError } from "../lib/errors.js";
import type { Logger } from "../lib/logger.js";
import { type EnvoyExit, type EnvoySpec, type KeeperState, specIdOf } from "./keeper-protocol.js";

export interface EnvoyRunnerOptions {
  /** Where the bootstrap file is written. */
  readonly runDirectory: string;
  /** From SIGTERM to SIGKILL. */
  readonly stopGraceMs: number;
  /** Told of each process that begins, and (undefined) of its end. */
  readonly guard: (pid: number | undefined) => void;
  /** Takes what Envoy prints. */
  readonly output: (bytes: Uint8Array) => void;
  readonly logger: Logger;
  readonly onState: (state: KeeperState) => void;
  readonly restart?: { readonly initialMs: number; readonly maxMs: number; readonly stableAfterMs: number };
}

/** A process that lived for `stableAfterMs` was well: its end is a new fault, with short pauses again. */
const RESTART = { initialMs: 100, maxMs: 10_000, stableAfterMs: 30_000 };

/** Holds what the last lines are taken from: more than Envoy's longest refusal. */
const TAIL_CHARACTERS = 16_384;
const LAST_LINE_COUNT = 40;

type Actual =
  | { readonly kind: "idle" }
  | { readonly kind: "running"; readonly child: ChildProcess; readonly pid: number; readonly specId: string }
  | { readonly kind: "stopping"; readonly pid: number }
  | {
      readonly kind: "waiting";
      readonly specId: string;
      readonly exit: EnvoyExit;
      readonly restartInMs: number;
      readonly timer: NodeJS.Timeout;
    };

/** Runs one Envoy as it is wanted: starts it, starts it again when it ends by itself, replaces it, stops it. */
export class EnvoyRunner {
  readonly #options: EnvoyRunnerOptions;
  readonly #restart: NonNullable<EnvoyRunnerOptions["restart"]>;
  readonly #backoff: Backoff;
  #wanted: EnvoySpec | undefined;
  #actual: Actual = { kind: "idle" };
  #whenIdle: (() => void)[] = [];

  constructor(options: EnvoyRunnerOptions) {
    this.#options = options;
    this.#restart = options.restart ?? RESTART;
    this.#backoff = new Backoff(this.#restart.initialMs, this.#restart.maxMs);
  }

  get state(): KeeperState {
    const actual = this.#actual;
    switch (actual.kind) {
      case "idle":
        return { kind: "idle" };
      case "running":
        return { kind: "running", pid: actual.pid, specId: actual.specId };
      case "stopping":
        return { kind: "stopping", pid: actual.pid };
      case "waiting":
        return {
          kind: "waiting",
          specId: actual.specId,
          exit: actual.exit,
          restartInMs: actual.restartInMs,
        };
    }
  }

  /** Makes this the one that runs. One that waits for its restart is started at once. */
  run(spec: EnvoySpec): void {
    this.#wanted = spec;
    const actual = this.#actual;
    switch (actual.kind) {
      case "idle":
        this.#start(spec);
        return;
      case "waiting":
        clearTimeout(actual.timer);
        this.#backoff.reset();
        this.#start(spec);
        return;
      case "running":
        if (actual.specId !== specIdOf(spec)) this.#terminate(actual.child, actual.pid);
        return;
      case "stopping":
        return;
    }
  }

  /** Resolves when nothing runs any more. */
  async stop(): Promise<void> {
    this.#wanted = undefined;
    const actual = this.#actual;
    if (actual.kind === "idle") return;
    const idle = new Promise<void>((resolve) => this.#whenIdle.push(resolve));
    if (actual.kind === "running") this.#terminate(actual.child, actual.pid);
    if (actual.kind === "waiting") {
      clearTimeout(actual.timer);
      this.#become({ kind: "idle" });
    }
    await idle;
  }

  #start(spec: EnvoySpec): void {
    const specId = specIdOf(spec);
    const startedMs = performance.now();
    let tail = "";
    const ended = (code: number | null, signal: string | null) => {
      const lastLines = tail.split("\n").filter((line) => line.trim() !== "");
      this.#ended(spec, performance.now() - startedMs, { code, signal, lastLines: lastLines.slice(-LAST_LINE_COUNT) });
    };
    const failed = (error: unknown) => {
      tail += `${asError(error).message}\n`;
      ended(null, null);
    };
    let child;
    try {
      child = this.#spawn(spec);
    } catch (error) {
      failed(error);
      return;
    }
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (bytes: Buffer) => {
        this.#options.output(bytes);
        tail = (tail + bytes.toString()).slice(-TAIL_CHARACTERS);
      });
    }
    if (child.pid === undefined) {
      child.once("error", failed);
      return;
    }
    this.#options.guard(child.pid);
    child.once("close", ended);
    this.#options.logger.info({ pid: child.pid }, "Envoy started");
    this.#become({ kind: "running", child, pid: child.pid, specId });
  }

  #spawn({ command: [program = "", ...programArguments], bootstrap }: EnvoySpec) {
    const file = join(this.#options.runDirectory, "envoy.json");
    writeFileSync(file, bootstrap, { mode: 0o600 });
    return spawn(program, [...programArguments, "--config-path", file], { stdio: ["ignore", "pipe", "pipe"] });
  }

  #terminate(child: ChildProcess, pid: number): void {
    this.#become({ kind: "stopping", pid });
    child.kill("SIGTERM");
    const killer = setTimeout(() => child.kill("SIGKILL"), this.#options.stopGraceMs);
    child.once("close", () => clearTimeout(killer));
  }

  #ended(spec: EnvoySpec, livedMs: number, exit: EnvoyExit): void {
    const askedTo = this.#actual.kind === "stopping";
    this.#options.guard(undefined);
    rmSync(spec.adminSocketPath, { force: true });
    const { code, signal } = exit;
    const wanted = this.#wanted;
    if (wanted === undefined) {
      this.#options.logger.info({ code, signal }, "Envoy stopped");
      this.#become({ kind: "idle" });
    } else if (askedTo) {
      this.#options.logger.info({ code, signal }, "Envoy stopped, to be replaced");
      this.#backoff.reset();
      this.#start(wanted);
    } else {
      if (livedMs >= this.#restart.stableAfterMs) this.#backoff.reset();
      const restartInMs = this.#backoff.next();
      const timer = setTimeout(() => this.#start(wanted), restartInMs);
      this.#options.logger.warn({ code, signal, livedMs, restartInMs }, "Envoy ended by itself");
      this.#become({ kind: "waiting", specId: specIdOf(spec), exit, restartInMs, timer });
    }
  }

  #become(actual: Actual): void {
    this.#actual = actual;
    this.#options.onState(this.state);
    if (actual.kind !== "idle") return;
    const waiting = this.#whenIdle;
    this.#whenIdle = [];
    for (const resolve of waiting) resolve();
  }
}
