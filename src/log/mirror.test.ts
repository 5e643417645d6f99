import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, describe, it, onTestFinished } from "vitest";
import { built } from "../../test/support/built.js";
import { eventually } from "../../test/support/eventually.js";
import { silentLogger } from "../lib/logger.js";
import { openEmbeddedLog } from "./embedded.js";
import type { LogBatch, MeshLog } from "./log.js";
import { type Mirror, type MirrorOptions, openMirror } from "./mirror.js";

async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "mesh-mirror-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** A log that a test can take away. */
class Source {
  readonly log: MeshLog;
  readonly #id: string;
  #isAway = new AbortController();

  constructor(log: MeshLog, id: string) {
    this.log = log;
    this.#id = id;
  }

  goAway(): void {
    this.#isAway.abort();
  }

  comeBack(): void {
    this.#isAway = new AbortController();
  }

  id(): Promise<string> {
    return this.#isAway.signal.aborted ? Promise.reject(new Error("it is away")) : Promise.resolve(this.#id);
  }

  async lastSequence(): Promise<number> {
    await this.id();
    return this.log.lastSequence();
  }

  async *follow(after: number, signal: AbortSignal): AsyncGenerator<LogBatch> {
    await this.id();
    yield* this.log.follow(after, AbortSignal.any([signal, this.#isAway.signal]));
    if (!signal.aborted) throw new Error("it went away");
  }

  async put(values: Readonly<Record<string, string | undefined>>): Promise<void> {
    await this.log.append(
      Object.entries(values).map(([key, value]) => ({
        key,
        value: value === undefined ? undefined : Buffer.from(value),
      })),
    );
  }
}

async function openSource(id = "one"): Promise<Source> {
  const log = await openEmbeddedLog({ directory: await temporaryDirectory() });
  onTestFinished(() => log.close());
  return new Source(log, id);
}

/** What a router makes of what it follows. */
class Reader {
  readonly values = new Map<string, string>();
  isComplete = false;
  #seen: Set<string> | undefined;

  /** Keys that were missing for a moment although the log has them all the time show here. */
  readonly gaps: string[] = [];
  #mustHave: readonly string[] = [];

  mustKeep(...keys: string[]): void {
    this.#mustHave = keys;
  }

  take({ entries, caughtUp, fromStart }: LogBatch): void {
    if (fromStart) this.#seen = new Set();
    for (const { key, value } of entries) {
      this.#seen?.add(key);
      if (value) this.values.set(key, Buffer.from(value).toString());
      else this.values.delete(key);
    }
    if (caughtUp) {
      for (const key of this.values.keys()) if (this.#seen && !this.#seen.has(key)) this.values.delete(key);
      this.#seen = undefined;
      this.isComplete = true;
    }
    this.gaps.push(...this.#mustHave.filter((key) => !this.values.has(key)));
  }

  get all(): Readonly<Record<string, string>> {
    return Object.fromEntries([...this.values].toSorted(([one], [other]) => (one < other ? -1 : 1)));
  }
}

interface Running {
  readonly mirror: Mirror;
  readonly reader: Reader;
  stop(): Promise<void>;
}

async function start(log: Source, directory: string, options: Partial<MirrorOptions> = {}): Promise<Running> {
  const mirror = await openMirror({ directory, log, logger: silentLogger, ...options });
  const reader = new Reader();
  const ending = new AbortController();
  const reading = (async () => {
    for await (const batch of mirror.follow(0, ending.signal)) reader.take(batch);
  })();
  let stopping: Promise<void> | undefined;
  const stop = () => {
    stopping ??= (async () => {
      ending.abort();
      await reading;
      await mirror.close();
    })();
    return stopping;
  };
  onTestFinished(stop);
  return { mirror, reader, stop };
}

const holds = ({ reader }: Running, values: Readonly<Record<string, string>>) =>
  eventually(() => {
    expect(reader.all).toEqual(values);
    return true;
  });

/** Started, and in step with its log. */
async function complete(log: Source, directory: string): Promise<Running> {
  const running = await start(log, directory);
  await eventually(() => running.mirror.status.state === "following");
  return running;
}

/** A process that opens a mirror whose log is away, reads it, and ends. */
const OPEN_AND_READ = `
  const { openMirror } = await import(${JSON.stringify(built("src/log/mirror.ts"))});
  const away = () => Promise.reject(new Error("away"));
  const logger = { info() {}, warn() {}, error() {}, debug() {}, child() { return this; } };
  const log = { id: away, lastSequence: away, follow: async function* () {} };
  const mirror = await openMirror({ directory: process.argv[1], log, logger });
  const ending = new AbortController();
  setTimeout(() => ending.abort(), 200);
  for await (const batch of mirror.follow(0, ending.signal));
  await mirror.close();
`;

describe("the mirror of a log", () => {
  it("follows the log, and serves what it held while the log is away, through a restart too", async () => {
    const source = await openSource();
    await source.put({ a: "1", b: "1" });
    const directory = await temporaryDirectory();
    const first = await start(source, directory);
    await holds(first, { a: "1", b: "1" });
    await source.put({ a: "2", b: undefined, c: "1" });
    await holds(first, { a: "2", c: "1" });
    expect(first.mirror.status).toMatchObject({ state: "following", sequence: 5, isStored: true });
    await first.stop();

    source.goAway();
    const second = await start(source, directory);
    await holds(second, { a: "2", c: "1" });
    expect(second.reader.isComplete).toBe(true);
    await eventually(() => second.mirror.status.lastError === "it is away");
    expect(second.mirror.status).toMatchObject({ state: "alone", sequence: 5 });

    await source.put({ c: undefined, d: "1" });
    source.comeBack();
    await holds(second, { a: "2", d: "1" });
    expect(second.mirror.status.state).toBe("following");
  });

  it("has nothing to serve while it never read the log, and says so", async () => {
    const source = await openSource();
    source.goAway();
    const running = await start(source, await temporaryDirectory());
    await eventually(() => running.mirror.status.lastError);
    expect(running.mirror.status.state).toBe("empty");
    expect(running.reader.isComplete).toBe(false);
  });

  it("goes on from where it was when the connection breaks, and misses nothing", async () => {
    const source = await openSource();
    const running = await start(source, await temporaryDirectory());
    await source.put({ a: "1", b: "1" });
    await holds(running, { a: "1", b: "1" });
    for (let round = 2; round < 5; round += 1) {
      source.goAway();
      await source.put({ a: String(round), [`round-${round - 1}`]: undefined, [`round-${round}`]: "x" });
      source.comeBack();
      await holds(running, { a: String(round), b: "1", [`round-${round}`]: "x" });
    }
  });

  it("takes over another log in one step: what both have is never missing", async () => {
    const directory = await temporaryDirectory();
    const before = await openSource("one");
    await before.put({ both: "old", gone: "old" });
    const first = await start(before, directory);
    await holds(first, { both: "old", gone: "old" });
    await first.stop();

    const after = await openSource("two");
    await after.put({ fresh: "new", other: "new", both: "new" });
    const second = await start(after, directory);
    second.reader.mustKeep("both");
    await holds(second, { both: "new", fresh: "new", other: "new" });
    expect(second.reader.gaps).toEqual([]);
    await second.stop();

    after.goAway();
    await holds(await start(after, directory), { both: "new", fresh: "new", other: "new" });
  });

  it("keeps what another log lacks until that log is said to be complete", async () => {
    const directory = await temporaryDirectory();
    const before = await openSource("one");
    await before.put({ a: "old", b: "old", "complete.route.cc": "" });
    const first = await start(before, directory);
    await holds(first, { a: "old", b: "old", "complete.route.cc": "" });
    await first.stop();

    const after = await openSource("two");
    const second = await start(after, directory);
    await holds(second, { a: "old", b: "old", "complete.route.cc": "" });
    await after.put({ a: "new" });
    await holds(second, { a: "new", b: "old", "complete.route.cc": "" });
    await after.put({ c: "new", "complete.route.cc": "" });
    await holds(second, { a: "new", c: "new", "complete.route.cc": "" });
  });

  it("is made anew when a value on its disk was changed", async () => {
    const directory = await temporaryDirectory();
    const source = await openSource();
    await source.put({ a: "a value that can be found on the disk" });
    const first = await start(source, directory);
    await holds(first, { a: "a value that can be found on the disk" });
    await first.stop();
    const file = join(directory, "entries", "data.mdb");
    const bytes = await readFile(file);
    let place = bytes.indexOf("a value that can");
    expect(place).toBeGreaterThan(0);
    for (; place >= 0; place = bytes.indexOf("a value that can", place + 1)) bytes[place] = 0x41;
    await writeFile(file, bytes);

    const second = await start(source, directory);
    await holds(second, { a: "a value that can be found on the disk" });
    await second.stop();
    source.goAway();
    await holds(await start(source, directory), { a: "a value that can be found on the disk" });
  });

  it("is made anew when its file is no LMDB data", async () => {
    const directory = await temporaryDirectory();
    const source = await openSource();
    await source.put({ a: "1" });
    await (await complete(source, directory)).stop();
    await writeFile(join(directory, "entries", "data.mdb"), "garbage".repeat(10_000));
    await holds(await start(source, directory), { a: "1" });
  });

  it("is made anew when reading it takes the process down, after some tries", async () => {
    const directory = await temporaryDirectory();
    const source = await openSource();
    await source.put(
      Object.fromEntries(Array.from({ length: 2_000 }, (_, count) => [`key-${count}`, "v".repeat(100)])),
    );
    const first = await start(source, directory);
    await eventually(() => first.reader.isComplete);
    await first.stop();
    const file = await open(join(directory, "entries", "data.mdb"), "r+");
    await file.truncate(8_192);
    await file.close();
    const ends: unknown[] = [];
    while (ends.at(-1) !== 0 && ends.length < 10) {
      const child = spawn(process.execPath, ["--input-type=module", "-e", OPEN_AND_READ, directory]);
      const [code, signal] = (await once(child, "exit")) as [number | null, string | null];
      ends.push(signal ?? code);
    }
    expect(ends).toEqual(["SIGBUS", "SIGBUS", "SIGBUS", 0]);
  });

  it("is still there when a process was killed while it read it", async () => {
    const directory = await temporaryDirectory();
    const source = await openSource();
    await source.put({ a: "1" });
    await (await complete(source, directory)).stop();
    await writeFile(join(directory, "reading"), "1");
    source.goAway();
    await holds(await start(source, directory), { a: "1" });
    await eventually(async () => (await readdir(directory)).join() === "entries");
  });

  it("serves on when its disk can't be used", async () => {
    const source = await openSource();
    await source.put({ a: "1" });
    const running = await start(source, "/dev/null/mirror");
    await holds(running, { a: "1" });
    expect(running.mirror.status).toMatchObject({ state: "following", isStored: false });
  });

  it("says once that it may be stale, and how far the log is", async () => {
    const source = await openSource();
    await source.put({ a: "1" });
    const warnings: string[] = [];
    const logger = Object.assign(Object.create(silentLogger) as typeof silentLogger, {
      warn: (_fields: object, message: string) => warnings.push(message),
    });
    const running = await start(source, await temporaryDirectory(), { staleAfterMs: 1, logger });
    await holds(running, { a: "1" });
    source.goAway();
    await eventually(() => warnings.length > 0);
    await eventually(() => running.mirror.status.state === "alone");
    expect(running.mirror.status).toMatchObject({ sequence: 1, logSequence: 1 });
    expect(warnings).toEqual([expect.stringContaining("may be stale")]);
  });
});
