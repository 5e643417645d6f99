import { connect, type NatsConnection } from "@nats-io/transport-node";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type NatsServer, startNatsServer } from "../../src/emulator/nats/nats-server.js";
import { decodeRegistration, encodeRegistration } from "../../src/entries/entries.js";
import { KEY_SPACES } from "../../src/entries/keys.js";
import { silentLogger } from "../../src/lib/logger.js";
import { openKeySpaceWriter } from "../../src/log/key-space-writer.js";
import { BadMessage, MAX_MESSAGE_BYTES, parseRegistryMessage } from "../../src/sources/nats/message.js";
import { natsSource, type NatsSource } from "../../src/sources/nats/nats-source.js";
import { writeRegistration } from "../../src/sources/nats/write-registration.js";
import { eventually } from "../support/eventually.js";
import { mutated, runs, RUNS_TIMEOUT_MS } from "../support/random-runs.js";
import { startTestRouter, type TestRouter } from "../support/router.js";

const HOST = "fuzz.example.com";

/** Every field that a route-emitter or route-registrar sends. */
const WHOLE = {
  host: "10.0.1.5",
  port: 61_001,
  tls_port: 61_002,
  uris: [HOST, `${HOST}/cart`, `*.${HOST}`],
  protocol: "http2",
  app: "5a1c0f6e-7f0e-4c0b-9a53-000000000001",
  private_instance_id: "instance-1",
  private_instance_index: "0",
  server_cert_domain_san: "instance-1",
  isolation_segment: "red",
  availability_zone: "z1",
  route_service_url: "https://service.example.com",
  stale_threshold_in_seconds: 60,
  endpoint_updated_at_ns: 1_700_000_000_000_000_000,
  tags: { component: "route-emitter", process_id: "p1", app_name: "shop" },
  options: { loadbalancing: "hash", hash_header: "x-tenant", hash_balance: 1.5 },
};
const REGISTRAR = { host: "10.0.1.6", port: 80, uris: [`api.${HOST}`], stale_threshold_in_seconds: 30, tags: null };

const strange = fc.oneof(
  fc.constantFrom(
    null,
    true,
    -1,
    0,
    1.5,
    2 ** 53,
    65_536,
    "",
    " ",
    "\n",
    "\u0000",
    "\ud800",
    "ß",
    "*",
    "..",
    "a\r\nb",
    "[::1]",
  ),
  fc.string({ unit: "binary", maxLength: 20 }),
  fc.jsonValue({ maxDepth: 3 }),
);
/** A message with another value in some of its fields. */
const changed = fc
  .tuple(
    fc.constantFrom(WHOLE, REGISTRAR),
    fc.dictionary(fc.constantFrom(...Object.keys(WHOLE)), strange, { maxKeys: 3 }),
  )
  .map(([message, changes]) => Buffer.from(JSON.stringify({ ...message, ...changes })));
const strangeText = fc.dictionary(
  fc.constantFrom(
    ...["protocol", "app", "private_instance_id", "server_cert_domain_san", "availability_zone"],
    "private_instance_index",
  ),
  fc.string({ unit: "binary", maxLength: 20 }),
  { maxKeys: 3 },
);
/** Texts that the schema takes, whatever is in them. */
const taken = fc
  .record({
    texts: strangeText,
    tags: fc.dictionary(fc.string({ maxLength: 10 }), fc.string({ unit: "binary", maxLength: 10 })),
    options: fc.record({
      loadbalancing: fc.constantFrom("hash", "least-connection", "?"),
      hash_header: fc.string({ unit: "binary", maxLength: 10 }),
      hash_balance: fc.oneof(fc.double(), fc.string()),
      route_policy_scope: fc.constantFrom(null, "", "any", "space", "?"),
      route_policy_sources: fc.oneof(
        fc.constantFrom(null, "", ",", "cf:any", "cf:app:a,cf:space:s,cf:org:o"),
        fc.string({ unit: "binary", maxLength: 20 }),
      ),
    }),
    // Nothing that Envoy would wait for: this machine, where nobody listens, and what is no address at all.
    address: fc.constantFrom("127.0.0.1", "::1", "1.2.3", "999.1.1.1", "::::", "1:2", "name", "a..b", "-"),
    path: fc.string({ unit: "binary", maxLength: 20 }),
    port: fc.integer({ min: 0, max: 65_535 }),
    tls_port: fc.constantFrom(0, 61_002),
  })
  .map(({ texts, tags, options, address, path, port, tls_port }) =>
    Buffer.from(
      JSON.stringify({
        ...WHOLE,
        route_service_url: null,
        isolation_segment: null,
        host: address,
        ...texts,
        tags,
        options,
        port,
        tls_port,
        uris: [HOST, `${HOST}/${path}`],
      }),
    ),
  );
