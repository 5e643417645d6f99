import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { silentLogger } from "../lib/logger.js";
import { EnvoyRunner, type EnvoyRunnerOptions } from "./envoy-runner.js";
import { type EnvoySpec, type KeeperState, specIdOf } from "./keeper-protocol.js";

const WAIT = { timeout: 10_000, interval: 10 };

let folder: string;
let states: KeeperState[];
let guarded: (number | undefined)[];
let runner: EnvoyRunner;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "mesh-runner-"));
  states = [];
  guarded = [];
});
afterEach(async () => {
  await runner.stop();
  await rm(folder, { recursive: true });
});

/** A shell script in Envoy's place. */
const script = (text: string, bootstrap = "{}"): EnvoySpec => ({
  command: ["/bin/sh", "-c", text, "envoy"],
  bootstrap,
  binaryMark: "",
  adminSocketPath: join(folder, "admin.sock"),
});

function newRunner(options: Partial<EnvoyRunnerOptions> = {}): EnvoyRunner {
  runner = new EnvoyRunner({
    runDirectory: folder,
    stopGraceMs: 10_000,
    guard: (pid) => guarded.push(pid),
    output: () => undefined,
    logger: silentLogger,
    onState: (state) => states.push(state),
    ...options,
  });
  return runner;
}

const kinds = () => states.map(({ kind }) => kind);
const pauses = () => states.flatMap((state) => (state.kind === "waiting" ? [state.restartInMs] : []));
const FOREVER = "echo up; while :; do sleep 0.05; done";

describe("running Envoy", () => {
  it("starts it again after longer and longer pauses while it does not live", async () => {
    newRunner({ restart: { initialMs: 8, maxMs: 32, stableAfterMs: 60_000 } }).run(script("exit 3"));
    await vi.waitFor(() => expect(pauses().length).toBeGreaterThanOrEqual(5), WAIT);
    const [first = 0, , third = 0, , fifth = 0] = pauses();
    expect(first).toBeLessThanOrEqual(8);
    expect(third).toBeGreaterThanOrEqual(16);
    expect(fifth).toBeGreaterThanOrEqual(16);
    expect(fifth).toBeLessThanOrEqual(32);
  });

  it("pauses shortly again once it lived", async () => {
    newRunner({ restart: { initialMs: 8, maxMs: 1_000, stableAfterMs: 0 } }).run(script("exit 3"));
    await vi.waitFor(() => expect(pauses().length).toBeGreaterThanOrEqual(5), WAIT);
    expect(Math.max(...pauses())).toBeLessThanOrEqual(8);
  });

  it("tells code and last lines of one that ended", async () => {
    newRunner().run(script("echo good; echo bad >&2; exit 3"));
    await vi.waitFor(() => expect(kinds()).toContain("waiting"), WAIT);
    const ended = states.find(({ kind }) => kind === "waiting");
    expect(ended).toMatchObject({ exit: { code: 3, signal: null } });
    expect(ended?.kind === "waiting" && [...ended.exit.lastLines].sort()).toEqual(["bad", "good"]);
  });

  it("reports a program that does not exist, and tries again", async () => {
    newRunner().run({ ...script(""), command: [join(folder, "nowhere")] });
    await vi.waitFor(() => expect(kinds()).toContain("waiting"), WAIT);
    expect(states[0]).toMatchObject({ exit: { code: null, lastLines: [expect.stringContaining("ENOENT")] } });
  });

  it("starts one that waits at once when it is asked for again", async () => {
    newRunner({ restart: { initialMs: 600_000, maxMs: 600_000, stableAfterMs: 0 } }).run(script("exit 3"));
    await vi.waitFor(() => expect(kinds()).toEqual(["running", "waiting"]), WAIT);
    runner.run(script(FOREVER));
    expect(runner.state.kind).toBe("running");
  });

  it("leaves an equal one alone", () => {
    newRunner().run(script(FOREVER));
    runner.run(script(FOREVER));
    expect(kinds()).toEqual(["running"]);
  });

  it("starts another one only when the old one has ended", async () => {
    newRunner().run(script(FOREVER, '"old"'));
    const next = script(FOREVER, '"new"');
    runner.run(next);
    await vi.waitFor(() => expect(kinds()).toEqual(["running", "stopping", "running"]), WAIT);
    expect(runner.state).toMatchObject({ specId: specIdOf(next) });
    expect(await readFile(join(folder, "envoy.json"), "utf8")).toBe('"new"');
    expect(guarded).toEqual([expect.any(Number), undefined, expect.any(Number)]);
  });

  it("kills one that does not stop in time", async () => {
    let isUp = false;
    newRunner({ stopGraceMs: 50, output: () => (isUp = true) }).run(script(`trap '' TERM; ${FOREVER}`));
    await vi.waitFor(() => expect(isUp).toBe(true), WAIT);
    await runner.stop();
    expect(kinds()).toEqual(["running", "stopping", "idle"]);
  });

  it("starts nothing more once it is stopped", async () => {
    newRunner().run(script("exit 3"));
    await vi.waitFor(() => expect(kinds()).toContain("waiting"), WAIT);
    await runner.stop();
    expect(states.at(-1)).toEqual({ kind: "idle" });
  });
});
