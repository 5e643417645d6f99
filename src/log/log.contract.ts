import { setImmediate as nextTurn } from "node:timers/promises";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type LogBatch, type LogEntry, MAX_BATCH_WRITES, MAX_VALUE_BYTES, type MeshLog, type Write } from "./log.js";

/** An empty log of an implementation, for one test. */
export interface LogUnderTest {
  /** Opens the log once more, as a process of its own would: what one handle writes the others see. */
  connect(): Promise<MeshLog>;
  /** Makes the log forget all deletions up to now. */
  forgetDeletions(): Promise<void>;
  /** Closes all that is open, and leaves nothing behind. */
  stop(): Promise<void>;
}

const text = (value: Uint8Array | undefined) => value && Buffer.from(value).toString();
const put = (key: string, value: string, expectedSequence?: number): Write => ({
  key,
  value: Buffer.from(value),
  ...(expectedSequence !== undefined && { expectedSequence }),
});
const remove = (key: string): Write => ({ key, value: undefined });
/** "key=value@sequence", and "key@sequence" for a delete marker. */
const told = ({ key, value, sequence }: LogEntry) =>
  value ? `${key}=${Buffer.from(value).toString()}@${sequence}` : `${key}@${sequence}`;

async function readAll(log: MeshLog, prefix?: string): Promise<LogEntry[]> {
  const all: LogEntry[] = [];
  for await (const entries of log.read(prefix)) all.push(...entries);
  return all;
}

/** All batches up to the first that is caught up. */
async function catchUp(log: MeshLog, afterSequence: number): Promise<LogBatch[]> {
  const batches: LogBatch[] = [];
  for await (const batch of log.follow(afterSequence, new AbortController().signal)) {
    batches.push(batch);
    if (batch.caughtUp) break;
  }
  return batches;
}

/** How often others had their turn of the event loop until the work was done. */
async function turnsDuring(work: Promise<unknown>): Promise<number> {
  const done = work.then(() => true);
  let turns = 0;
  while (!(await Promise.race([done, nextTurn(false)]))) turns += 1;
  return turns;
}

/** A follower that is asked for its batches one by one. */
function following(log: MeshLog, afterSequence: number) {
  const ending = new AbortController();
  const batches = log.follow(afterSequence, ending.signal)[Symbol.asyncIterator]();
  return {
    end: () => ending.abort(),
    next: () => batches.next(),
    /** Reads on until `count` entries came. */
    async entries(count: number): Promise<string[]> {
      const entries: string[] = [];
      while (entries.length < count) {
        const result = await batches.next();
        if (result.done === true) throw new Error(`it ended after ${entries.length} entries`);
        entries.push(...result.value.entries.map(told));
      }
      return entries;
    },
  };
}

