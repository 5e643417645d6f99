import { randomUUID } from "node:crypto";
import { createServer, type Server } from "node:net";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, headers } from "@nats-io/transport-node";
import { DiscardPolicy, jetstreamManager, type StreamConfig } from "@nats-io/jetstream";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { eventually } from "../../test/support/eventually.js";
import { freePort } from "../../test/support/free-port.js";
import { urlOf } from "../../test/support/nats-cluster.js";
import { createCertificates } from "../emulator/certificates.js";
import { type NatsServer, startNatsServer } from "../emulator/nats/nats-server.js";
import { createLogger } from "../lib/logger.js";
import { type JetStreamLogOptions, openJetStreamLog } from "./jetstream.js";
import { describeMeshLog } from "./log.contract.js";
import { MAX_BATCH_WRITES, MAX_VALUE_BYTES, type MeshLog } from "./log.js";

const UNAVAILABLE = { code: "MESH_LOG_UNAVAILABLE" };
const JETSTREAM = { jetstream: { store_dir: "jetstream" } };

let server: NatsServer;
beforeAll(async () => {
  server = await startNatsServer({ settings: JETSTREAM });
});
afterAll(() => server.close());

describeMeshLog("JetStream log", () => {
  const logs: MeshLog[] = [];
  const options = { servers: [urlOf(server)], stream: `mesh-${randomUUID()}`, replicas: 1, deleteMarkerTtlMs: 1_000 };
  const connectLog = async () => {
    const log = await openJetStreamLog(options);
    logs.push(log);
    return log;
  };
  return Promise.resolve({
    connect: connectLog,
    async forgetDeletions() {
      const log = await connectLog();
      // A server drops an expired marker some time after it is due.
      await eventually(async () => {
        for await (const { entries } of log.follow(0, new AbortController().signal)) {
          return entries.every(({ value }) => value !== undefined);
        }
        return false;
      });
    },
    async stop() {
      await Promise.all(logs.map((log) => log.close()));
    },
  });
});

const newStream = () => `mesh-${randomUUID()}`;

async function openForTest(options: Partial<JetStreamLogOptions> = {}): Promise<MeshLog> {
  const log = await openJetStreamLog({ servers: [urlOf(server)], stream: newStream(), replicas: 1, ...options });
  onTestFinished(() => log.close());
  return log;
}

const put = (key: string, value: string) => ({ key, value: Buffer.from(value) });

/** JetStream as an operator uses it. */
async function manage(): Promise<Awaited<ReturnType<typeof jetstreamManager>>> {
  const nats = await connect({ servers: urlOf(server) });
  onTestFinished(() => nats.close());
  return jetstreamManager(nats);
}

