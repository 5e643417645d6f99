import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, it, onTestFinished } from "vitest";
import { openEmbeddedLog } from "./embedded.js";
import { type KeySpaceWriter, openKeySpaceWriter, type Want } from "./key-space-writer.js";
import type { MeshLog, Write } from "./log.js";

const SPACE = "route.cc.";

const want = (name: string, value?: string): Want => ({
  key: `${SPACE}${name}`,
  value: value === undefined ? undefined : Buffer.from(value),
});
const counts = (written: number, deleted: number, unchanged: number) => ({ written, deleted, unchanged });

/** A real log that keeps account of its batches, and fails as it is told. */
interface WatchedLog extends MeshLog {
  readonly batches: (readonly Write[])[];
  readonly most: { inFlight: number };
  /** The next append fails: before it wrote, or after. */
  failNext(when: "before" | "after"): void;
}

async function watchedLog(): Promise<WatchedLog> {
  const directory = await mkdtemp(join(tmpdir(), "mesh-writer-"));
  const log = await openEmbeddedLog({ directory });
  onTestFinished(async () => {
    await log.close();
    await rm(directory, { recursive: true });
  });
  const batches: (readonly Write[])[] = [];
  const most = { inFlight: 0 };
  let inFlight = 0;
  let failure: "before" | "after" | undefined;
  return {
    batches,
    most,
    failNext(when) {
      failure = when;
    },
    async append(batch) {
      inFlight += 1;
      most.inFlight = Math.max(most.inFlight, inFlight);
      const fails = failure;
      failure = undefined;
      try {
        if (fails === "before") throw new Error("refused");
        const sequence = await log.append(batch);
        batches.push(batch);
        if (fails === "after") throw new Error("connection lost");
        return sequence;
      } finally {
        inFlight -= 1;
      }
    },
    get: (key) => log.get(key),
    read: (prefix) => log.read(prefix),
    follow: (afterSequence, signal) => log.follow(afterSequence, signal),
    lastSequence: () => log.lastSequence(),
    id: () => log.id(),
    close: () => log.close(),
  };
}

async function content(log: MeshLog): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for await (const entries of log.read(SPACE)) {
    for (const { key, value } of entries) found[key.slice(SPACE.length)] = Buffer.from(value ?? "").toString();
  }
  return found;
}

async function openWriter(): Promise<{ log: WatchedLog; writer: KeySpaceWriter }> {
  const log = await watchedLog();
  return { log, writer: await openKeySpaceWriter(log, SPACE) };
}

describe("KeySpaceWriter.apply", () => {
  it("writes and deletes what differs, values before what is to go, and nothing else", async () => {
    const { log, writer } = await openWriter();
    expect(await writer.apply([want("a", "1"), want("b", "2"), want("c", "3")])).toEqual(counts(3, 0, 0));
    const again = [want("c"), want("a", "1"), want("b", "5"), want("d"), want("e", "")];
    expect(await writer.apply(again)).toEqual(counts(2, 1, 2));
    expect(log.batches[1]?.map(({ key }) => key)).toEqual([`${SPACE}b`, `${SPACE}e`, `${SPACE}c`]);
    expect(await content(log)).toEqual({ a: "1", b: "5", e: "" });
    expect([...writer.keys()].toSorted()).toEqual([`${SPACE}a`, `${SPACE}b`, `${SPACE}e`]);
  });

  it("writes every value before the first deletion, over several batches", async () => {
    const { log, writer } = await openWriter();
    const old = Array.from({ length: 1_000 }, (_, index) => want(`old-${index}`, "1"));
    await writer.apply(old);
    log.batches.length = 0;
    await writer.apply([...old.map(({ key }) => ({ key, value: undefined })), want("new", "1")]);
    expect(log.batches.length).toBeGreaterThan(1);
    expect(log.batches[0]?.[0]?.key).toBe(`${SPACE}new`);
  });

  it("lets the last want of a key count", async () => {
    const { log, writer } = await openWriter();
    await writer.apply([want("a", "1")]);
    await writer.apply([want("a", "2"), want("a", "1"), want("b", "1"), want("b"), want("c"), want("c", "3")]);
    expect(await content(log)).toEqual({ a: "1", c: "3" });
  });

  it("appends nothing when nothing differs", async () => {
    const { log, writer } = await openWriter();
    await writer.apply([want("a", "1")]);
    expect(await writer.apply([want("a", "1"), want("b")])).toEqual(counts(0, 0, 2));
    expect(await log.lastSequence()).toBe(1);
  });

  it("refuses all wants for one key that is outside of its space, or bad", async () => {
    const { log, writer } = await openWriter();
    const outside = { key: "process.bbs.a", value: Buffer.from("1") };
    await expect(writer.apply([want("a", "1"), outside])).rejects.toThrow("process.bbs.a");
    await expect(writer.apply([want("a", "1"), want("b c", "1")])).rejects.toThrow("route.cc.b c");
    expect(await log.lastSequence()).toBe(0);
  });
});

