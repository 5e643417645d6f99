import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { open } from "lmdb";
import { describe, expect, it, onTestFinished } from "vitest";
import { built } from "../../test/support/built.js";
import { type EmbeddedLogOptions, openEmbeddedLog } from "./embedded.js";
import { describeMeshLog } from "./log.contract.js";
import type { LogEntry, MeshLog } from "./log.js";

const UNAVAILABLE = { code: "MESH_LOG_UNAVAILABLE" };

const newDirectory = () => mkdtemp(join(tmpdir(), "mesh-log-"));

describeMeshLog("embedded log", async () => {
  const directory = await newDirectory();
  const logs: MeshLog[] = [];
  let nowMs = Date.UTC(2026, 0, 1);
  const connect = async () => {
    const log = await openEmbeddedLog({ directory, clock: { now: () => nowMs }, deleteMarkerTtlMs: 1_000 });
    logs.push(log);
    return log;
  };
  return {
    connect,
    async forgetDeletions() {
      nowMs += 1_000;
      await (await connect()).append([{ key: "any", value: Buffer.from("a write prunes") }]);
    },
    async stop() {
      await Promise.all(logs.map((log) => log.close()));
      await rm(directory, { recursive: true });
    },
  };
});

/** A directory of the test's own, gone when it ends. */
async function temporaryDirectory(): Promise<string> {
  const directory = await newDirectory();
  onTestFinished(() => rm(directory, { recursive: true }));
  return directory;
}

async function openForTest(options: EmbeddedLogOptions): Promise<MeshLog> {
  const log = await openEmbeddedLog(options);
  onTestFinished(() => log.close());
  return log;
}

async function readAll(log: MeshLog, prefix?: string): Promise<LogEntry[]> {
  const all: LogEntry[] = [];
  for await (const entries of log.read(prefix)) all.push(...entries);
  return all;
}

/** Runs a script over the compiled log in a process of its own; what it prints comes line by line. */
function startProcess(script: string, command: readonly string[] = []) {
  const source = `
    const { openEmbeddedLog } = await import(${JSON.stringify(built("src/log/embedded.ts"))});
    const say = (line) => process.stdout.write(line + "\\n");
    ${script}`;
  const argv = [...command, process.execPath, "--input-type=module", "--eval", source];
  const child = spawn(argv[0] ?? process.execPath, argv.slice(1), { stdio: ["pipe", "pipe", "inherit"] });
  const exited = once(child, "exit");
  onTestFinished(async () => {
    child.kill("SIGKILL");
    await exited;
  });
  const lines: AsyncIterator<string, undefined> = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    pid: child.pid ?? 0,
    /** The next line; undefined when there are no more. */
    line: async () => (await lines.next()).value,
    /** Lets a script that waits for it go on. */
    goOn: () => child.stdin.write("\n"),
    async kill() {
      child.kill("SIGKILL");
      await exited;
    },
    exited,
  };
}

describe("embedded log, killed", () => {
  const BATCH_WRITES = 300;

  it("keeps each acknowledged batch whole, tears none, and goes on, however often a writer is killed", async () => {
    const directory = await temporaryDirectory();
    const log = await openForTest({ directory });
    for (let round = 0; round < 8; round += 1) {
      const writer = startProcess(`
        const log = await openEmbeddedLog({ directory: ${JSON.stringify(directory)} });
        for (let batch = 0; ; batch += 1) {
          const writes = Array.from({ length: ${BATCH_WRITES} }, (_, index) =>
            ({ key: "kill.${round}." + batch + "." + index, value: Buffer.alloc(500, batch % 256) }));
          say(batch + " " + (await log.append(writes)));
        }`);
      let acknowledged = -1;
      let sequence = 0;
      for (let count = 0; count < 3 + round; count += 1) {
        [acknowledged = -1, sequence = 0] = ((await writer.line()) ?? "").split(" ").map(Number);
      }
      await writer.kill();

      const counts = new Map<number, number>();
      for (const { key, value } of await readAll(log, `kill.${round}.`)) {
        const batch = Number(key.split(".")[2]);
        counts.set(batch, (counts.get(batch) ?? 0) + 1);
        expect(value?.[0]).toBe(batch % 256);
      }
      for (let batch = 0; batch <= acknowledged; batch += 1) expect(counts.get(batch)).toBe(BATCH_WRITES);
      expect([...counts.values()].every((count) => count === BATCH_WRITES)).toBe(true);
      const last = await log.lastSequence();
      expect(last).toBeGreaterThanOrEqual(sequence);
      expect(await log.append([{ key: "survivor", value: Buffer.from(`${round}`) }])).toBe(last + 1);
    }
    await log.close();
    const again = await openForTest({ directory });
    const sequences = (await readAll(again)).map((entry) => entry.sequence);
    expect(new Set(sequences).size).toBe(sequences.length);
    expect(sequences).toEqual(sequences.toSorted((a, b) => a - b));
  });
});

