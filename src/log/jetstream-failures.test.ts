import { cp, mkdtemp, rm } from "node:fs/promises";
import { connect as dial, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "@nats-io/transport-node";
import { jetstreamManager } from "@nats-io/jetstream";
import { describe, expect, it, onTestFinished } from "vitest";
import { eventually } from "../../test/support/eventually.js";
import { startNatsCluster, urlOf } from "../../test/support/nats-cluster.js";
import { type NatsServer, type NatsServerOptions, startNatsServer } from "../emulator/nats/nats-server.js";
import { createLogger, silentLogger } from "../lib/logger.js";
import { completionOf } from "./completion.js";
import { type JetStreamLogOptions, openJetStreamLog } from "./jetstream.js";
import { openLeasedWriters } from "./leased-writers.js";
import type { LogBatch, MeshLog, Write } from "./log.js";
import { openMirror } from "./mirror.js";

const STREAM = "mesh";
const UNAVAILABLE = { code: "MESH_LOG_UNAVAILABLE" };

async function startServer(options: NatsServerOptions = {}): Promise<NatsServer> {
  const server = await startNatsServer({ ...options, settings: { jetstream: { store_dir: "jetstream" } } });
  onTestFinished(() => server.close());
  return server;
}

async function openForTest(
  servers: readonly string[],
  options: Partial<JetStreamLogOptions> = {},
): Promise<MeshLog & { readonly said: readonly string[] }> {
  const said: string[] = [];
  const logger = createLogger("info", { write: (line) => said.push(line) });
  const log = await openJetStreamLog({ servers, stream: STREAM, replicas: 1, logger, ...options });
  onTestFinished(() => log.close());
  return Object.assign(log, { said });
}

const put = (key: string, value = "1"): Write => ({ key, value: Buffer.from(value) });
const puts = (keySpace: string, count: number, value = "1") =>
  Array.from({ length: count }, (_, index) => put(`${keySpace}${index}`, value));

async function deleteStream(server: NatsServer): Promise<void> {
  const nats = await connect({ servers: urlOf(server) });
  await (await jetstreamManager(nats)).streams.delete(STREAM);
  await nats.close();
}

/** Keeps what the log says, as a router does: what it once served goes only when the log says so. */
function serveFrom(log: Pick<MeshLog, "follow">) {
  const ending = new AbortController();
  const served = new Map<string, string>();
  const faults: string[] = [];
  const sequences: number[] = [];
  let sequence = 0;
  let seen: Set<string> | undefined;
  let beginnings = 0;
  let leastCount = 0;

  function take({ entries, caughtUp, fromStart }: LogBatch): void {
    if (fromStart) {
      seen = new Set();
      beginnings += 1;
    }
    for (const { key, value, ...entry } of entries) {
      sequences.push(entry.sequence);
      seen?.add(key);
      if (value) served.set(key, Buffer.from(value).toString());
      else served.delete(key);
    }
    if (!seen) sequence = entries.at(-1)?.sequence ?? sequence;
    if (seen && caughtUp) {
      for (const key of [...served.keys()]) if (!seen.has(key)) served.delete(key);
      sequence = sequences.at(-1) ?? 0;
      seen = undefined;
    }
    leastCount = Math.min(leastCount, served.size);
  }
  const ended = (async () => {
    while (!ending.signal.aborted) {
      try {
        for await (const batch of log.follow(sequence, ending.signal)) take(batch);
      } catch (error) {
        faults.push(String(error));
        seen = undefined;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  })();
  onTestFinished(async () => {
    ending.abort();
    await ended;
  });
  return {
    served,
    faults,
    sequences,
    /** How often the log was read anew. */
    get beginnings() {
      return beginnings;
    },
    /** The fewest entries that were served since the last call. */
    leastServed() {
      const least = leastCount;
      leastCount = served.size;
      return least;
    },
  };
}

describe("JetStream log, while its server dies", () => {
  it("keeps what it acknowledged through kill -9, and goes on with the same sequences", async () => {
    const server = await startServer();
    const log = await openForTest([urlOf(server)]);
    const router = serveFrom(log);
    const id = await log.id();
    let acknowledged = 0;
    for (let round = 0; round < 4; round += 1) {
      for (let batch = 0; batch < 3; batch += 1) {
        const last = await log.append(puts(`a.${round}.${batch}.`, 50));
        expect(last).toBe(acknowledged + 50);
        acknowledged = last;
      }
      await server.stop("SIGKILL");
      await expect(log.append([put("a.down")])).rejects.toMatchObject(UNAVAILABLE);
      await expect(log.get("a.0.0.0")).rejects.toMatchObject(UNAVAILABLE);
      await server.start();
    }
    await eventually(async () => (await log.lastSequence()) === acknowledged);
    expect(await log.id()).toBe(id);
    expect(await log.append([put("a.last")])).toBe(acknowledged + 1);
    await eventually(() => router.served.has("a.last"));
    expect(router.sequences).toEqual(Array.from({ length: acknowledged + 1 }, (_, index) => index + 1));
    expect(router.beginnings).toBe(0);
  });

  it("tells a follower what came while the server did not answer, and nothing twice", async () => {
    const server = await startServer();
    const router = serveFrom(await openForTest([urlOf(server)]));
    const writer = await openForTest([urlOf(server)]);
    await writer.append(puts("a.", 10));
    await eventually(() => router.served.size === 10);
    server.pause();
    await eventually(() => router.faults.length > 0);
    server.resume();
    await eventually(() => writer.append(puts("b.", 10)));
    await eventually(() => router.served.size === 20);
    expect(router.sequences).toEqual(Array.from({ length: 20 }, (_, index) => index + 1));
  });
});

describe("JetStream log, whose answers are lost", () => {
  it("writes a batch once whose acknowledgement never came", async () => {
    const server = await startServer();
    const cutter = await startCutter(server);
    const log = await openForTest([cutter.url]);
    await log.append([put("a.x", "1")]);
    for (let round = 0; round < 5; round += 1) {
      const before = await log.lastSequence();
      cutter.cutAtAcknowledgement();
      expect(await log.append([put(`a.${round}`), put("a.x", `${round}`), put(`a.${round}`)])).toBe(before + 3);
      expect(cutter.cuts).toBe(round + 1);
      expect(await log.lastSequence()).toBe(before + 3);
    }
  });

  it("takes its own write for no conflict when a conditional batch's acknowledgement never came", async () => {
    const server = await startServer();
    const cutter = await startCutter(server);
    const log = await openForTest([cutter.url]);
    let sequence = await log.append([put("lease.x")]);
    for (let round = 0; round < 5; round += 1) {
      cutter.cutAtAcknowledgement();
      const writes = [{ ...put("lease.x"), expectedSequence: sequence }, put("a.x"), put("a.y")];
      expect(await log.append(writes)).toBe(sequence + 3);
      sequence += 1;
      expect((await log.get("lease.x"))?.sequence).toBe(sequence);
      sequence = await log.append([{ ...put("lease.x"), expectedSequence: sequence }]);
    }
    const stale = [put("a.z"), { ...put("lease.x"), expectedSequence: sequence - 1 }];
    await expect(log.append(stale)).rejects.toMatchObject({ code: "MESH_LOG_CONFLICT" });
  });
});

describe("JetStream log, that becomes another one", () => {
  const FIRST = [...puts("route.cc.", 100), ...puts("process.bbs.", 100)];
  const COMPLETE = [completionOf("route.cc."), completionOf("process.bbs.")];

  it("tells each follower that its stream was made anew, though it has more entries by then", async () => {
    const server = await startServer();
    const writer = await openForTest([urlOf(server)]);
    const log = await openForTest([urlOf(server)]);
    const followers = [serveFrom(log), serveFrom(log)];
    await writer.append(puts("a.", 10));
    for (const { served } of followers) await eventually(() => served.size === 10);
    const id = await writer.id();
    await deleteStream(server);
    for (const { faults } of followers) {
      await eventually(() => faults.some((fault) => fault.includes("the stream is gone")));
    }
    await writer.append(puts("b.", 20));
    expect(await writer.id()).not.toBe(id);
    for (const follower of followers) {
      await eventually(() => follower.served.size === 20 && !follower.served.has("a.0"));
      expect(follower.beginnings).toBe(1);
    }
    expect(writer.said.some((line) => line.includes("there was no stream"))).toBe(true);
    expect(log.said.some((line) => line.includes("the mesh log is another one"))).toBe(true);
  });

  it("drops no entry that a router serves when its stream is deleted: its writer fills the new one", async () => {
    const server = await startServer();
    const options = { lease: "syncer", holder: "one", logger: silentLogger };
    const writers = await openLeasedWriters(await openForTest([urlOf(server)]), { "route.cc.": "remember" }, options);
    onTestFinished(() => writers.close());
    await writers.whenRole("leader", AbortSignal.timeout(10_000));
    const writer = writers.writer("route.cc.");
    await writer.replaceAll(puts("route.cc.", 2_000));
    const directory = await mkdtemp(join(tmpdir(), "mesh-log-mirror-"));
    const log = await openForTest([urlOf(server)]);
    const mirror = await openMirror({ directory, log, logger: silentLogger });
    onTestFinished(async () => {
      await mirror.close();
      await rm(directory, { recursive: true });
    });
    const router = serveFrom(mirror);
    await eventually(() => router.served.size >= 2_001);
    const id = await log.id();
    router.leastServed();

    await deleteStream(server);
    await eventually(async () => (await log.id()) !== id, 20_000);
    await eventually(async () => {
      const again = await readOnce(log, 0);
      return again.keys.filter((key) => key.startsWith("route.cc.")).length === 2_000;
    }, 20_000);
    await writer.apply([put("route.cc.new"), { key: "route.cc.0", value: undefined }]);
    await eventually(() => router.served.has("route.cc.new") && !router.served.has("route.cc.0"));
    expect(router.leastServed()).toBeGreaterThanOrEqual(2_000);
  });

  it.each([
    ["shorter than what a reader knows", 0],
    ["and grown past what a reader knows", 300],
  ])("notices that it was restored from a backup, %s, and drops what came after the backup", async (_, growth) => {
    const directory = await mkdtemp(join(tmpdir(), "mesh-log-restore-"));
    onTestFinished(() => rm(directory, { recursive: true }));
    const files = join(directory, "server");
    const backup = join(directory, "backup");
    const server = await startServer({ directory: files });
    const writer = await openForTest([urlOf(server)]);
    const log = await openForTest([urlOf(server)]);
    await writer.append([...FIRST, ...COMPLETE]);
    await server.stop();
    await cp(join(files, "jetstream"), backup, { recursive: true });
    await server.start();
    await eventually(() => writer.append(puts("registration.nats.", 50)));
    const before = await readOnce(log, 0);
    expect(before.keys).toHaveLength(252);

    await server.stop();
    await rm(join(files, "jetstream"), { recursive: true });
    await cp(backup, join(files, "jetstream"), { recursive: true });
    await server.start();
    const afterwards = await openForTest([urlOf(server)]);
    const id = await afterwards.id();
    if (growth > 0) await afterwards.append(puts("route.cc.", growth, "2"));

    const again = await readOnce(log, before.sequence);
    expect(again.fromStart).toBe(true);
    expect(again.keys.some((key) => key.startsWith("registration."))).toBe(false);
    expect(await log.id()).not.toBe(id);
    expect(log.said.some((line) => line.includes("went back in time"))).toBe(true);
    expect((await readOnce(log, again.sequence)).fromStart).toBe(false);
  });

  it("goes on without a word when it is the same log, however long a reader was away", async () => {
    const server = await startServer();
    const log = await openForTest([urlOf(server)]);
    await log.append(puts("a.", 50));
    const { sequence } = await readOnce(log, 0);
    await server.stop("SIGKILL");
    await server.start();
    const writer = await openForTest([urlOf(server)]);
    for (let round = 0; round < 5; round += 1) await writer.append([put("a.x", `${round}`)]);
    const again = await readOnce(log, sequence);
    expect(again).toMatchObject({ fromStart: false, keys: ["a.x"] });
  });
});

describe("JetStream log on a cluster", () => {
  it("loses nothing and writes nothing twice when the stream's leader is killed", { timeout: 90_000 }, async () => {
    const cluster = await startNatsCluster();
    onTestFinished(() => cluster.close());
    const options = { replicas: 3 };
    const log = await openForTest(cluster.urls, options);
    const router = serveFrom(await openForTest(cluster.urls, options));
    const written = new Map<string, string>();
    const ending = new AbortController();
    let doubtful = 0;
    const writing = (async () => {
      for (let count = 0; !ending.signal.aborted; count += 1) {
        const keys = [`a.${count}`, `b.${count}`, "c.x"];
        // A writer reads before it tries again: here it writes the same again.
        for (;;) {
          const error = await log.append(keys.map((key) => put(key, `${count}`))).catch((thrown: unknown) => thrown);
          if (typeof error === "number") break;
          doubtful += 1;
        }
        for (const key of keys) written.set(key, `${count}`);
      }
    })();
    await eventually(() => router.served.size > 100);
    const leader = await cluster.leaderOf(STREAM);
    await leader.stop("SIGKILL");
    const killed = written.size;
    await eventually(() => written.size > killed + 100, 60_000);
    ending.abort();
    await writing;
    await eventually(() => router.served.size === written.size, 30_000);
    expect(router.served).toEqual(written);
    expect(router.sequences).toEqual(router.sequences.toSorted((a, b) => a - b));
    expect(new Set(router.sequences).size).toBe(router.sequences.length);
    if (doubtful === 0) expect(await log.lastSequence()).toBe((written.size - 1) * 1.5);
    expect(router.beginnings).toBe(0);
  });
});

/** Reads up to the end once. */
async function readOnce(log: MeshLog, after: number) {
  const keys: string[] = [];
  let sequence = after;
  let fromStart = false;
  const signal = new AbortController().signal;
  for await (const batch of log.follow(after, signal)) {
    fromStart ||= batch.fromStart;
    keys.push(...batch.entries.map(({ key }) => key));
    sequence = batch.entries.at(-1)?.sequence ?? sequence;
    if (batch.caughtUp) break;
  }
  return { keys, sequence, fromStart };
}

/** A way to the server that can break off after a batch was acknowledged, and before its writer hears of it. */
async function startCutter({ host, port }: NatsServer) {
  const sockets = new Set<Socket>();
  let isArmed = false;
  let cuts = 0;
  const cutter = createServer((client) => {
    const server = dial(port, host);
    const both = [client, server];
    for (const socket of both) {
      sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => {
        for (const other of both) other.destroy();
        sockets.delete(socket);
      });
    }
    client.on("data", (bytes) => server.write(bytes));
    server.on("data", (bytes) => {
      if (isArmed && bytes.includes('"batch":')) {
        isArmed = false;
        cuts += 1;
        client.destroy();
        return;
      }
      client.write(bytes);
    });
  });
  await new Promise<void>((resolve) => cutter.listen(0, "127.0.0.1", resolve));
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => cutter.close(resolve));
  });
  const address = cutter.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return {
    url: `nats://127.0.0.1:${address.port}`,
    get cuts() {
      return cuts;
    },
    cutAtAcknowledgement() {
      isArmed = true;
    },
  };
}
