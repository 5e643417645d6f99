import { type ChildProcess, spawn } from "node:child_process";

/**
 * Reads pids, one per line (an empty line: nothing to guard), and kills the last one when its input ends. The input is
 * a pipe from the keeper, so it ends with the keeper, however that dies.
 */
const SCRIPT = 'pid=; while read -r line; do pid=$line; done; [ -z "$pid" ] || kill -KILL "$pid"';

const RESTART_PAUSE_MS = 50;

/**
 * Makes a process die with this one, kill -9 included. A shell on a pipe rather than Linux's parent-death signal: that
 * one is lost when Envoy's file has capabilities (to listen on port 80), and other systems have none.
 */
export class DeathGuard {
  #shell: ChildProcess;
  #pid: number | undefined;
  #closed = false;

  constructor() {
    this.#shell = this.#start();
  }

  /** The process that shall not outlive this one; undefined once it ended. */
  guard(pid: number | undefined): void {
    this.#pid = pid;
    this.#shell.stdin?.write(`${pid ?? ""}\n`);
  }

  /** Lets the guarded process live. */
  close(): void {
    this.guard(undefined);
    this.#closed = true;
    this.#shell.stdin?.end();
  }

  #start(): ChildProcess {
    const shell = spawn("/bin/sh", ["-c", SCRIPT], { stdio: ["pipe", "ignore", "ignore"] });
    // A shell that somebody killed shows as its exit; writes to it fail in between.
    shell.stdin.on("error", () => undefined);
    shell.once("error", () => this.#startAgain());
    shell.once("exit", () => this.#startAgain());
    return shell;
  }

  #startAgain(): void {
    const timer = setTimeout(() => {
      if (this.#closed) return;
      this.#shell = this.#start();
      if (this.#pid !== undefined) this.guard(this.#pid);
    }, RESTART_PAUSE_MS);
    timer.unref();
  }
}