describe("JetStream log, opened", () => {
  it("makes a stream that keeps one message per key, on disk, and refuses rather than forgets", async () => {
    const stream = newStream();
    await openForTest({ stream, deleteMarkerTtlMs: 60_000, maxBytes: 1_000_000 });
    const { config } = await (await manage()).streams.info(stream);
    expect(config).toMatchObject({
      subjects: [`${stream}.>`],
      storage: "file",
      discard: "new",
      max_msgs_per_subject: 1,
      max_bytes: 1_000_000,
      num_replicas: 1,
      allow_atomic: true,
      allow_msg_ttl: true,
      subject_delete_marker_ttl: 60_000_000_000,
    });
  });

  it("is one log for all that open it at once", async () => {
    const stream = newStream();
    const logs = await Promise.all([1, 2, 3, 4].map(() => openForTest({ stream })));
    expect(new Set(await Promise.all(logs.map((log) => log.id()))).size).toBe(1);
  });

  it.each<[keyof StreamConfig, Partial<StreamConfig>]>([
    ["max_msgs_per_subject", { max_msgs_per_subject: -1 }],
    ["discard", { discard: DiscardPolicy.Old }],
    ["allow_atomic", { allow_atomic: false }],
    ["max_age", { max_age: 86_400_000_000_000 }],
    ["subjects", { subjects: ["elsewhere.>"] }],
    ["subject_delete_marker_ttl", { subject_delete_marker_ttl: 0 }],
  ])("refuses a stream whose %s was changed, names it, and leaves it as it is", async (name, change) => {
    const stream = newStream();
    const log = await openForTest({ stream });
    await log.append([put("a.x", "1")]);
    const manager = await manage();
    const { config } = await manager.streams.update(stream, change);

    const opened = await openForTest({ stream });
    const refusal = { ...UNAVAILABLE, message: expect.stringContaining(`${name} is `) as string };
    await expect(opened.append([put("a.x", "2")])).rejects.toMatchObject(refusal);
    await expect(opened.get("a.x")).rejects.toMatchObject(refusal);
    await expect(opened.follow(0, new AbortController().signal)[Symbol.asyncIterator]().next()).rejects.toMatchObject(
      refusal,
    );
    expect((await manager.streams.info(stream)).config).toEqual(config);
  });

  it("names every setting that is wrong at once", async () => {
    const stream = newStream();
    await (await manage()).streams.add({ name: stream, subjects: [`${stream}.>`] });
    const log = await openForTest({ stream });
    const error = await log.lastSequence().catch(String);
    for (const name of ["discard", "max_msgs_per_subject", "allow_atomic", "allow_msg_ttl"]) {
      expect(error).toContain(`${name} is`);
    }
  });

  it("refuses a server that is older than 2.12, and says so", async () => {
    const old = await fakeServer("2.11.4");
    const log = await openForTest({ servers: [old] });
    await expect(log.append([put("a.x", "1")])).rejects.toMatchObject({
      ...UNAVAILABLE,
      message: expect.stringMatching(/version 2\.11\.4.*upgrade the NATS servers to 2\.12/s) as string,
    });
  });

  it("says so when JetStream is switched off", async () => {
    const plain = await startNatsServer();
    onTestFinished(() => plain.close());
    const log = await openForTest({ servers: [urlOf(plain)] });
    await expect(log.lastSequence()).rejects.toMatchObject({
      ...UNAVAILABLE,
      message: expect.stringContaining("JetStream does not answer") as string,
    });
  });

  it("opens while no server can be reached, says so at each call, and works once one can", async () => {
    const port = await freePort();
    const log = await openForTest({ servers: [`nats://127.0.0.1:${port}`] });
    for (const call of [log.append([put("a.x", "1")]), log.get("a.x"), log.id(), log.lastSequence()]) {
      await expect(call).rejects.toMatchObject({
        ...UNAVAILABLE,
        message: expect.stringContaining(`127.0.0.1:${port}`) as string,
      });
    }
    const late = await startNatsServer({ port, settings: JETSTREAM });
    onTestFinished(() => late.close());
    expect(await log.append([put("a.x", "1")])).toBe(1);
  });

  it("takes TLS with a client certificate, and a password", async () => {
    const { settings, tls } = await mutualTls();
    const secured = await startNatsServer({ settings: { ...JETSTREAM, ...settings } });
    onTestFinished(() => secured.close());
    const options = { servers: [`nats://localhost:${secured.port}`], stream: newStream(), user: "mesh" };
    const log = await openForTest({ ...options, credentials: () => ({ tls, password: "secret" }) });
    expect(await log.append([put("a.x", "1")])).toBe(1);
    const wrong = await openForTest({ ...options, credentials: () => ({ tls, password: "not-so-secret" }) });
    const error = await wrong.lastSequence().catch(String);
    expect(error).toMatch(/MESH_LOG_UNAVAILABLE.*[Aa]uthorization/s);
    expect(error).not.toContain("not-so-secret");
    const bare = await openForTest({ ...options, credentials: () => ({ password: "secret", tls: { ca: tls.ca } }) });
    await expect(bare.lastSequence()).rejects.toMatchObject(UNAVAILABLE);
  });

  it("says in its log which right its user lacks", async () => {
    const permissions = { publish: ["mesh.>"], subscribe: ["_INBOX.>"] };
    const authorization = { users: [{ user: "mesh", password: "secret", permissions }] };
    const strict = await startNatsServer({ settings: { ...JETSTREAM, authorization } });
    onTestFinished(() => strict.close());
    const lines: string[] = [];
    const logger = createLogger("error", {
      write: (line: string) => {
        lines.push(line);
      },
    });
    const log = await openForTest({
      servers: [urlOf(strict)],
      stream: "mesh",
      user: "mesh",
      credentials: () => ({ password: "secret" }),
      logger,
    });
    await expect(log.lastSequence()).rejects.toMatchObject(UNAVAILABLE);
    await eventually(() => lines.some((line) => /may not publish to \$JS\.API\.STREAM\.INFO\.mesh/.test(line)));
  });
});