describe("embedded log, shared by processes", () => {
  it("takes all appends of two processes with distinct sequences, and holds compare-and-set between them", async () => {
    const directory = await temporaryDirectory();
    const log = await openForTest({ directory });
    const increments = 150;
    const script = (name: string) => `
      const log = await openEmbeddedLog({ directory: ${JSON.stringify(directory)} });
      say("ready");
      await new Promise((resolve) => process.stdin.once("data", resolve));
      const sequences = [];
      for (let done = 0; done < ${increments}; ) {
        const entry = await log.get("counter");
        const count = entry ? Number(Buffer.from(entry.value)) : 0;
        try {
          sequences.push(await log.append([
            { key: "counter", value: Buffer.from(String(count + 1)), expectedSequence: entry?.sequence ?? 0 },
            { key: "done.${name}." + done, value: Buffer.from("") },
          ]));
          done += 1;
        } catch (error) {
          if (error.code !== "MESH_LOG_CONFLICT") throw error;
        }
      }
      say(sequences.join(" "));
      await log.close();
      process.exit();`;
    const ending = new AbortController();
    const heard: number[] = [];
    const follower = (async () => {
      for await (const { entries } of log.follow(0, ending.signal)) {
        heard.push(...entries.filter(({ key }) => key !== "counter").map(({ sequence }) => sequence));
        if (heard.length === 2 * increments) ending.abort();
      }
    })();

    const processes = [startProcess(script("a")), startProcess(script("b"))];
    for (const process of processes) expect(await process.line()).toBe("ready");
    for (const process of processes) process.goOn();
    const answers = await Promise.all(processes.map((process) => process.line()));
    const sequences = answers.flatMap((answer) => (answer ?? "").split(" ").map(Number));
    await follower;

    expect(Buffer.from((await log.get("counter"))?.value ?? "").toString()).toBe(`${2 * increments}`);
    expect(sequences.toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: 2 * increments }, (_, index) => 2 * (index + 1)),
    );
    expect(heard).toEqual(sequences.toSorted((a, b) => a - b));
  });
});

// prlimit, which makes the disk full without any rights, is a tool of Linux.
describe.runIf(process.platform === "linux")("embedded log, without room", () => {
  it("refuses appends and serves reads while the disk takes no more, and appends again once it does", async () => {
    const directory = await temporaryDirectory();
    const writer = startProcess(
      `
      const log = await openEmbeddedLog({ directory: ${JSON.stringify(directory)} });
      const batch = (number) => Array.from({ length: 100 }, (_, index) =>
        ({ key: "full." + number + "." + index, value: Buffer.alloc(1_000, number) }));
      let stored = 0;
      let failure;
      while (!failure) await log.append(batch(stored)).then(() => stored += 1, (error) => failure = error);
      const again = await log.append(batch(stored)).catch((error) => error);
      const { value } = await log.get("full.0.99");
      let readCount = 0;
      for await (const entries of log.read()) readCount += entries.length;
      say(JSON.stringify({ stored, message: failure.message, code: failure.code, again: again.code,
        lastSequence: await log.lastSequence(), readCount, valueBytes: value.length }));
      await new Promise((resolve) => process.stdin.once("data", resolve));
      say(String(await log.append(batch(stored))));
      await log.close();
      process.exit();`,
      ["prlimit", "--fsize=2000000:unlimited"],
    );
    const report = JSON.parse((await writer.line()) ?? "{}") as Record<string, unknown>;
    const stored = Number(report["stored"]);
    expect(stored).toBeGreaterThan(1);
    expect(report).toMatchObject({
      code: "MESH_LOG_UNAVAILABLE",
      again: "MESH_LOG_UNAVAILABLE",
      lastSequence: stored * 100,
      readCount: stored * 100,
      valueBytes: 1_000,
    });
    expect(report["message"]).toContain(`free space on the disk of ${directory}`);

    await promisify(execFile)("prlimit", ["--pid", `${writer.pid}`, "--fsize=unlimited:unlimited"]);
    writer.goOn();
    expect(await writer.line()).toBe(`${(stored + 1) * 100}`);
    await writer.exited;
    const log = await openForTest({ directory });
    expect((await readAll(log)).map(({ sequence }) => sequence)).toEqual(
      Array.from({ length: (stored + 1) * 100 }, (_, index) => index + 1),
    );
  });

  it("says so when there is none for a new log", async () => {
    const directory = await temporaryDirectory();
    const opener = startProcess(
      `
      const error = await openEmbeddedLog({ directory: ${JSON.stringify(directory)} }).catch((thrown) => thrown);
      say(error.code + " " + error.fix);`,
      ["prlimit", "--fsize=10000"],
    );
    expect(await opener.line()).toContain(`MESH_LOG_UNAVAILABLE free space on the disk of ${directory}`);
    expect(await readdir(directory)).toEqual([]);
  });
});