const anyMessage = fc.oneof(mutated(JSON.stringify(WHOLE), JSON.stringify(REGISTRAR)), changed, taken);

function parsed(bytes: Uint8Array) {
  try {
    return parseRegistryMessage(bytes);
  } catch (thrown) {
    if (thrown instanceof BadMessage) return undefined;
    throw thrown;
  }
}

describe("registration messages", () => {
  it("are read or refused, whatever their bytes; what is read is written as protobuf reads it", () => {
    fc.assert(
      fc.property(anyMessage, (bytes) => {
        const message = parsed(bytes);
        for (const place of message?.places ?? []) {
          const written = writeRegistration(message?.endpoint ?? expect.fail(), place, 0);
          expect(Buffer.from(encodeRegistration(decodeRegistration(written))).equals(written)).toBe(true);
          expect(decodeRegistration(written)).toMatchObject(place);
        }
      }),
      runs(3_000),
    );
  });

  it.each([
    ["an array nested 120,000 times", "[".repeat(120_000) + "]".repeat(120_000)],
    [
      "an object nested 40,000 times in a tag",
      `{"host":"a","port":1,"tags":${'{"a":'.repeat(40_000)}1${"}".repeat(40_001)}`,
    ],
    ["a name with 200,000 blanks after it", `{"endpoint_updated_at_ns"${" ".repeat(200_000)}}`],
    ["a number of 200,000 digits", `{"endpoint_updated_at_ns":${"9".repeat(200_000)}}`],
    ["a host of 200,000 dots", JSON.stringify({ host: "a".padEnd(200_000, "."), port: 1 })],
    ["bytes that are no UTF-8", Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d])],
    ["more bytes than allowed", " ".repeat(MAX_MESSAGE_BYTES + 1)],
  ])("are refused within 200 ms: %s", (_, text) => {
    const startedMs = performance.now();
    expect(() => parseRegistryMessage(Buffer.from(text))).toThrow(BadMessage);
    expect(performance.now() - startedMs).toBeLessThan(200);
  });
});

describe("a router that registrations come to", () => {
  let server: NatsServer;
  let router: TestRouter;
  let publisher: NatsConnection;
  let source: NatsSource;
  let running: Promise<void>;
  const ending = new AbortController();

  beforeAll(async () => {
    server = await startNatsServer();
    router = await startTestRouter();
    const servers = [`127.0.0.1:${server.port}`];
    source = natsSource({
      servers: servers.map((one) => `nats://${one}`),
      nodeId: "router-1",
      hosts: ["127.0.0.1"],
      readStored: () => router.log.read(KEY_SPACES.natsRegistrations),
      logger: silentLogger,
    });
    running = source.run(await openKeySpaceWriter(router.log, KEY_SPACES.natsRegistrations), ending.signal);
    await eventually(() => source.status.state === "following");
    publisher = await connect({ servers });
  });

  afterAll(async () => {
    await publisher.close();
    ending.abort();
    await running;
    await router.stop();
    await server.close();
  });

  const refusals = () => router.router.status.proxies.flatMap((proxy) => proxy.refusals);

  async function send(messages: readonly Uint8Array[]): Promise<void> {
    const before = source.counts.registerMessages;
    for (const message of messages) publisher.publish("router.register", message);
    await eventually(() => source.counts.registerMessages === before + messages.length);
  }

  it(
    "has Envoy take what it takes over, and keeps following",
    async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(taken, { minLength: 5, maxLength: 20 }), async (messages) => {
          await send([
            ...messages,
            Buffer.from(JSON.stringify({ host: "127.0.0.1", port: 9, uris: [`good.${HOST}`] })),
          ]);
          // Each is asked for, so that Envoy gets its routes, cluster and endpoints. Nobody listens there.
          await router.client.get(HOST, "/");
          await eventually(async () => (await router.client.get(`good.${HOST}`, "/")).status === 502);
          expect(refusals()).toEqual([]);
        }),
        { ...runs(12), endOnFailure: true },
      );
      expect(source.counts.connections).toBe(1);
    },
    RUNS_TIMEOUT_MS,
  );

  it(
    "keeps its good registrations and its size while 40 MB of nonsense come",
    async () => {
      const nonsense = fc.sample(anyMessage, { ...runs(200), numRuns: 200 });
      const huge = Buffer.alloc(200_000, "[");
      const bytesBefore = process.memoryUsage().rss;
      const connections = source.counts.connections;
      for (let round = 0; round < 20; round += 1) await send([...nonsense, ...Array.from({ length: 10 }, () => huge)]);
      expect(process.memoryUsage().rss - bytesBefore).toBeLessThan(200 * 2 ** 20);
      expect(source.counts).toMatchObject({ connections });
      expect((await router.client.get(`good.${HOST}`, "/")).status).toBe(502);
    },
    RUNS_TIMEOUT_MS,
  );
});
