import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it, onTestFinished } from "vitest";
import { eventually } from "../../test/support/eventually.js";
import { silentLogger } from "../lib/logger.js";
import { openEmbeddedLog } from "./embedded.js";
import { type LeasedWriters, openLeasedWriters } from "./leased-writers.js";
import type { LogBatch, LogEntry, MeshLog, Write } from "./log.js";

const SPACE = "route.cc.";
const TTL_MS = 300;

const bytes = (text: string) => Buffer.from(text);

/** A process's way to the log, which a test can hold up: as if the process were stopped, and went on later. */
class HeldLog implements MeshLog {
  readonly appends: Write[][] = [];
  readonly #log: MeshLog;
  #gate: Promise<void> = Promise.resolve();
  #open: (() => void) | undefined;

  constructor(log: MeshLog) {
    this.#log = log;
  }

  hold(): void {
    if (this.#open) return;
    this.#gate = new Promise((resolve) => {
      this.#open = resolve;
    });
  }

  letGo(): void {
    this.#open?.();
    this.#open = undefined;
  }

  async append(batch: readonly Write[]): Promise<number> {
    this.appends.push([...batch]);
    await this.#gate;
    return this.#log.append(batch);
  }

  async get(key: string): Promise<LogEntry | undefined> {
    await this.#gate;
    return this.#log.get(key);
  }

  async *follow(after: number, signal: AbortSignal): AsyncGenerator<LogBatch> {
    for await (const batch of this.#log.follow(after, signal)) {
      await this.#gate;
      yield batch;
    }
  }

  id() {
    return this.#log.id();
  }

  read(prefix?: string) {
    return this.#log.read(prefix);
  }

  lastSequence() {
    return this.#log.lastSequence();
  }

  close() {
    return this.#log.close();
  }
}

async function newDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "mesh-lease-"));
  onTestFinished(() => rm(directory, { recursive: true }));
  return directory;
}

interface Contender {
  readonly writers: LeasedWriters;
  readonly log: HeldLog;
  apply(values: Readonly<Record<string, string | undefined>>): Promise<unknown>;
  replaceAll(values: Readonly<Record<string, string>>): Promise<unknown>;
  close(): Promise<void>;
}

let contenders = 0;

async function enter(
  directory: string,
  ttlMs = TTL_MS,
  onStandby: "remember" | "refuse" = "remember",
): Promise<Contender> {
  const log = new HeldLog(await openEmbeddedLog({ directory }));
  contenders += 1;
  const writers = await openLeasedWriters(
    log,
    { [SPACE]: onStandby },
    {
      lease: "test",
      holder: `contender-${contenders}`,
      ttlMs,
      renewIntervalMs: ttlMs / 4,
      logger: silentLogger,
    },
  );
  const writer = writers.writer(SPACE);
  const wants = (values: Readonly<Record<string, string | undefined>>) =>
    Object.entries(values).map(([key, value]) => ({
      key: SPACE + key,
      value: value === undefined ? undefined : bytes(value),
    }));
  let closing: Promise<void> | undefined;
  const close = () => {
    closing ??= (async () => {
      log.letGo();
      await writers.close();
      await log.close();
    })();
    return closing;
  };
  onTestFinished(close);
  return {
    writers,
    log,
    apply: (values) => writer.apply(wants(values)),
    replaceAll: (values) => writer.replaceAll(wants(values)),
    close,
  };
}

async function contents(directory: string): Promise<Readonly<Record<string, string>>> {
  const log = await openEmbeddedLog({ directory });
  const all: [string, string][] = [];
  for await (const entries of log.read(SPACE)) {
    for (const { key, value } of entries) if (value) all.push([key.slice(SPACE.length), Buffer.from(value).toString()]);
  }
  await log.close();
  return Object.fromEntries(all.toSorted(([one], [other]) => (one < other ? -1 : 1)));
}

const leads = (contender: Contender) => contender.writers.whenRole("leader", AbortSignal.timeout(10_000));

