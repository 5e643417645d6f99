import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import { connect, type NatsConnection, type NodeConnectionOptions } from "@nats-io/transport-node";
import { describe, expect, it, onTestFinished } from "vitest";
import { eventually } from "../../../test/support/eventually.js";
import { createCertificates } from "../../emulator/certificates.js";
import { type NatsServer, type NatsServerOptions, startNatsServer } from "../../emulator/nats/nats-server.js";
import { decodeRegistration, type Registration } from "../../entries/entries.js";
import { KEY_SPACES } from "../../entries/keys.js";
import type { Clock } from "../../lib/clock.js";
import { createLogger, silentLogger } from "../../lib/logger.js";
import { completionKey } from "../../log/completion.js";
import { openEmbeddedLog } from "../../log/embedded.js";
import { type KeySpaceWriter, openKeySpaceWriter } from "../../log/key-space-writer.js";
import { openLeasedWriters } from "../../log/leased-writers.js";
import type { MeshLog } from "../../log/log.js";
import type { NatsCredentials } from "./connection.js";
import { natsSource, type NatsSourceOptions } from "./nats-source.js";

const PRUNE_INTERVAL_MS = 30_000;

/** Turned by the test. */
class ManualClock implements Clock {
  #nowMs = Date.parse("2026-03-01T12:00:00Z");
  readonly #sleepers = new Set<{ readonly dueMs: number; readonly wake: () => void }>();

  now(): number {
    return this.#nowMs;
  }

