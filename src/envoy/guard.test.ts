import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface, type Interface } from "node:readline";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { built } from "../../test/support/built.js";

const WAIT = { timeout: 10_000, interval: 20 };

let guarded: ChildProcess;
let guardian: ChildProcess;

beforeEach(async () => {
  guarded = spawn("/bin/sh", ["-c", "while :; do sleep 1; done"], { stdio: "ignore" });
  await once(guarded, "spawn");
});
afterEach(() => {
  guarded.kill("SIGKILL");
  guardian.kill("SIGKILL");
});

/** A process that holds a guard. Resolves with its lines when the program given it has run. */
async function startGuardian(program: string): Promise<Interface> {
  const text = `
    const { DeathGuard } = await import(${JSON.stringify(built("src/envoy/guard.ts"))});
    const guard = new DeathGuard();
    ${program}
    console.log("ready");
    setInterval(() => undefined, 1_000);`;
  guardian = spawn(process.execPath, ["--input-type=module", "-e", text], { stdio: ["ignore", "pipe", "inherit"] });
  if (!guardian.stdout) throw new Error("no output");
  const lines = createInterface(guardian.stdout);
  await once(lines, "line");
  return lines;
}

it("kills the guarded process when the guardian is killed", async () => {
  await startGuardian(`guard.guard(${String(guarded.pid)});`);
  const ended = once(guarded, "exit");
  guardian.kill("SIGKILL");
  expect(await ended).toEqual([null, "SIGKILL"]);
});

it("does so although its own shell was killed before", async () => {
  const program = `guard.guard(${String(guarded.pid)}); process.on("SIGUSR2", () => console.log("idle"));`;
  const lines = await startGuardian(program);
  const [shell = 0] = shells();
  process.kill(shell, "SIGKILL");
  await vi.waitFor(() => {
    expect(shells()).toHaveLength(1);
    expect(shells()).not.toContain(shell);
  }, WAIT);
  // A process is seen before the one that starts it has told it anything.
  const idle = once(lines, "line");
  guardian.kill("SIGUSR2");
  await idle;
  const ended = once(guarded, "exit");
  guardian.kill("SIGKILL");
  expect(await ended).toEqual([null, "SIGKILL"]);
});

it("lets the process live when it is closed", async () => {
  await startGuardian(`guard.guard(${String(guarded.pid)}); process.once("SIGUSR2", () => guard.close());`);
  expect(shells()).toHaveLength(1);
  guardian.kill("SIGUSR2");
  await vi.waitFor(() => expect(shells()).toEqual([]), WAIT);
  expect([guarded.exitCode, guarded.signalCode]).toEqual([null, null]);
});

/** Pids of the guardian's children. */
function shells(): number[] {
  const processes = execFileSync("ps", ["-A", "-o", "pid=,ppid="], { encoding: "utf8" }).trim().split("\n");
  return processes.flatMap((line) => {
    const [pid = 0, parent] = line.trim().split(/\s+/).map(Number);
    return parent === guardian.pid ? [pid] : [];
  });
}
