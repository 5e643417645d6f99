import { type ChildProcess, spawn } from "node:child_process";
import { Socket } from "node:net";
import type { Readable, Writable } from "node:stream";
import { systemCode } from "./errors.js";

/**
 * Keeps a list of process groups: "+ group" adds one, "- group" takes it out. Its input is a pipe from this process, so
 * it ends with this process, however that dies; then the groups that are left are killed.
 */
const HELPER = `
trap "" INT TERM HUP
groups=" "
while read -r sign group; do
  case $sign in
    +) groups="$groups$group " ;;
    -) groups="\${groups%% "$group" *} \${groups#* "$group" }" ;;
  esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
`;

/** Starts the program when its gate (descriptor 3) opens. A gate that closes unopened means that its parent died. */
const GATED = 'read -r go <&3 || exit; exec 3<&-; exec "$@"';

const RESTART_PAUSE_MS = 50;

/** A process that leads a process group of its own. Its standard input is empty. */
export interface GroupLeader {
  /** Of the process and of its group; undefined when it could not be started, which "error" tells. */
  readonly pid: number | undefined;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Emits "exit" (code, signal) when the leader ended, "close" when its output did too, "error" when it never ran. */
  readonly process: ChildProcess;
  /** Sends a signal to the whole group; a group that is gone is left in peace. */
  signal(signal: NodeJS.Signals): void;
}

/**
 * Starts processes that do not outlive this one, kill -9 of this one included: one small shell per reaper waits on a
 * pipe, and kills what is left. The rest of a group is killed when its leader ends. Needs /bin/sh.
 */
export class Reaper {
  readonly #groups = new Set<number>();
  #helper: ChildProcess;
  #closed = false;

  constructor() {
    this.#helper = this.#startHelper();
  }

  /** A program that can't be executed shows as exit code 126 or 127, with the reason in its stderr. */
  spawn(program: string, args: readonly string[], options: { cwd: string; env: NodeJS.ProcessEnv }): GroupLeader {
    if (this.#closed) throw new Error("spawn on a closed reaper");
    const child = spawn("/bin/sh", ["-c", GATED, "sh", program, ...args], {
      ...options,
      detached: true,
      stdio: ["ignore", "pipe", "pipe", "pipe"],
    });
    const { pid } = child;
    const gate = child.stdio[3] as Writable;
    // A child that ended before its gate opened shows as its exit.
    gate.on("error", () => undefined);
    if (pid !== undefined) {
      this.#groups.add(pid);
      // Only a group that the helper knows may run: this process can be killed at any line.
      this.#helper.stdin?.write(`+ ${pid}\n`, () => gate.end("\n"));
      child.once("exit", () => {
        killGroup(pid, "SIGKILL");
        this.#groups.delete(pid);
        this.#helper.stdin?.write(`- ${pid}\n`);
      });
    }
    return {
      pid,
      stdout: child.stdio[1] as Readable,
      stderr: child.stdio[2] as Readable,
      process: child,
      signal: (signal) => {
        if (pid !== undefined && this.#groups.has(pid)) killGroup(pid, signal);
      },
    };
  }

  /** Kills all that is left. */
  async close(): Promise<void> {
    this.#closed = true;
    const helper = this.#helper;
    const isRunning = helper.pid !== undefined && helper.exitCode === null && helper.signalCode === null;
    const exited = isRunning ? new Promise<void>((resolve) => helper.once("exit", () => resolve())) : undefined;
    helper.ref();
    helper.stdin?.end();
    await exited;
    for (const group of this.#groups) killGroup(group, "SIGKILL");
  }

  #startHelper(): ChildProcess {
    const helper = spawn("/bin/sh", ["-c", HELPER], { detached: true, stdio: ["pipe", "ignore", "ignore"] });
    // Somebody killed it: that shows as its exit, and writes fail in between.
    helper.stdin.on("error", () => undefined);
    helper.once("error", () => this.#startHelperAgain());
    helper.once("exit", () => this.#startHelperAgain());
    // Waiting for it must not keep this process alive: it is there to see this process end.
    helper.unref();
    if (helper.stdin instanceof Socket) helper.stdin.unref();
    for (const group of this.#groups) helper.stdin.write(`+ ${group}\n`);
    return helper;
  }

  #startHelperAgain(): void {
    const timer = setTimeout(() => {
      if (!this.#closed) this.#helper = this.#startHelper();
    }, RESTART_PAUSE_MS);
    timer.unref();
  }
}

function killGroup(group: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-group, signal);
  } catch (error) {
    // macOS answers EPERM for a group of which only zombies are left.
    if (!["ESRCH", "EPERM"].includes(systemCode(error) ?? "")) throw error;
  }
}