/** What every implementation of the mesh log promises. */
export function describeMeshLog(name: string, start: () => Promise<LogUnderTest>): void {
  describe(name, () => {
    let under: LogUnderTest;
    let log: MeshLog;
    beforeEach(async () => {
      under = await start();
      log = await under.connect();
    });
    afterEach(() => under.stop());

    describe("append", () => {
      it("gives consecutive sequences, from 1 on", async () => {
        expect(await log.lastSequence()).toBe(0);
        expect(await log.append([put("a.x", "1"), put("a.y", "2")])).toBe(2);
        expect(await log.append([put("a.x", "3")])).toBe(3);
        expect((await readAll(log)).map(told)).toEqual(["a.y=2@2", "a.x=3@3"]);
      });

      it("keeps the order of calls that do not wait for each other", async () => {
        const calls = ["1", "2", "3", "4"].map((value) => log.append([put("a.x", value), put("b.x", value)]));
        expect(await Promise.all(calls)).toEqual([2, 4, 6, 8]);
        expect(text((await log.get("a.x"))?.value)).toBe("4");
      });

      it("lets the later of two writes to one key in a batch stand", async () => {
        expect(await log.append([put("a.x", "1"), put("a.x", "2"), remove("a.y"), put("a.y", "3")])).toBe(4);
        expect((await readAll(log)).map(told)).toEqual(["a.x=2@2", "a.y=3@4"]);
      });

      it("answers an empty batch with the last sequence, and writes nothing", async () => {
        await log.append([put("a.x", "1")]);
        expect(await log.append([])).toBe(1);
        expect(await log.lastSequence()).toBe(1);
      });

      it("takes any bytes as a value, none and 1 MB included", async () => {
        const bytes = Uint8Array.from({ length: 256 }, (_, index) => index);
        const large = new Uint8Array(MAX_VALUE_BYTES).fill(7);
        await log.append([
          { key: "any", value: bytes },
          { key: "none", value: new Uint8Array() },
        ]);
        await log.append([{ key: "large", value: large }]);
        expect(Uint8Array.from((await log.get("any"))?.value ?? [])).toEqual(bytes);
        expect((await log.get("none"))?.value).toHaveLength(0);
        expect(Buffer.compare((await log.get("large"))?.value ?? new Uint8Array(), large)).toBe(0);
        expect((await readAll(log)).map(({ key }) => key)).toEqual(["any", "none", "large"]);
      });

      it("keeps the value as it was at the call, whatever becomes of the caller's buffer", async () => {
        const value = Buffer.from("before");
        const appended = log.append([{ key: "a.x", value }]);
        value.write("behind");
        await appended;
        expect(text((await log.get("a.x"))?.value)).toBe("before");
      });

      it(`takes ${MAX_BATCH_WRITES} writes as one`, async () => {
        const writes = Array.from({ length: MAX_BATCH_WRITES }, (_, index) => put(`a.${index}`, `${index}`));
        expect(await log.append(writes)).toBe(MAX_BATCH_WRITES);
        expect(await readAll(log)).toHaveLength(MAX_BATCH_WRITES);
      });

      it("refuses a larger value, and all of its batch", async () => {
        const large = new Uint8Array(MAX_VALUE_BYTES + 1);
        await expect(log.append([put("a.x", "1"), { key: "a.large", value: large }])).rejects.toThrow("a.large");
        expect(await log.lastSequence()).toBe(0);
      });

      it.each(["", ".", "a.", ".a", "a..b", "a b", "a.*", "a.>", "ä", "a\n", "x".repeat(1_025)])(
        "refuses the key %j, and all of its batch",
        async (key) => {
          await expect(log.append([put("a.x", "1"), put(key, "2")])).rejects.toThrow(
            `bad key ${JSON.stringify(key.slice(0, 1_024))}`,
          );
          expect(await log.lastSequence()).toBe(0);
        },
      );
    });

    describe("expected sequences", () => {
      it("let a write through when the key's last write is the expected one", async () => {
        const sequence = await log.append([put("a.x", "1")]);
        expect(await log.append([put("a.x", "2", sequence)])).toBe(2);
      });

      it("refuse all of a batch for one key that was written since", async () => {
        const sequence = await log.append([put("a.x", "1")]);
        await log.append([put("a.x", "2")]);
        await expect(log.append([put("a.y", "3"), put("a.x", "3", sequence)])).rejects.toMatchObject({
          code: "MESH_LOG_CONFLICT",
        });
        expect((await readAll(log)).map(told)).toEqual(["a.x=2@2"]);
      });

      it("take 0 for a key without a value: never written, or deleted", async () => {
        await log.append([put("a.x", "1", 0)]);
        await expect(log.append([put("a.x", "2", 0)])).rejects.toMatchObject({ code: "MESH_LOG_CONFLICT" });
        await log.append([remove("a.x")]);
        expect(await log.append([put("a.x", "3", 0)])).toBe(3);
      });

      it("let one of many win that try at once over different handles", async () => {
        const logs = [log, await under.connect(), await under.connect()];
        const tries = [0, 1, 2, 3, 4, 5].map((index) => (logs[index % 3] ?? log).append([put("a.x", `${index}`, 0)]));
        const results = await Promise.allSettled(tries);
        expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
        expect(await log.lastSequence()).toBe(1);
      });
    });

    describe("get and read", () => {
      it("know no key that was never written, or is deleted", async () => {
        await log.append([put("a.x", "1"), remove("a.x")]);
        expect(await log.get("a.x")).toBeUndefined();
        expect(await log.get("a.y")).toBeUndefined();
        expect(await readAll(log)).toEqual([]);
      });

      it("tell current entries of a prefix alone, in the order of their sequences", async () => {
        await log.append([put("a.x", "1"), put("b.x", "2"), put("a.y", "3"), put("ab.x", "4"), put("a.x", "5")]);
        expect((await readAll(log, "a.")).map(told)).toEqual(["a.y=3@3", "a.x=5@5"]);
        expect((await readAll(log, "c.")).map(told)).toEqual([]);
      });

      it("see what another handle wrote", async () => {
        const other = await under.connect();
        await log.append([put("a.x", "1")]);
        expect(text((await other.get("a.x"))?.value)).toBe("1");
        await other.append([put("a.x", "2"), put("a.y", "3")]);
        expect(text((await log.get("a.x"))?.value)).toBe("2");
        await other.append([remove("a.x")]);
        expect(await log.get("a.x")).toBeUndefined();
        expect(await log.lastSequence()).toBe(4);
      });
    });

    describe("follow", () => {
      it("begins with one empty batch that is caught up, when there is nothing to tell", async () => {
        expect(await catchUp(log, 0)).toEqual([{ entries: [], caughtUp: true, fromStart: false }]);
        const sequence = await log.append([put("a.x", "1")]);
        expect(await catchUp(log, sequence)).toEqual([{ entries: [], caughtUp: true, fromStart: false }]);
      });

      it("tells what came after a sequence, deletions too", async () => {
        const sequence = await log.append([put("a.x", "1"), put("a.y", "2")]);
        await log.append([put("a.z", "3"), remove("a.x"), put("a.z", "4")]);
        const [batch] = await catchUp(log, sequence);
        expect(batch?.entries.map(told)).toEqual(["a.x@4", "a.z=4@5"]);
        expect(batch).toMatchObject({ caughtUp: true, fromStart: false });
      });

      it("tells new writes as they come, its own handle's and others'", async () => {
        const other = await under.connect();
        const follower = following(log, 0);
        await follower.next();
        await log.append([put("a.x", "1")]);
        expect(await follower.entries(1)).toEqual(["a.x=1@1"]);
        const waiting = follower.entries(2);
        await other.append([put("a.y", "2"), remove("a.x")]);
        expect(await waiting).toEqual(["a.y=2@2", "a.x@3"]);
        follower.end();
      });

      it("tells every follower, each at its own pace", async () => {
        const slow = following(log, 0);
        const quick = following(log, 0);
        await slow.next();
        await quick.next();
        for (const value of ["1", "2", "3"]) {
          await log.append([put(`a.${value}`, value)]);
          expect(await quick.entries(1)).toEqual([`a.${value}=${value}@${value}`]);
        }
        expect(await slow.entries(3)).toEqual(["a.1=1@1", "a.2=2@2", "a.3=3@3"]);
        slow.end();
        quick.end();
      });

      it("tells a long log in bounded pieces, of which the last alone is caught up", async () => {
        for (let at = 0; at < 12_000; at += 800) {
          await log.append(Array.from({ length: 800 }, (_, index) => put(`a.${at + index}`, "1")));
        }
        const batches = await catchUp(log, 0);
        expect(batches.length).toBeGreaterThan(2);
        expect(Math.max(...batches.map(({ entries }) => entries.length))).toBeLessThanOrEqual(5_000);
        expect(batches.map(({ caughtUp }) => caughtUp).indexOf(true)).toBe(batches.length - 1);
        const sequences = batches.flatMap(({ entries }) => entries.map(({ sequence }) => sequence));
        expect(sequences).toEqual(Array.from({ length: 12_000 }, (_, index) => index + 1));
      });

      it("lets others have their turn between the pieces of a long log", async () => {
        for (let at = 0; at < 12_000; at += 800) {
          await log.append(Array.from({ length: 800 }, (_, index) => put(`a.${at + index}`, "1")));
        }
        const reading = catchUp(log, 0);
        const turns = await turnsDuring(reading);
        const batches = await reading;
        expect(turns).toBeGreaterThanOrEqual(batches.length - 1);
      });

      it("begins anew for a reader that may have missed deletions", async () => {
        const sequence = await log.append([put("a.x", "1"), put("a.y", "2")]);
        await log.append([remove("a.x")]);
        await under.forgetDeletions();
        const [batch] = await catchUp(log, sequence);
        expect(batch?.fromStart).toBe(true);
        expect(batch?.entries.map(told)[0]).toBe("a.y=2@2");
        expect(batch?.entries.some(({ key }) => key === "a.x")).toBe(false);
      });

      it("begins anew for a follower that slept through a deletion and its forgetting", async () => {
        await log.append([put("a.x", "1")]);
        const follower = following(log, 0);
        await follower.next();
        await log.append([remove("a.x")]);
        await under.forgetDeletions();
        expect(await follower.next()).toMatchObject({ done: false, value: { fromStart: true } });
        follower.end();
      });

      it("does not begin anew for who heard of the forgotten deletions, or starts at 0", async () => {
        for (let at = 0; at < 6_000; at += MAX_BATCH_WRITES) {
          await log.append(Array.from({ length: MAX_BATCH_WRITES }, (_, index) => put(`a.${at + index}`, "1")));
        }
        await log.append([put("a.x", "1")]);
        const sequence = await log.append([remove("a.x")]);
        await under.forgetDeletions();
        expect((await catchUp(log, sequence)).some(({ fromStart }) => fromStart)).toBe(false);
        expect((await catchUp(log, 0)).some(({ fromStart }) => fromStart)).toBe(false);
      });

      it("begins anew for a reader that is ahead of the log: it knew another one", async () => {
        await log.append([put("a.x", "1")]);
        const [batch] = await catchUp(log, 1_000);
        expect(batch?.entries.map(told)).toEqual(["a.x=1@1"]);
        expect(batch).toMatchObject({ caughtUp: true, fromStart: true });
      });

      it("begins anew for a reader whose sequence is of another log", async () => {
        await log.append([put("a.x", "1"), put("a.y", "2")]);
        const { signal } = new AbortController();
        const id = await log.id();
        for await (const batch of log.follow(1, signal, { logId: id })) {
          expect(batch.entries.map(told)).toEqual(["a.y=2@2"]);
          break;
        }
        for await (const batch of log.follow(1, signal, { logId: `not ${id}` })) {
          expect(batch.entries.map(told)).toEqual(["a.x=1@1", "a.y=2@2"]);
          expect(batch).toMatchObject({ caughtUp: true, fromStart: true });
          break;
        }
      });

      it("tells of a prefix alone, and that this is all", async () => {
        for (let at = 0; at < 6_000; at += 1_000) {
          await log.append(Array.from({ length: 1_000 }, (_, index) => put(`a.${at + index}`, "1")));
        }
        await log.append([put("b.x", "1"), put("b", "2"), remove("b.x"), put("bb.x", "3"), put("a.1", "4")]);
        const ending = new AbortController();
        const batches: LogBatch[] = [];
        for await (const batch of log.follow(0, ending.signal, { prefix: "b." })) {
          batches.push(batch);
          if (batch.entries.some(({ key }) => key === "b.y")) ending.abort();
          else if (batch.caughtUp) await log.append([put("a.2", "5"), put("b.y", "6")]);
        }
        expect(batches.flatMap(({ entries }) => entries.map(told))).toEqual(["b.x@6003", "b.y=6@6007"]);
      });

      it("ends without an error when its signal aborts, waiting or not", async () => {
        const follower = following(log, 0);
        await follower.next();
        const waiting = follower.next();
        follower.end();
        expect(await waiting).toEqual({ done: true, value: undefined });
        const aborted = following(log, 0);
        aborted.end();
        expect(await aborted.next()).toEqual({ done: true, value: undefined });
      });
    });

    describe("id", () => {
      it("is the same over every handle, and stays", async () => {
        const id = await log.id();
        await log.append([put("a.x", "1")]);
        expect(await log.id()).toBe(id);
        expect(await (await under.connect()).id()).toBe(id);
      });
    });

    describe("close", () => {
      it("ends followers without an error", async () => {
        const follower = following(log, 0);
        await follower.next();
        const waiting = follower.next();
        await log.close();
        expect(await waiting).toEqual({ done: true, value: undefined });
      });

      it("lets what is being appended come to its end", async () => {
        const appended = log.append([put("a.x", "1")]);
        await log.close();
        expect(await appended).toBe(1);
        expect((await readAll(await under.connect())).map(told)).toEqual(["a.x=1@1"]);
      });

      it("makes every later call fail with MESH_LOG_UNAVAILABLE, but a second close", async () => {
        await log.close();
        await log.close();
        const unavailable = { code: "MESH_LOG_UNAVAILABLE" };
        await expect(log.append([put("a.x", "1")])).rejects.toMatchObject(unavailable);
        await expect(log.get("a.x")).rejects.toMatchObject(unavailable);
        await expect(log.lastSequence()).rejects.toMatchObject(unavailable);
        await expect(log.id()).rejects.toMatchObject(unavailable);
        await expect(readAll(log)).rejects.toMatchObject(unavailable);
        await expect(catchUp(log, 0)).rejects.toMatchObject(unavailable);
      });

      it("keeps entries, delete markers and sequences for who opens the log again", async () => {
        await log.append([put("a.x", "1"), put("a.y", "2")]);
        await log.append([remove("a.x"), remove("a.y")]);
        await log.close();
        const again = await under.connect();
        expect((await catchUp(again, 2)).flatMap(({ entries }) => entries.map(told))).toEqual(["a.x@3", "a.y@4"]);
        await under.forgetDeletions();
        const last = await again.lastSequence();
        expect(await again.append([put("a.x", "3")])).toBe(last + 1);
      });
    });

    it("is a map with a history: any writes, over any handle, read back in any way", async () => {
      const write = fc.record({
        key: fc.constantFrom("a.1", "a.2", "b.1", "b.2", "b.3"),
        value: fc.option(fc.uint8Array({ maxLength: 20 }), { nil: undefined }),
      });
      const step = fc.record({ handle: fc.nat({ max: 1 }), writes: fc.array(write, { maxLength: 6 }) });
      const logs = [log, await under.connect()];
      const expected = new Map<string, LogEntry>();
      let sequence = 0;
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 8 }), async (steps) => {
          const before = sequence;
          for (const { handle, writes } of steps) {
            for (const { key, value } of writes) {
              sequence += 1;
              expected.delete(key);
              expected.set(key, { key, sequence, value });
            }
            expect(await logs[handle]?.append(writes)).toBe(sequence);
          }
          const entries = [...expected.values()];
          const since = (await catchUp(log, before)).flatMap((batch) => batch.entries.map(told));
          expect(since).toEqual(entries.filter((entry) => entry.sequence > before).map(told));
          const current = entries.filter(({ value }) => value !== undefined);
          expect((await readAll(logs[1] ?? log)).map(told)).toEqual(current.map(told));
          for (const { key, value } of entries) expect(text((await log.get(key))?.value)).toEqual(text(value));
        }),
        { numRuns: 30 },
      );
    });
  });
}