describe("KeySpaceWriter.replaceAll", () => {
  it("makes the key space so, and leaves the others alone", async () => {
    const { log, writer } = await openWriter();
    await log.append([{ key: "process.bbs.a", value: Buffer.from("theirs") }]);
    await writer.replaceAll([want("a", "1"), want("b", "2"), want("c", "3")]);
    expect(await writer.replaceAll([want("b", "2"), want("c", "4"), want("d", "5"), want("e")])).toEqual(
      counts(2, 1, 1),
    );
    expect(await content(log)).toEqual({ b: "2", c: "4", d: "5" });
    expect(await log.get("process.bbs.a")).toBeDefined();
  });

  it("deletes after everything is written, in batches of 900 at most, one at a time", async () => {
    const { log, writer } = await openWriter();
    const many = (prefix: string) => Array.from({ length: 2_000 }, (_, index) => want(`${prefix}-${index}`, "1"));
    await writer.replaceAll(many("old"));
    log.batches.length = 0;
    expect(await writer.replaceAll(many("new"))).toEqual(counts(2_000, 2_000, 0));
    expect(log.batches.map((batch) => batch.length)).toEqual([900, 900, 200, 900, 900, 200]);
    const isDeletion = log.batches.flatMap((batch) => batch.map(({ value }) => value === undefined));
    expect(isDeletion.indexOf(true)).toBe(2_000);
    expect(isDeletion.lastIndexOf(false)).toBe(1_999);
    expect(log.most.inFlight).toBe(1);
  });

  it("bounds a batch by its bytes, too", async () => {
    const { log, writer } = await openWriter();
    await writer.replaceAll(Array.from({ length: 6 }, (_, index) => want(`${index}`, "x".repeat(600_000))));
    expect(log.batches.map((batch) => batch.length)).toEqual([2, 2, 2]);
  });

  it("reads its wants as they come, and deletes nothing when they fail", async () => {
    const { log, writer } = await openWriter();
    await writer.apply([want("old", "1")]);
    async function* broken() {
      yield want("new", "2");
      await Promise.resolve();
      throw new Error("the source is gone");
    }
    await expect(writer.replaceAll(broken())).rejects.toThrow("the source is gone");
    expect(await content(log)).toMatchObject({ old: "1" });
    async function* whole() {
      yield want("new", "2");
      await Promise.resolve();
    }
    await writer.replaceAll(whole());
    expect(await content(log)).toEqual({ new: "2" });
  });

  it("lets others have their turn while a long list is without a difference", async () => {
    const { writer } = await openWriter();
    const wants = Array.from({ length: 5_000 }, (_, index) => want(`${index}`, "1"));
    await writer.replaceAll(wants);
    const done = writer.replaceAll(wants).then(() => true);
    let turns = 0;
    while (!(await Promise.race([done, nextTurn(false)]))) turns += 1;
    expect(turns).toBeGreaterThanOrEqual(5);
  });
});

describe("KeySpaceWriter", () => {
  it("writes nothing after a restart with nothing new", async () => {
    const { log, writer } = await openWriter();
    const wants = [want("a", "1"), want("b", "2")];
    await writer.replaceAll([...wants, want("c", "3")]);
    await writer.apply([want("c")]);
    const restarted = await openKeySpaceWriter(log, SPACE);
    expect(await restarted.replaceAll(wants)).toEqual(counts(0, 0, 2));
  });

  it("carries out calls one after the other", async () => {
    const { log, writer } = await openWriter();
    const results = await Promise.all([
      writer.apply([want("a", "1")]),
      writer.replaceAll([want("a", "1"), want("b", "2")]),
      writer.apply([want("a"), want("b", "2")]),
    ]);
    expect(results).toEqual([counts(1, 0, 0), counts(1, 0, 1), counts(0, 1, 1)]);
    expect(await content(log)).toEqual({ b: "2" });
  });

  it.each(["before", "after"] as const)(
    "writes what is missing after an append that failed %s writing",
    async (when) => {
      const { log, writer } = await openWriter();
      await writer.apply([want("a", "1"), want("gone", "1")]);
      log.failNext(when);
      await expect(writer.apply([want("a", "2"), want("b", "2"), want("gone")])).rejects.toThrow();
      // Back to the value that stood before the failure: what the log really holds decides.
      await writer.replaceAll([want("a", "1"), want("gone", "1")]);
      expect(await content(log)).toEqual({ a: "1", gone: "1" });
      expect([...writer.keys()].toSorted()).toEqual([`${SPACE}a`, `${SPACE}gone`]);
    },
  );

  it("keeps the batches before the one that failed", async () => {
    const { log, writer } = await openWriter();
    const wants = Array.from({ length: 1_500 }, (_, index) => want(`${index}`, "1"));
    const stored = writer.apply(wants.slice(0, 900));
    await stored;
    log.failNext("before");
    await expect(writer.apply(wants)).rejects.toThrow("refused");
    expect(await writer.apply(wants)).toEqual(counts(600, 0, 900));
  });

  it("refuses a key space without a dot at its end: keys of others begin like it", async () => {
    await expect(openKeySpaceWriter(await watchedLog(), "route.cc")).rejects.toThrow("route.cc");
  });
});