  async sleep(durationMs: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    await new Promise<void>((resolve) => {
      const wake = () => {
        this.#sleepers.delete(sleeper);
        signal.removeEventListener("abort", wake);
        resolve();
      };
      const sleeper = { dueMs: this.#nowMs + durationMs, wake };
      this.#sleepers.add(sleeper);
      signal.addEventListener("abort", wake);
    });
  }

  /** Whether somebody sleeps for at least so long from now on. */
  hasSleeper(durationMs: number): boolean {
    return [...this.#sleepers].some(({ dueMs }) => dueMs - this.#nowMs >= durationMs);
  }

  forward(durationMs: number): void {
    this.#nowMs += durationMs;
    for (const sleeper of this.#sleepers) {
      if (sleeper.dueMs <= this.#nowMs) sleeper.wake();
    }
  }
}

/** What was logged, line by line. */
class LogLines extends Writable {
  readonly lines: { level: string; msg: string; reason?: string }[] = [];

  override _write(chunk: Buffer, _: BufferEncoding, done: () => void): void {
    this.lines.push(JSON.parse(chunk.toString()) as { level: string; msg: string; reason?: string });
    done();
  }

  count(text: string): number {
    return this.lines.filter(({ msg }) => msg.includes(text)).length;
  }
}

async function nats(settings: NatsServerOptions["settings"] = {}): Promise<NatsServer> {
  const server = await startNatsServer({ settings });
  onTestFinished(() => server.close());
  return server;
}

const addressOf = (server: NatsServer) => `127.0.0.1:${server.port}`;

async function publisher(server: NatsServer, options: NodeConnectionOptions = {}): Promise<NatsConnection> {
  const client = await connect({
    servers: addressOf(server),
    maxReconnectAttempts: -1,
    reconnectTimeWait: 20,
    reconnectJitter: 0,
    ...options,
  });
  onTestFinished(() => client.close());
  return client;
}

async function meshLog(): Promise<MeshLog> {
  const directory = await mkdtemp(join(tmpdir(), "cf-mesh-nats-log-"));
  const log = await openEmbeddedLog({ directory });
  onTestFinished(async () => {
    await log.close();
    await rm(directory, { recursive: true });
  });
  return log;
}

async function registrations(log: MeshLog): Promise<readonly Registration[]> {
  const found: Registration[] = [];
  for await (const entries of log.read(KEY_SPACES.natsRegistrations)) {
    for (const { value } of entries) if (value) found.push(decodeRegistration(value));
  }
  return found;
}

/** "host/path address:port" of each entry, sorted. */
async function shown(log: MeshLog): Promise<readonly string[]> {
  return (await registrations(log)).map((one) => `${one.host}${one.path} ${one.address}:${one.port}`).sort();
}

async function holds(log: MeshLog, expected: readonly string[]): Promise<void> {
  await eventually(async () => {
    expect(await shown(log)).toEqual(expected);
    return true;
  });
}

type Running = Awaited<ReturnType<typeof start>>;

/** A source that runs until the test ends, or is stopped. */
async function start(servers: readonly string[], log: MeshLog, options: Partial<NatsSourceOptions> = {}) {
  return startWith(await openKeySpaceWriter(log, KEY_SPACES.natsRegistrations), servers, log, options);
}

function startWith(
  writer: KeySpaceWriter,
  servers: readonly string[],
  log: MeshLog,
  options: Partial<NatsSourceOptions> = {},
) {
  const logged = new LogLines();
  const clock = new ManualClock();
  const source = natsSource({
    servers,
    nodeId: "router-1",
    hosts: ["10.0.0.9"],
    pruneIntervalMs: PRUNE_INTERVAL_MS,
    pingIntervalMs: 60_000,
    readStored: () => log.read(KEY_SPACES.natsRegistrations),
    logger: createLogger("debug", logged),
    clock,
    ...options,
  });
  const ending = new AbortController();
  const running = source.run(writer, ending.signal);
  const stop = async () => {
    ending.abort();
    await running;
  };
  onTestFinished(stop);
  return { source, clock, logged, stop };
}

/** Turns the clock, in steps that a look for stale endpoints is due after, and waits for each look. */
async function wait({ clock, source }: Running, durationMs: number): Promise<void> {
  for (let turnedMs = 0; turnedMs < durationMs; turnedMs += PRUNE_INTERVAL_MS) {
    await eventually(() => clock.hasSleeper(PRUNE_INTERVAL_MS));
    clock.forward(PRUNE_INTERVAL_MS);
    await eventually(() => source.status.lastSyncMs === clock.now());
  }
}

/** Lets its retries come, until it follows. Once it is connected the clock stands, so that its looks are due when `wait` turns it. */
async function untilFollowing({ clock, source }: Running): Promise<void> {
  await eventually(() => {
    if (source.status.state === "following") return true;
    if (!clock.hasSleeper(PRUNE_INTERVAL_MS)) clock.forward(100);
    return false;
  });
}

/** A server, a log, a source that follows, and a publisher. */
async function following(options: Partial<NatsSourceOptions> = {}) {
  const server = await nats();
  const log = await meshLog();
  const running = await start([`nats://${addressOf(server)}`], log, options);
  await untilFollowing(running);
  const client = await publisher(server);
  return { server, log, client, running, ...running, ...publishing(client) };
}

function publishing(client: NatsConnection) {
  return {
    register: (message: object | string) => client.publish("router.register", text(message)),
    unregister: (message: object | string) => client.publish("router.unregister", text(message)),
  };
}

/** A bigint becomes a JSON number, with all its digits. */
function text(message: object | string): string {
  if (typeof message === "string") return message;
  const marked = JSON.stringify(message, (_, value: unknown) => (typeof value === "bigint" ? `${value}n` : value));
  return marked.replaceAll(/"(\d+)n"/g, "$1");
}

/** Of 2026, in nanoseconds. */
const SINCE = 1_772_366_400_123_456_789n;
const ROUTER = { user: "router", credentials: () => ({ password: "secret" }) };
const SHOP = { host: "10.0.1.5", port: 61_001, uris: ["shop.example.com"] };
const SHOP_TLS = { ...SHOP, tls_port: 61_443 };
const OTHER = { host: "10.0.1.6", port: 61_002, uris: ["other.example.com"] };

const SHOP_ENTRY = "shop.example.com 10.0.1.5:61001";
const SHOP_TLS_ENTRY = "shop.example.com 10.0.1.5:61443";
const OTHER_ENTRY = "other.example.com 10.0.1.6:61002";

describe("the NATS source", () => {
  it("writes every field of a registration", async () => {
    const { log, register } = await following();
    register({
      ...SHOP_TLS,
      uris: ["shop.example.com/cart"],
      protocol: "http2",
      app: "app-guid",
      private_instance_id: "instance-guid",
      private_instance_index: "3",
      server_cert_domain_san: "san",
      isolation_segment: "segment",
      availability_zone: "z1",
      route_service_url: "https://service.example.com",
      endpoint_updated_at_ns: SINCE,
      stale_threshold_in_seconds: 60,
      tags: { process_id: "process-guid", component: "route-emitter" },
      options: { loadbalancing: "hash", hash_header: "X-User", hash_balance: 1.25 },
    });
    await holds(log, ["shop.example.com/cart 10.0.1.5:61443"]);
    expect((await registrations(log))[0]).toMatchObject({
      host: "shop.example.com",
      path: "/cart",
      address: "10.0.1.5",
      port: 61_443,
      tls: true,
      certSan: "san",
      protocol: "http2",
      appGuid: "app-guid",
      processGuid: "process-guid",
      instanceGuid: "instance-guid",
      instanceIndex: "3",
      availabilityZone: "z1",
      isolationSegment: "segment",
      options: { loadbalancing: "hash", hashHeader: "X-User", hashBalance: "1.25" },
      routeServiceUrl: "https://service.example.com",
      updatedAtNs: SINCE,
      // Means nothing for TLS.
      staleThresholdSeconds: 0,
      tags: [
        { name: "component", value: "route-emitter" },
        { name: "process_id", value: "process-guid" },
      ],
    });
  });

  it("takes a registration of host, port and URIs alone: plain text, HTTP/1.1", async () => {
    const { log, register } = await following();
    register({ ...SHOP, tls_port: 0, tags: null, options: null, stale_threshold_in_seconds: 30, protocol: "tcp" });
    await holds(log, [SHOP_ENTRY]);
    const [entry] = await registrations(log);
    expect(entry).toMatchObject({
      tls: false,
      protocol: "http1",
      updatedAtNs: 0n,
      staleThresholdSeconds: 30,
      tags: [],
    });
    expect(entry?.options).toBeUndefined();
  });

  it("makes an entry of each URI: hosts in lower case, queries and slashes at the end dropped, bad ones left out alone", async () => {
    const { log, register, source, logged } = await following();
    register({
      ...SHOP,
      uris: [
        "Shop.Example.com/Cart/?a=1",
        "*.shop.example.com",
        "shop.example.com/",
        "shop.example.com",
        "a b",
        "",
        "x:80",
      ],
    });
    await holds(log, [`*.${SHOP_ENTRY}`, SHOP_ENTRY, "shop.example.com/Cart 10.0.1.5:61001"]);
    expect(source.counts).toMatchObject({ refusedUris: 3, refusedMessages: 0 });
    expect(logged.lines.find(({ level }) => level === "warn")?.reason).toBe('uris: "a b" is no host and path');
  });

  it("keeps an endpoint that is registered by a name, and tells once that no router dials it", async () => {
    const { log, register, logged } = await following();
    for (let times = 0; times < 3; times += 1) register({ ...SHOP, host: "api.service.internal" });
    await holds(log, [SHOP_ENTRY.replace("10.0.1.5", "api.service.internal")]);
    const warnings = logged.lines.filter(({ level }) => level === "warn");
    expect(warnings.map(({ reason }) => reason)).toEqual([
      "host: api.service.internal is a name; it is kept, but routers dial nothing but IP addresses",
    ]);
  });

  it("writes nothing for a registration that is only renewed, and one entry for a change", async () => {
    const { log, register, source } = await following();
    register(SHOP);
    await holds(log, [SHOP_ENTRY]);
    const sequence = await log.lastSequence();
    for (let times = 0; times < 10; times += 1) register(SHOP);
    register({ ...SHOP, app: "app-guid" });
    await eventually(async () => (await registrations(log))[0]?.appGuid === "app-guid");
    expect(await log.lastSequence()).toBe(sequence + 1);
    expect(source.counts).toMatchObject({ registerMessages: 12, refreshes: 10, registrations: 1 });
  });

  it("removes what is not renewed for its threshold, at most the default one", async () => {
    const { log, register, running } = await following();
    const uris = (name: string) => ({ ...SHOP, uris: [`${name}.example.com`] });
    register({ ...uris("short"), stale_threshold_in_seconds: 45 });
    register({ ...uris("none"), stale_threshold_in_seconds: 0 });
    register({ ...uris("long"), stale_threshold_in_seconds: 600 });
    register({ ...uris("tls"), tls_port: 61_443, stale_threshold_in_seconds: 1 });
    const entry = (name: string) => `${name}.example.com 10.0.1.5:61001`;
    const tls = "tls.example.com 10.0.1.5:61443";
    await holds(log, [entry("long"), entry("none"), entry("short"), tls]);
    await wait(running, 60_000);
    await holds(log, [entry("long"), entry("none"), tls]);
    await wait(running, 60_000);
    expect(await shown(log)).toEqual([entry("long"), entry("none"), tls]);
    await wait(running, 30_000);
    await holds(log, [tls]);
    await wait(running, 600_000);
    expect(await shown(log)).toEqual([tls]);
    expect(running.source.counts).toMatchObject({ pruned: 3, registrations: 1 });
  });

  it("keeps what is renewed, whether the message comes again as it was or changed", async () => {
    const { log, register, source, running } = await following();
    register(SHOP);
    register(OTHER);
    for (let times = 1; times <= 6; times += 1) {
      await wait(running, 60_000);
      register(SHOP);
      register({ ...OTHER, app: `app-${times}` });
      await eventually(() => source.counts.registerMessages === 2 + 2 * times);
    }
    expect(await shown(log)).toEqual([OTHER_ENTRY, SHOP_ENTRY]);
    expect(source.counts.pruned).toBe(0);
  });

  it("removes nothing while NATS is away, and counts all as just seen when it is back", async () => {
    const { server, log, register, source, clock, running } = await following();
    register(SHOP);
    await holds(log, [SHOP_ENTRY]);
    await wait(running, 90_000);
    await server.stop();
    await eventually(() => source.status.state === "retrying");
    expect(source.status.lastError).toMatch(/MESH_SOURCE_UNREACHABLE.*NATS at .*none is pruned.*fix:/s);
    clock.forward(3_600_000);
    await server.start();
    await untilFollowing(running);
    expect(source.status.lastError).toBeUndefined();
    await wait(running, 120_000);
    expect(await shown(log)).toEqual([SHOP_ENTRY]);
    await wait(running, 30_000);
    await holds(log, []);
  });

  it("removes nothing after its own machine was suspended, before publishers had their time", async () => {
    const { log, register, source, clock, running } = await following();
    register(SHOP);
    await holds(log, [SHOP_ENTRY]);
    await eventually(() => clock.hasSleeper(PRUNE_INTERVAL_MS));
    clock.forward(3_600_000);
    await eventually(() => source.status.lastSyncMs === clock.now());
    await wait(running, 120_000);
    expect(await shown(log)).toEqual([SHOP_ENTRY]);
  });

  it("asks publishers with router.start to register, each time it connects", async () => {
    const { server, client, running, source, log } = await following();
    client.subscribe("router.start", {
      callback: (_, message) => client.publish("router.register", text({ ...SHOP, app: message.string() })),
    });
    await client.flush();
    await server.stop("SIGKILL");
    await eventually(() => source.status.state === "retrying");
    await server.start();
    await eventually(() => client.flush().then(() => true));
    await untilFollowing(running);
    await eventually(async () => (await shown(log)).length === 1);
    expect(JSON.parse((await registrations(log))[0]?.appGuid ?? "")).toEqual({
      id: "router-1",
      hosts: ["10.0.0.9"],
      minimumRegisterIntervalInSeconds: 20,
      pruneThresholdInSeconds: 120,
    });
    expect(source.counts.connections).toBe(2);
  });

  it("answers router.greet with its intervals", async () => {
    const { client, source } = await following({ staleThresholdMs: 60_000, registerIntervalMs: 5_000 });
    expect((await client.request("router.greet")).json()).toEqual({
      id: "router-1",
      hosts: ["10.0.0.9"],
      minimumRegisterIntervalInSeconds: 5,
      pruneThresholdInSeconds: 60,
    });
    expect(source.counts.greetings).toBe(1);
  });

  it("unregisters an endpoint of a URI by host and port, whatever else the message says", async () => {
    const { log, register, unregister } = await following();
    register({ ...SHOP, uris: ["shop.example.com", "shop.example.com/cart"], tags: { a: "b" } });
    register({ ...SHOP, host: "10.0.1.6" });
    register({ ...SHOP_TLS, private_instance_index: "1" });
    await eventually(async () => (await shown(log)).length === 4);
    unregister({ ...SHOP, uris: ["SHOP.example.com/?x"], app: "another", private_instance_index: "7" });
    await holds(log, [
      "shop.example.com 10.0.1.5:61443",
      "shop.example.com 10.0.1.6:61001",
      "shop.example.com/cart 10.0.1.5:61001",
    ]);
    // tls_port is preferred here too.
    unregister(SHOP_TLS);
    await holds(log, ["shop.example.com 10.0.1.6:61001", "shop.example.com/cart 10.0.1.5:61001"]);
  });

  it("takes a registration again that was unregistered", async () => {
    const { log, register, unregister } = await following();
    register(SHOP);
    await holds(log, [SHOP_ENTRY]);
    unregister(SHOP);
    await holds(log, []);
    register(SHOP);
    await holds(log, [SHOP_ENTRY]);
  });

  it("lets an older message of an instance neither change nor remove nor renew what stands", async () => {
    const { log, register, unregister, source, running } = await following();
    const at = (ns: bigint, zone: string) => ({ ...SHOP, endpoint_updated_at_ns: ns, availability_zone: zone });
    register(at(SINCE, "new"));
    await holds(log, [SHOP_ENTRY]);
    await wait(running, 90_000);
    register(at(SINCE - 1n, "old"));
    unregister(at(SINCE - 1n, "old"));
    await eventually(() => source.counts.unregisterMessages === 1);
    expect(source.counts.outdated).toBe(1);
    expect((await registrations(log))[0]?.availabilityZone).toBe("new");
    await wait(running, 60_000);
    await holds(log, []);
    // Nothing is remembered of what was removed.
    register(at(SINCE - 1n, "old"));
    await holds(log, [SHOP_ENTRY]);
    unregister(at(SINCE, "new"));
    await holds(log, []);
  });

  it("takes the later of two messages when one does not say when the endpoint changed", async () => {
    const { log, register, unregister } = await following();
    register({ ...SHOP, endpoint_updated_at_ns: SINCE, availability_zone: "first" });
    register({ ...SHOP, availability_zone: "second" });
    await eventually(async () => (await registrations(log))[0]?.availabilityZone === "second");
    unregister({ ...SHOP, endpoint_updated_at_ns: SINCE - 1n });
    await holds(log, []);
  });

  it("lets another instance have the address and port of one that is gone", async () => {
    const { log, register, unregister, source } = await following();
    const instance = (guid: string, ns: bigint) => ({
      ...SHOP_TLS,
      private_instance_id: guid,
      endpoint_updated_at_ns: ns,
    });
    register(instance("first", SINCE));
    await eventually(async () => (await registrations(log))[0]?.instanceGuid === "first");
    register(instance("second", SINCE - 5n));
    await eventually(async () => (await registrations(log))[0]?.instanceGuid === "second");
    register(instance("third", SINCE + 5n));
    await eventually(async () => (await registrations(log))[0]?.instanceGuid === "third");
    // What is said late of the first must not take the third away.
    unregister(instance("first", SINCE));
    await eventually(() => source.counts.unregisterMessages === 1);
    expect(await shown(log)).toEqual([SHOP_TLS_ENTRY]);
  });

  it("refuses bad messages alone, and tells of them once a minute", async () => {
    const { log, register, unregister, source, logged, clock } = await following();
    const bad = [
      "",
      "{",
      "[]",
      '"text"',
      text({ ...SHOP, host: undefined }),
      text({ ...SHOP, host: "no host" }),
      text({ ...SHOP, port: 0 }),
      text({ ...SHOP, port: 65_536 }),
      text({ ...SHOP, port: "80" }),
      text({ ...SHOP, tls_port: -1 }),
      text({ ...SHOP, uris: "shop.example.com" }),
      text({ ...SHOP, uris: [1] }),
      text({ ...SHOP, tags: { a: 1 } }),
      text({ ...SHOP, route_service_url: "http://service.example.com" }),
      text({ ...SHOP, endpoint_updated_at_ns: "soon" }),
      text({ ...SHOP, endpoint_updated_at_ns: 1.5 }),
      text({ ...SHOP, options: "hash" }),
      text({ ...SHOP, tags: { big: "x".repeat(300_000) } }),
    ];
    for (const message of bad) register(message);
    unregister("{");
    register(OTHER);
    await holds(log, [OTHER_ENTRY]);
    expect(source.counts.refusedMessages).toBe(bad.length + 1);
    expect(logged.count("is refused")).toBe(1);
    clock.forward(61_000);
    register("{");
    await eventually(() => logged.count("is refused") === 2);
    expect(logged.lines.find(({ msg }) => msg.includes("is refused"))).toMatchObject({ untold: 0 });
    expect(logged.lines.findLast(({ msg }) => msg.includes("is refused"))).toMatchObject({ untold: bad.length });
  });

  it("takes no more registrations than it may, and goes on renewing those it has", async () => {
    const { log, register, source, unregister } = await following({ maxRegistrations: 1 });
    register(SHOP);
    register(OTHER);
    register(SHOP);
    await eventually(() => source.counts.refreshes === 1);
    expect(source.counts).toMatchObject({ surplus: 1, registrations: 1 });
    expect(source.status.messages?.dropped).toBe(1);
    unregister(SHOP);
    register(OTHER);
    await holds(log, [OTHER_ENTRY]);
  });
});

describe("the NATS source after a restart", () => {
  it("takes over what the log holds without a write, and removes what nobody renews", async () => {
    const { server, log, register, stop } = await following();
    register(SHOP);
    register(OTHER);
    await holds(log, [OTHER_ENTRY, SHOP_ENTRY]);
    await stop();
    const sequence = await log.lastSequence();
    const running = await start([`nats://${addressOf(server)}`], log);
    await untilFollowing(running);
    await wait(running, 90_000);
    register(SHOP);
    await eventually(() => running.source.counts.registerMessages === 1);
    await wait(running, 30_000);
    expect(running.source.counts).toMatchObject({ registrations: 2, pruned: 0 });
    expect(await log.lastSequence()).toBe(sequence);
    await wait(running, 30_000);
    await holds(log, [SHOP_ENTRY]);
  });

  it("removes a TLS endpoint that is not renewed within three thresholds in which others are, and keeps all when none is", async () => {
    const { server, log, register, stop } = await following();
    register(SHOP_TLS);
    register({ ...OTHER, tls_port: 61_002 });
    await holds(log, [OTHER_ENTRY, SHOP_TLS_ENTRY]);
    await stop();
    const running = await start([`nats://${addressOf(server)}`], log);
    await untilFollowing(running);
    await wait(running, 600_000);
    expect(running.source.counts).toMatchObject({ registrations: 2, pruned: 0 });
    register(SHOP_TLS);
    await eventually(() => running.source.counts.registerMessages === 1);
    await wait(running, 30_000);
    await holds(log, [SHOP_TLS_ENTRY]);
    await wait(running, 600_000);
    expect(await shown(log)).toEqual([SHOP_TLS_ENTRY]);
  });

  it("goes on from the log while NATS is away, and says what keeps it", async () => {
    const { server, log, register, stop } = await following();
    register(SHOP);
    await holds(log, [SHOP_ENTRY]);
    await stop();
    await server.stop();
    const running = await start([`nats://${addressOf(server)}`], log);
    await eventually(() => running.source.status.state === "retrying");
    expect(running.source.status).toMatchObject({ lastSyncMs: undefined });
    expect(running.source.status.lastError).toContain("check that NATS runs");
    running.clock.forward(600_000);
    await server.start();
    await untilFollowing(running);
    expect(await shown(log)).toEqual([SHOP_ENTRY]);
  });
});

describe("the NATS source's connection", () => {
  it("speaks TLS with certificates on both sides, and logs in with user and password", async () => {
    const certificates = await createCertificates();
    const { server, files } = await tlsServer(certificates);
    const log = await meshLog();
    const good = { tls: { ca: certificates.ca, ...certificates.client }, password: "secret" };
    const access = { user: "router", credentials: () => good };
    const running = await start([`tls://${addressOf(server)}`], log, access);
    await untilFollowing(running);
    const client = await publisher(server, { user: "router", pass: "secret", tls: files });
    publishing(client).register(SHOP);
    await holds(log, [SHOP_ENTRY]);

    const refused = async (wrong: NatsCredentials, reason: RegExp) => {
      const credentials = () => ({ ...good, ...wrong });
      const other = await start([`tls://localhost:${server.port}`], log, { ...access, credentials });
      await eventually(() => other.source.status.lastError);
      expect(other.source.status.lastError).toMatch(reason);
      expect(JSON.stringify(other.logged.lines)).not.toContain("wrong-password");
      await other.stop();
    };
    await refused({ password: "wrong-password" }, /MESH_SOURCE_REFUSED.*Authorization Violation.*nats.user/s);
    await refused({ tls: { ...certificates.client } }, /MESH_SOURCE_REFUSED.*nats.caFile/s);
    await refused({ tls: { ca: certificates.ca } }, /(certificate required|ECONNRESET)\).*certificateFile/s);
  });

  it("takes a new password and certificate at its next connection, and keeps the one that it has", async () => {
    const certificates = await createCertificates();
    const { server } = await tlsServer(certificates);
    let credentials: NatsCredentials = {
      tls: { ca: certificates.ca, ...certificates.client },
      password: "secret",
    };
    const log = await meshLog();
    const running = await start([`tls://${addressOf(server)}`], log, {
      user: "router",
      credentials: () => credentials,
    });
    await untilFollowing(running);
    credentials = { tls: { ca: certificates.ca }, password: "not-yet" };
    expect(running.source.counts.connections).toBe(1);
    await server.stop();
    await server.start();
    await eventually(() => {
      running.clock.forward(100);
      return running.source.status.lastError?.includes("MESH_SOURCE_REFUSED");
    });
    const issued = await certificates.issue({ commonName: "rotated", usages: ["client"] });
    credentials = { tls: { ca: certificates.ca, ...issued }, password: "secret" };
    await untilFollowing(running);
    expect(running.source.counts.connections).toBe(2);
  });

  it("refuses a server whose certificate is for another name", async () => {
    const certificates = await createCertificates();
    const other = await certificates.issue({ commonName: "other", dnsNames: ["other.example.com"] });
    const { server } = await tlsServer({ ...certificates, server: other });
    const good = { tls: { ca: certificates.ca, ...certificates.client }, password: "secret" };
    const options = { user: "router", credentials: () => good };
    for (const host of ["127.0.0.1", "localhost"]) {
      const { source } = await start([`tls://${host}:${server.port}`], await meshLog(), options);
      await eventually(() => source.status.lastError);
      expect(source.status.lastError).toMatch(/MESH_SOURCE_REFUSED.*altnames/is);
    }
  });

  it("refuses a tls:// server that has no TLS", async () => {
    const server = await nats();
    const { source } = await start([`tls://${addressOf(server)}`], await meshLog());
    await eventually(() => source.status.lastError);
    expect(source.status.lastError).toMatch(/MESH_SOURCE_REFUSED.*tls/s);
  });

  it("says which certificate can't be used, before it starts", () => {
    const credentials = () => ({ tls: { ca: "no PEM", key: "none" } });
    const options = { servers: ["tls://localhost"], nodeId: "a", hosts: [], credentials };
    const readStored = () => {
      throw new Error("not to be read");
    };
    expect(() => natsSource({ ...options, readStored, logger: createLogger("error", new LogLines()) })).toThrow(
      /MESH_CONFIG_INVALID.*nats.caFile/s,
    );
  });

  it("finds a server that hangs by its pings, takes another, and comes back", async () => {
    const first = await nats();
    const second = await nats();
    const log = await meshLog();
    const running = await start(
      [first, second].map((server) => `nats://${addressOf(server)}`),
      log,
      {
        pingIntervalMs: 50,
      },
    );
    await untilFollowing(running);
    first.pause();
    await eventually(() => running.source.counts.connections === 2);
    await untilFollowing(running);
    publishing(await publisher(second)).register(SHOP);
    await holds(log, [SHOP_ENTRY]);
    first.resume();
    await second.stop();
    await eventually(() => {
      running.clock.forward(100);
      return running.source.counts.connections === 3;
    });
    await untilFollowing(running);
    publishing(await publisher(first)).register(OTHER);
    await holds(log, [OTHER_ENTRY, SHOP_ENTRY]);
  });

  it("gives up on a server that takes connections and says nothing, and stops while it waits for one", async () => {
    const server = await nats();
    server.pause();
    const { source, stop } = await start([`nats://${addressOf(server)}`], await meshLog());
    await eventually(() => source.status.lastError);
    expect(source.status.lastError).toMatch(/MESH_SOURCE_UNREACHABLE.*does not greet.*no word within 5 s/s);
    const waiting = await start([`nats://${addressOf(server)}`], await meshLog());
    await waiting.stop();
    expect(waiting.source.status.state).toBe("starting");
    await stop();
  });

  it("says so when the user may not subscribe; what was known stays", async () => {
    const server = await nats(permissions({ subscribe: ["router.greet", "router.unregister"], publish: [">"] }));
    const { source } = await start([`nats://${addressOf(server)}`], await meshLog(), ROUTER);
    await eventually(() => source.status.state === "retrying");
    expect(source.status.lastError).toMatch(/MESH_SOURCE_REFUSED.*router\.register.*let nats.user subscribe/s);
  });

  it("needs no more rights than three subjects to hear, one to say, and answers", async () => {
    const server = await nats(
      permissions({
        subscribe: ["router.register", "router.unregister", "router.greet"],
        publish: ["router.start", "_INBOX.>"],
      }),
    );
    const log = await meshLog();
    const running = await start([`nats://${addressOf(server)}`], log, ROUTER);
    await untilFollowing(running);
    const client = await publisher(server, { user: "admin", pass: "secret" });
    expect((await client.request("router.greet")).json()).toMatchObject({ id: "router-1" });
    publishing(client).register(SHOP);
    await holds(log, [SHOP_ENTRY]);
    expect(running.logged.lines.filter(({ level }) => level === "warn")).toEqual([]);
  });

  it("takes registrations all the same when the user may not publish, and says so once", async () => {
    const server = await nats(permissions({ subscribe: ["router.*"], publish: ["_INBOX.>"] }));
    const log = await meshLog();
    const running = await start([`nats://${addressOf(server)}`], log, ROUTER);
    await untilFollowing(running);
    publishing(await publisher(server, { user: "admin", pass: "secret" })).register(SHOP);
    await holds(log, [SHOP_ENTRY]);
    expect(running.logged.count("MESH_SOURCE_REFUSED")).toBe(1);
    expect(running.source.status.state).toBe("following");
  });
});

describe("the NATS source's log", () => {
  const COMPLETION = completionKey(KEY_SPACES.natsRegistrations);

  /** A source that writes as one of several replicas, and has followed from now on. */
  async function leading() {
    const server = await nats();
    const log = await meshLog();
    const { natsRegistrations } = KEY_SPACES;
    const lease = { lease: "control", holder: "one", logger: silentLogger };
    const writers = await openLeasedWriters(log, { [natsRegistrations]: "remember" }, lease);
    onTestFinished(() => writers.close());
    const running = startWith(writers.writer(natsRegistrations), [`nats://${addressOf(server)}`], log);
    await untilFollowing(running);
    return { server, log, running, ...publishing(await publisher(server)) };
  }

  it("is said to be complete when everybody had time to register, after what they registered", async () => {
    const { log, running, register } = await leading();
    register(SHOP);
    await holds(log, [SHOP_ENTRY]);
    expect(await log.get(COMPLETION)).toBeUndefined();
    await wait(running, 30_000);
    const completion = await eventually(() => log.get(COMPLETION));
    for await (const entries of log.read(KEY_SPACES.natsRegistrations)) {
      for (const { sequence } of entries) expect(sequence).toBeLessThan(completion.sequence);
    }
    const sequence = await log.lastSequence();
    await wait(running, 60_000);
    expect(await log.lastSequence()).toBe(sequence);
  });

  it("is not said to be complete while nobody registers, nor before a new connection has lasted", async () => {
    const { server, log, running, register } = await leading();
    await wait(running, 90_000);
    await server.stop();
    await server.start();
    await untilFollowing(running);
    register(SHOP);
    await holds(log, [SHOP_ENTRY]);
    expect(await log.get(COMPLETION)).toBeUndefined();
    await wait(running, 30_000);
    await eventually(() => log.get(COMPLETION));
  });

  it("writes what came while the log could not be written, once it can, and only the last of it", async () => {
    const server = await nats();
    const log = await meshLog();
    const inner = await openKeySpaceWriter(log, KEY_SPACES.natsRegistrations);
    let isBroken = true;
    const writer: KeySpaceWriter = {
      keySpace: inner.keySpace,
      apply: (wants) => (isBroken ? Promise.reject(new Error("disk full")) : inner.apply(wants)),
      replaceAll: (wants) => inner.replaceAll(wants),
      complete: () => inner.complete(),
      keys: () => inner.keys(),
    };
    const { source, clock, stop } = startWith(writer, [`nats://${addressOf(server)}`], log);
    await eventually(() => source.status.state === "following");
    const { register, unregister } = publishing(await publisher(server));
    register(SHOP);
    await eventually(() => source.status.state === "retrying");
    expect(source.status.lastError).toBe("disk full");
    unregister(SHOP);
    register(OTHER);
    await eventually(() => source.counts.registerMessages === 2);
    expect(source.status.messages?.waiting).toBe(2);
    isBroken = false;
    await eventually(() => {
      clock.forward(100);
      return source.status.state === "following";
    });
    await holds(log, [OTHER_ENTRY]);
    expect(source.status.messages?.waiting).toBe(0);

    isBroken = true;
    unregister(OTHER);
    await eventually(() => source.status.state === "retrying");
    isBroken = false;
    await stop();
    expect(await shown(log)).toEqual([]);
  });
});

/** Users "router", with these rights, and "admin". */
function permissions(rights: object): NonNullable<NatsServerOptions["settings"]> {
  const user = { user: "router", password: "secret", permissions: rights };
  return { authorization: { users: [user, { user: "admin", password: "secret" }] } };
}

/** Wants a client certificate, and user and password. */
async function tlsServer({ ca, server: identity, client }: Awaited<ReturnType<typeof createCertificates>>) {
  const directory = await mkdtemp(join(tmpdir(), "cf-mesh-nats-tls-"));
  onTestFinished(() => rm(directory, { recursive: true }));
  const write = async (name: string, content: string) => {
    const file = join(directory, name);
    await writeFile(file, content);
    return file;
  };
  const caFile = await write("ca.crt", ca);
  const server = await nats({
    authorization: { user: "router", password: "secret" },
    tls: {
      ca_file: caFile,
      cert_file: await write("server.crt", identity.certificate),
      key_file: await write("server.key", identity.key),
      verify: true,
    },
  });
  return { server, files: { ca, cert: client.certificate, key: client.key } };
}
