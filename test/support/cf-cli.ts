/** Drives the stock cf CLI as a user does: as a program, with a home of its own. */
import { execFile, execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { PACKAGE_ROOT } from "../../src/lib/package-root.js";

/** The path of a cf CLI v8: CF_CLI, that of the set-up, or the one on PATH; undefined when there is none. */
export function cfCli(): string | undefined {
  const onPath = (process.env["PATH"] ?? "").split(delimiter).map((folder) => join(folder, "cf"));
  const candidates = [process.env["CF_CLI"] ?? "", join(PACKAGE_ROOT, ".tools", "bin", "cf"), ...onPath];
  return candidates.find((path) => path !== "" && existsSync(path) && isVersion8(path));
}

function isVersion8(path: string): boolean {
  try {
    return execFileSync(path, ["version"], { encoding: "utf8" }).startsWith("cf version 8.");
  } catch {
    return false;
  }
}

export interface CfAnswer {
  readonly exitCode: number;
  /** What it printed, errors included. */
  readonly output: string;
}

export interface CfOptions {
  readonly cwd?: string;
}

export interface Cf {
  run(args: readonly string[], options?: CfOptions): Promise<CfAnswer>;
  /** The output of a command that succeeds; throws with it when the command fails. */
  (...args: string[]): Promise<string>;
  /** Runs commands in this folder. */
  in(cwd: string): (...args: string[]) => Promise<string>;
  /** Forgets who is logged in. */
  close(): Promise<void>;
}

const COMMAND_TIMEOUT_MS = 90_000;

/** Logged in nowhere. To be closed. `environment`: what its processes get beside PATH and a home. */
export async function newCf(program: string, environment: Readonly<Record<string, string>> = {}): Promise<Cf> {
  const home = await mkdtemp(join(tmpdir(), "cf-mesh-cf-home-"));
  const run = async (args: readonly string[], { cwd = home }: CfOptions = {}): Promise<CfAnswer> =>
    await new Promise((resolve) => {
      const own = { PATH: process.env["PATH"], HOME: home, CF_HOME: home, CF_COLOR: "false", LANG: "en_US.UTF-8" };
      const env = { ...own, ...environment };
      const options = { cwd, env, timeout: COMMAND_TIMEOUT_MS, killSignal: "SIGKILL" } as const;
      const child = execFile(program, args, options, (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === "number" ? error.code : -1;
        resolve({ exitCode: code, output: `${stdout}${stderr}` });
      });
      // Nobody answers its questions.
      child.stdin?.end();
    });
  const succeed = async (args: readonly string[], options: CfOptions): Promise<string> => {
    const { exitCode, output } = await run(args, options);
    if (exitCode === 0) return output;
    throw new Error(`cf ${args.join(" ")} ended with ${exitCode}:\n${output}`);
  };
  return Object.assign((...args: string[]) => succeed(args, {}), {
    run,
    in:
      (cwd: string) =>
      (...args: string[]) =>
        succeed(args, { cwd }),
    close: () => rm(home, { recursive: true, force: true }),
  });
}