describe("JetStream log, at its limits", () => {
  it(`refuses a batch of more than ${MAX_BATCH_WRITES} writes, all of it`, async () => {
    const log = await openForTest();
    const writes = Array.from({ length: MAX_BATCH_WRITES + 1 }, (_, index) => put(`a.${index}`, "1"));
    await expect(log.append(writes)).rejects.toThrow("1001 writes");
    expect(await log.lastSequence()).toBe(0);
  });

  it("refuses appends while the stream is full, serves what it has, and appends again once there is room", async () => {
    const stream = newStream();
    const log = await openForTest({ stream, maxBytes: 200_000 });
    const batch = (number: number) =>
      Array.from({ length: 10 }, (_, index) => ({
        key: `full.${number}.${index}`,
        value: Buffer.alloc(1_000, number),
      }));
    let stored = 0;
    const failure = await (async () => {
      for (;;) {
        const error = await log.append(batch(stored)).then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
        if (error !== undefined) return error;
        stored += 1;
      }
    })();
    expect(failure).toMatchObject({ ...UNAVAILABLE, fix: expect.stringContaining("max_bytes") as string });
    expect(stored).toBeGreaterThan(5);
    expect(await log.lastSequence()).toBe(stored * 10);
    expect((await log.get(`full.${stored - 1}.9`))?.value).toHaveLength(1_000);
    expect(await log.get(`full.${stored}.0`)).toBeUndefined();

    await (await manage()).streams.update(stream, { max_bytes: 400_000 });
    expect(await log.append(batch(stored))).toBe((stored + 1) * 10);
  });

  it("says so when the server takes no messages as large as entries may be", async () => {
    const small = await startNatsServer({ settings: { ...JETSTREAM, max_payload: 100_000 } });
    onTestFinished(() => small.close());
    const log = await openForTest({ servers: [urlOf(small)] });
    const large = { key: "a.large", value: new Uint8Array(MAX_VALUE_BYTES) };
    await expect(log.append([put("a.x", "1"), large])).rejects.toMatchObject({
      ...UNAVAILABLE,
      fix: expect.stringContaining("max_payload") as string,
    });
    expect(await log.append([put("a.x", "1")])).toBe(1);
  });

  it("loses nothing, and keeps the order, for a follower that is much slower than the writer", async () => {
    const log = await openForTest();
    const count = 30_000;
    const ending = new AbortController();
    const heard: number[] = [];
    const following = (async () => {
      for await (const { entries } of log.follow(0, ending.signal)) {
        heard.push(...entries.map(({ sequence }) => sequence));
        if (heard.length >= count) ending.abort();
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    for (let at = 0; at < count; at += 1_000) {
      await log.append(Array.from({ length: 1_000 }, (_, index) => put(`a.${at + index}`, "1")));
    }
    await following;
    expect(heard).toEqual(Array.from({ length: count }, (_, index) => index + 1));
  });

  it("tells that a foreign message expired as it tells of a deletion", async () => {
    const stream = newStream();
    const log = await openForTest({ stream, deleteMarkerTtlMs: 60_000 });
    const nats = await connect({ servers: urlOf(server) });
    onTestFinished(() => nats.close());
    const expiring = headers();
    expiring.set("Nats-TTL", "1s");
    await nats.request(`${stream}.a.x`, "soon gone", { headers: expiring, timeout: 1_000 });
    expect((await log.get("a.x"))?.sequence).toBe(1);
    for await (const { entries } of log.follow(1, new AbortController().signal)) {
      if (entries.length === 0) continue;
      expect(entries).toEqual([{ key: "a.x", sequence: 2, value: undefined }]);
      break;
    }
    expect(await log.get("a.x")).toBeUndefined();
  });
});

/** Says that it is a NATS server of that version, and answers pings. */
async function fakeServer(version: string): Promise<string> {
  const fake: Server = createServer((socket) => {
    socket.on("error", () => undefined);
    const info = { server_id: "FAKE", version, max_payload: 1_048_576, headers: true, proto: 1 };
    socket.write(`INFO ${JSON.stringify(info)}\r\n`);
    socket.on("data", (bytes) => {
      if (bytes.includes("PING")) socket.write("PONG\r\n");
    });
  });
  await new Promise<void>((resolve) => fake.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => new Promise<void>((resolve) => fake.close(() => resolve())));
  const address = fake.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return `nats://127.0.0.1:${address.port}`;
}

/** A server's settings that want a client certificate and a password, and what the client shows. */
async function mutualTls() {
  const directory = await mkdtemp(join(tmpdir(), "mesh-log-tls-"));
  onTestFinished(() => rm(directory, { recursive: true }));
  const { ca, server: pair, client } = await createCertificates();
  const write = async (name: string, text: string) => {
    const file = join(directory, name);
    await writeFile(file, text, { mode: 0o600 });
    return file;
  };
  return {
    settings: {
      authorization: { user: "mesh", password: "secret" },
      tls: {
        ca_file: await write("ca.pem", ca),
        cert_file: await write("server.pem", pair.certificate),
        key_file: await write("server-key.pem", pair.key),
        verify: true,
      },
    },
    tls: { ca, cert: client.certificate, key: client.key },
  };
}