describe("embedded log, opened", () => {
  it("makes a directory that is missing, which only its owner may read", async () => {
    const directory = join(await temporaryDirectory(), "state", "mesh.log");
    const log = await openForTest({ directory });
    expect(await log.append([{ key: "a.x", value: Buffer.from("1") }])).toBe(1);
    expect((await stat(directory)).mode & 0o777).toBe(0o700);
  });

  it("says so when the directory can't be made", async () => {
    const file = join(await temporaryDirectory(), "file");
    await writeFile(file, "");
    await expect(openEmbeddedLog({ directory: join(file, "log") })).rejects.toMatchObject(UNAVAILABLE);
    await expect(openEmbeddedLog({ directory: file })).rejects.toMatchObject(UNAVAILABLE);
  });

  it.skipIf(process.getuid?.() === 0)("says so when the directory can't be written", async () => {
    const directory = await temporaryDirectory();
    await chmod(directory, 0o500);
    await expect(openEmbeddedLog({ directory })).rejects.toMatchObject({
      ...UNAVAILABLE,
      fix: `let this process read and write ${directory} and the files in it`,
    });
  });

  it("leaves a file alone that is no LMDB environment", async () => {
    const directory = await temporaryDirectory();
    const file = join(directory, "data.mdb");
    const content = "something else entirely\n".repeat(1_000);
    await writeFile(file, content);
    await expect(openEmbeddedLog({ directory })).rejects.toMatchObject(UNAVAILABLE);
    expect(await readFile(file, "utf8")).toBe(content);
  });

  it.each([10, 4_096])("says so when only the first %i bytes of its file are left", async (length) => {
    const directory = await temporaryDirectory();
    await (await openEmbeddedLog({ directory })).close();
    const file = join(directory, "data.mdb");
    const rest = (await readFile(file)).subarray(0, length);
    await writeFile(file, rest);
    await expect(openEmbeddedLog({ directory })).rejects.toMatchObject(UNAVAILABLE);
  });

  it("leaves another program's LMDB environment alone", async () => {
    const directory = await temporaryDirectory();
    const root = open({ path: directory, noSubdir: false });
    await root.put("theirs", "value");
    await root.close();
    await expect(openEmbeddedLog({ directory })).rejects.toMatchObject({
      ...UNAVAILABLE,
      message: expect.stringContaining("theirs") as string,
    });
  });

  it("leaves a log of a newer format alone", async () => {
    const directory = await temporaryDirectory();
    await mkdir(directory, { recursive: true });
    const root = open({ path: directory, noSubdir: false });
    await root.openDB({ name: "head", encoding: "json" }).put("head", { format: 2 });
    await root.close();
    await expect(openEmbeddedLog({ directory })).rejects.toMatchObject({
      ...UNAVAILABLE,
      message: expect.stringContaining("format 2") as string,
    });
  });
});

describe("embedded log, delete markers", () => {
  it("are dropped after their time, by the next write", async () => {
    const directory = await temporaryDirectory();
    let nowMs = 0;
    const log = await openForTest({ directory, deleteMarkerTtlMs: 100, clock: { now: () => nowMs } });
    const markers = async () => {
      const keys: string[] = [];
      for await (const { entries, caughtUp } of log.follow(0, new AbortController().signal)) {
        keys.push(...entries.filter(({ value }) => !value).map(({ key }) => key));
        if (caughtUp) break;
      }
      return keys;
    };
    await log.append([{ key: "a.early", value: undefined }]);
    nowMs = 50;
    await log.append([{ key: "a.late", value: undefined }]);
    nowMs = 99;
    await log.append([{ key: "a.x", value: Buffer.from("1") }]);
    expect(await markers()).toEqual(["a.early", "a.late"]);
    nowMs = 100;
    await log.append([{ key: "a.x", value: Buffer.from("2") }]);
    expect(await markers()).toEqual(["a.late"]);
  });

  it("give way to a new value of their key", async () => {
    const directory = await temporaryDirectory();
    let nowMs = 0;
    const log = await openForTest({ directory, deleteMarkerTtlMs: 100, clock: { now: () => nowMs } });
    await log.append([{ key: "a.x", value: undefined }]);
    await log.append([{ key: "a.x", value: Buffer.from("1") }]);
    nowMs = 200;
    await log.append([{ key: "a.y", value: Buffer.from("2") }]);
    expect((await readAll(log)).map(({ key }) => key)).toEqual(["a.x", "a.y"]);
  });
});
