import { createInterface } from "node:readline";
import { asError } from "../../lib/errors.js";
import type { Reaper } from "../../lib/reaper.js";
import { compileFailed } from "./staging-error.js";

export interface Step {
  readonly program: string;
  readonly args: readonly string[];
  /** What the user can do when it fails: "push with the folder node_modules". */
  readonly fix: string;
}

export type RunStep = (step: Step) => Promise<void>;

export interface StepOptions {
  readonly directory: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly reaper: Reaper;
  readonly onLine: (stream: "stdout" | "stderr", text: string) => void;
  /** Kills the program, and all that it started. */
  readonly signal: AbortSignal;
}

/** Throws a StagingError when the program fails, and the signal's reason when it aborts. */
export async function runStep(step: Step, options: StepOptions): Promise<void> {
  const { program, args } = step;
  const { directory, environment, reaper, onLine, signal } = options;
  signal.throwIfAborted();
  const leader = reaper.spawn(program, args, { cwd: directory, env: { ...environment } });
  const kill = () => leader.signal("SIGKILL");
  signal.addEventListener("abort", kill);
  try {
    const failure = await new Promise<string | undefined>((resolve) => {
      leader.process.once("error", (error) => resolve(asError(error).message));
      leader.process.once("close", (code, killer) => resolve(code === 0 ? undefined : `ended with ${code ?? killer}`));
      if (leader.pid === undefined) return;
      createInterface({ input: leader.stdout }).on("line", (text) => onLine("stdout", text));
      createInterface({ input: leader.stderr }).on("line", (text) => onLine("stderr", text));
    });
    signal.throwIfAborted();
    if (failure !== undefined) throw compileFailed(`"${[program, ...args].join(" ")}" ${failure}`, step.fix);
  } finally {
    signal.removeEventListener("abort", kill);
  }
}
