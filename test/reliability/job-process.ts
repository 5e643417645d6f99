/** A job as a supervisor runs it: started again whenever it ends. */
import { createWriteStream } from "node:fs";
import { once } from "node:events";
import { PACKAGE_ROOT } from "../../src/lib/package-root.js";
import type { MeshStatus } from "../../src/jobs/up.js";
import type { GroupLeader, Reaper } from "../../src/lib/reaper.js";
import { built } from "../support/built.js";

/** Supervisors (systemd, monit behind BOSH) wait a moment. */
const RESTART_PAUSE_MS = 500;
const ASK_TIMEOUT_MS = 1_000;

export interface JobProcessOptions {
  readonly reaper: Reaper;
  /** "control", say. */
  readonly job: string;
  /** "control-1" */
  readonly name: string;
  readonly configFile: string;
  readonly apiPort: number;
  /** What it says is added to it. */
  readonly logFile: string;
}

export class JobProcess {
  readonly name: string;
  readonly #options: JobProcessOptions;
  #leader: GroupLeader | undefined;
  #restart: NodeJS.Timeout | undefined;
  #isOver = false;

  constructor(options: JobProcessOptions) {
    this.name = options.name;
    this.#options = options;
    this.#start();
  }

  kill(): void {
    this.#leader?.signal("SIGKILL");
  }

  /** Asks it to end, as an upgrade does, and resolves when it has: routers drain first. */
  async restart(): Promise<void> {
    const leader = this.#leader;
    if (!leader) return;
    const exited = once(leader.process, "exit");
    leader.signal("SIGTERM");
    await exited;
  }

  pause(): void {
    this.#leader?.signal("SIGSTOP");
  }

  resume(): void {
    this.#leader?.signal("SIGCONT");
  }

  /** Sets its clock forward by a day, or back again (clock-shift-main.ts). */
  shiftClock(): void {
    this.#leader?.signal("SIGUSR2");
  }

  async isReady(): Promise<boolean> {
    return (await this.#ask("/ready")) !== undefined;
  }

  /** undefined while it does not answer. */
  async status(): Promise<MeshStatus | undefined> {
    const text = await this.#ask("/status");
    return text === undefined ? undefined : (JSON.parse(text) as MeshStatus);
  }

  /** Resolves when it has ended; it is not started again. */
  async stop(): Promise<void> {
    this.#isOver = true;
    clearTimeout(this.#restart);
    const leader = this.#leader;
    if (!leader) return;
    const exited = once(leader.process, "exit");
    leader.signal("SIGKILL");
    await exited;
  }

  #start(): void {
    const { reaper, job, configFile, logFile } = this.#options;
    const shift = built("test/reliability/clock-shift-main.ts");
    const args = ["--import", shift, built("src/cli/main.ts"), job, "--config", configFile];
    const leader = reaper.spawn(process.execPath, args, { cwd: PACKAGE_ROOT, env: process.env });
    this.#leader = leader;
    const said = createWriteStream(logFile, { flags: "a" });
    for (const stream of [leader.stdout, leader.stderr]) stream.pipe(said, { end: false });
    leader.process.once("close", () => said.end());
    leader.process.once("exit", () => {
      this.#leader = undefined;
      if (!this.#isOver) this.#restart = setTimeout(() => this.#start(), RESTART_PAUSE_MS);
    });
  }

  async #ask(path: string): Promise<string | undefined> {
    try {
      const signal = AbortSignal.timeout(ASK_TIMEOUT_MS);
      const response = await fetch(`http://127.0.0.1:${this.#options.apiPort}${path}`, { signal });
      const text = await response.text();
      return response.ok ? text : undefined;
    } catch {
      return undefined;
    }
  }
}