describe("writers with a lease", () => {
  it("write only where the lease is, and the others remember", async () => {
    const directory = await newDirectory();
    const first = await enter(directory);
    await leads(first);
    const second = await enter(directory);
    await first.replaceAll({ a: "1" });
    await second.replaceAll({ a: "2" });
    expect(await contents(directory)).toEqual({ a: "1" });
    expect([first.writers.role, second.writers.role]).toEqual(["leader", "standby"]);
    expect(first.writers.pendingCount).toBe(0);
    await eventually(() => second.writers.pendingCount === 1);
  });

  it("are taken over within their time when a process hangs, with what it did not write", async () => {
    const directory = await newDirectory();
    const first = await enter(directory);
    await leads(first);
    const second = await enter(directory);
    await first.replaceAll({ a: "1", b: "1" });
    await second.replaceAll({ a: "1", c: "2" });
    first.log.hold();
    const heldMs = performance.now();
    await leads(second);
    await eventually(async () => (await contents(directory))["c"] === "2");
    expect(performance.now() - heldMs).toBeLessThan(10 * TTL_MS);
    expect(await contents(directory)).toEqual({ a: "1", c: "2" });
  });

  it("are taken over at once when a process ends as it should", async () => {
    const directory = await newDirectory();
    // Nobody waits for so long a time: what takes over was told.
    const first = await enter(directory, 600_000);
    await leads(first);
    const second = await enter(directory, 600_000);
    await second.replaceAll({ a: "2" });
    await first.close();
    await leads(second);
    await eventually(async () => (await contents(directory))["a"] === "2");
  });

  it("refuse all that a process writes that was stopped and goes on later", async () => {
    const directory = await newDirectory();
    const first = await enter(directory);
    await leads(first);
    await first.replaceAll({ a: "1" });
    const second = await enter(directory);
    await second.replaceAll({ a: "2" });
    first.log.hold();
    const late = first.apply({ a: "late", b: "late" });
    await leads(second);
    await eventually(async () => (await contents(directory))["a"] === "2");
    first.log.letGo();
    await late;
    await eventually(() => first.writers.role === "standby");
    expect(first.log.appends.flat().filter(({ value }) => value?.toString() === "late")).not.toEqual([]);
    expect(await contents(directory)).toEqual({ a: "2" });
    expect(second.writers.role).toBe("leader");
  });

  it("delete nothing before their source was read completely", async () => {
    const directory = await newDirectory();
    const first = await enter(directory);
    await leads(first);
    await first.replaceAll({ a: "1", b: "1", c: "1" });
    await first.close();
    const second = await enter(directory);
    await second.apply({ a: "2", c: undefined });
    await leads(second);
    await eventually(async () => (await contents(directory))["a"] === "2");
    expect(await contents(directory)).toEqual({ a: "2", b: "1" });
    await second.replaceAll({ a: "2" });
    expect(await contents(directory)).toEqual({ a: "2" });
  });

  it("write nothing when nothing differs, after a restart too", async () => {
    const directory = await newDirectory();
    const first = await enter(directory);
    await leads(first);
    expect(await first.replaceAll({ a: "1", b: "1" })).toEqual({ written: 2, deleted: 0, unchanged: 0 });
    await first.close();
    const second = await enter(directory);
    await leads(second);
    expect(await second.replaceAll({ a: "1", b: "1" })).toEqual({ written: 0, deleted: 0, unchanged: 2 });
    expect(await second.apply({ b: undefined, c: "1" })).toEqual({ written: 1, deleted: 1, unchanged: 0 });
    expect(second.log.appends.flat().filter(({ key }) => key.startsWith(SPACE))).toHaveLength(2);
  });

  it("say when the log has all of a key space, and not before", async () => {
    const directory = await newDirectory();
    const log = await openEmbeddedLog({ directory });
    onTestFinished(() => log.close());
    const first = await enter(directory);
    await leads(first);
    await first.apply({ a: "1" });
    expect(await log.get("complete.route.cc")).toBeUndefined();
    await first.replaceAll({ a: "1", b: "1" });
    const completion = await log.get("complete.route.cc");
    const last = await log.get(`${SPACE}b`);
    expect(completion?.sequence).toBeGreaterThan(last?.sequence ?? Infinity);
  });

  it("repair what somebody else writes into their key space", async () => {
    const directory = await newDirectory();
    const first = await enter(directory);
    await leads(first);
    await first.replaceAll({ a: "1", b: "1" });
    const intruder = await openEmbeddedLog({ directory });
    onTestFinished(() => intruder.close());
    await intruder.append([
      { key: `${SPACE}a`, value: bytes("wrong") },
      { key: `${SPACE}b`, value: undefined },
      { key: `${SPACE}c`, value: bytes("wrong") },
    ]);
    await eventually(async () => {
      expect(await contents(directory)).toEqual({ a: "1", b: "1" });
      return true;
    });
  });

  it("refuse calls on a process that stands by, where clients push, and take the log as it is when they lead again", async () => {
    const directory = await newDirectory();
    const first = await enter(directory, TTL_MS, "refuse");
    await leads(first);
    await first.apply({ a: "1", b: "1" });
    const second = await enter(directory, TTL_MS, "refuse");
    await expect(second.apply({ refused: "2" })).rejects.toMatchObject({ code: "MESH_LEASE_LOST" });
    first.log.hold();
    const late = first.apply({ a: "late" });
    await leads(second);
    await second.apply({ a: "2", b: undefined });
    first.log.letGo();
    await expect(late).rejects.toMatchObject({ code: "MESH_LEASE_LOST" });
    await second.close();
    await leads(first);
    await first.apply({ c: "1" });
    expect(await contents(directory)).toEqual({ a: "2", c: "1" });
  });

  it("never mix: whatever hangs and goes on, the log ends as the last holder wants it", async () => {
    const action = fc.record({
      who: fc.nat(1),
      what: fc.constantFrom("write", "hold", "let go"),
      key: fc.constantFrom("a", "b", "c"),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(action, { minLength: 5, maxLength: 25 }), async (actions) => {
        const directory = await mkdtemp(join(tmpdir(), "mesh-lease-"));
        const both = [await enter(directory, 40), await enter(directory, 40)] as const;
        const wanted = [new Map([["who", "0"]]), new Map([["who", "1"]])] as const;
        await Promise.all(both.map((one, who) => one.replaceAll(Object.fromEntries(wanted[who === 0 ? 0 : 1]))));
        const calls: Promise<unknown>[] = [];
        for (const [step, { who, what, key }] of actions.entries()) {
          const one = both[who === 0 ? 0 : 1];
          if (what === "hold") one.log.hold();
          if (what === "let go") one.log.letGo();
          if (what === "write") {
            const value = `${who}-${step}`;
            wanted[who === 0 ? 0 : 1].set(key, value);
            calls.push(one.apply({ [key]: value }));
          }
          await new Promise((resolve) => setImmediate(resolve));
        }
        for (const one of both) one.log.letGo();
        await Promise.all(calls);
        await eventually(async () => {
          const leader = both.findIndex(({ writers }) => writers.role === "leader");
          const now = await contents(directory);
          expect(now).toEqual(Object.fromEntries([...(wanted[leader] ?? [])].toSorted()));
          return true;
        });
        for (const one of both) await one.close();
        await rm(directory, { recursive: true });
      }),
      { numRuns: 15 },
    );
  });
});
