import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { built } from "../../test/support/built.js";
import { eventually } from "../../test/support/eventually.js";
import { silentLogger } from "../lib/logger.js";
import { LineSink } from "./line-sink.js";

describe("a sink of lines", () => {
  let directory: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "cf-mesh-"));
    onTestFinished(() => rm(directory, { recursive: true, force: true }));
  });

  const open = (file: string, bufferBytes = 1_000_000) =>
    new LineSink({ target: { file }, bufferBytes, logger: silentLogger });

  it("writes lines in their order behind those that were there, and all of them before it closes", async () => {
    const file = join(directory, "log");
    await writeFile(file, "before\n");
    const sink = open(file);
    const lines = Array.from({ length: 50_000 }, (_, index) => `line ${index}`);
    for (const line of lines) sink.write(line);
    await sink.close();
    expect(await readFile(file, "utf8")).toBe(`before\n${lines.join("\n")}\n`);
    expect(sink.status).toEqual({ writtenCount: 50_000, lostCount: 0, lastError: undefined });
  });

  it("drops and counts what comes beyond its bound", async () => {
    const file = join(directory, "log");
    const sink = open(file, 100);
    for (let count = 0; count < 20; count += 1) sink.write("nine char");
    await sink.close();
    expect(await readFile(file, "utf8")).toBe("nine char\n".repeat(10));
    expect(sink.status).toMatchObject({ writtenCount: 10, lostCount: 10 });
  });

  it.runIf(process.platform === "linux")("counts what a full disk does not take", async () => {
    const sink = open("/dev/full");
    sink.write("lost");
    await eventually(() => sink.status.lostCount === 1);
    expect(sink.status.lastError).toContain("ENOSPC");
    await sink.close();
  });

  it("goes on by itself when the place is there again, and in a new file when asked", async () => {
    const missing = join(directory, "missing");
    const file = join(missing, "log");
    const sink = open(file);
    sink.write("lost");
    await eventually(() => sink.status.lastError !== undefined);
    await rename(await mkdtemp(join(directory, "made-")), missing);
    sink.write("first");
    await eventually(() => sink.status.lastError === undefined);
    await rename(file, `${file}.1`);
    sink.reopen();
    sink.write("second");
    await sink.close();
    expect(await readFile(`${file}.1`, "utf8")).toBe("first\n");
    expect(await readFile(file, "utf8")).toBe("second\n");
  });

  it("leaves a process to its work whose standard output nobody reads", async () => {
    const program = `
      const { LineSink } = await import(${JSON.stringify(built("src/jobs/line-sink.ts"))});
      const sink = new LineSink({ target: "stdout", bufferBytes: 500_000, logger: { error() {}, info() {} } });
      for (let number = 0; number < 10_000; number += 1) sink.write(String(number).padStart(99, "."));
      await new Promise((resolve) => setTimeout(resolve, 1));
      process.stderr.write("it goes on");
      process.stdin.once("data", async () => {
        await sink.close();
        process.stderr.write(JSON.stringify(sink.status));
      });
      process.stdin.once("end", () => process.exit());
    `;
    const child = spawn(process.execPath, ["--input-type=module", "--eval", program]);
    onTestFinished(() => void child.kill());
    const [told] = (await once(child.stderr, "data")) as [Buffer];
    expect(told.toString()).toBe("it goes on");
    const written = text(child.stdout);
    child.stdin.write("close");
    const [status] = (await once(child.stderr, "data")) as [Buffer];
    expect(JSON.parse(status.toString())).toEqual({ writtenCount: 5_000, lostCount: 5_000 });
    child.stdin.end();
    expect(await written).toBe(
      Array.from({ length: 5_000 }, (_, number) => `${String(number).padStart(99, ".")}\n`).join(""),
    );
  });
});
