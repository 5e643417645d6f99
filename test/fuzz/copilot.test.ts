import { create, toBinary } from "@bufbuild/protobuf";
import { Client, credentials, type ServiceError, status } from "@grpc/grpc-js";
import fc from "fast-check";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createCertificates } from "../../src/emulator/certificates.js";
import { KEY_SPACES } from "../../src/entries/keys.js";
import {
  BulkSyncRequestChunkSchema,
  CapiDiegoProcessAssociationSchema,
  CloudControllerCopilot,
  MapRouteRequestSchema,
  UpsertRouteRequestSchema,
} from "../../src/gen/copilot/cloud_controller_pb.js";
import { VIPResolverCopilot } from "../../src/gen/copilot/vip_resolver_pb.js";
import { silentLogger } from "../../src/lib/logger.js";
import { openEmbeddedLog } from "../../src/log/embedded.js";
import { openKeySpaceWriter } from "../../src/log/key-space-writer.js";
import type { MeshLog } from "../../src/log/log.js";
import { type CopilotServer, serveCopilot } from "../../src/sources/copilot/copilot.js";
import { bulkBytes, clientTls, CopilotClient } from "../support/copilot-client.js";
import { mutated, runs, RUNS_TIMEOUT_MS } from "../support/random-runs.js";

const { method } = CloudControllerCopilot;
const GOOD_ROUTE = { guid: "good-route", host: "good.example.com" };
const VIP_ROUTE = { guid: "r2", host: "*.example.com", path: "/cart", internal: true, vip: "127.128.0.9" };
const MAPPING = { routeGuid: "good-route", capiProcessGuid: "p1", routeWeight: 2 };
const BULK = {
  routes: [GOOD_ROUTE, VIP_ROUTE],
  routeMappings: [MAPPING],
  capiDiegoProcessAssociations: [{ capiProcessGuid: "p1", diegoProcessGuids: ["p1-v1", "p1-v2"] }],
};
const MAX_BULK_BYTES = 4 * 2 ** 20;

/** What a client may be refused with; INTERNAL would be a fault of ours, but for bytes that are no message at all. */
const REFUSALS = [status.INVALID_ARGUMENT, status.ALREADY_EXISTS, status.RESOURCE_EXHAUSTED, status.UNKNOWN];

let directory: string;
let log: MeshLog;
let server: CopilotServer;
let client: CopilotClient;
let raw: Client;
let resolver: Client;

beforeAll(async () => {
  const certificates = await createCertificates();
  const keyPair = await certificates.issue({ commonName: "cloud-controller", usages: ["client"] });
  directory = await mkdtemp(join(tmpdir(), "cf-mesh-"));
  log = await openEmbeddedLog({ directory });
  server = await serveCopilot({
    listen: { address: "127.0.0.1", port: 0 },
    vipListen: { address: "127.0.0.1", port: 0 },
    certificates: { ca: certificates.ca, ...certificates.server },
    vipCidr: "127.128.0.0/9",
    log,
    routes: await openKeySpaceWriter(log, KEY_SPACES.copilotRoutes),
    associations: await openKeySpaceWriter(log, KEY_SPACES.copilotAssociations),
    maxBulkBytes: MAX_BULK_BYTES,
    logger: silentLogger,
  });
  const tls = clientTls({ ca: certificates.ca, ...keyPair });
  client = new CopilotClient(server.port, tls);
  raw = new Client(`127.0.0.1:${server.port}`, tls, { "grpc.ssl_target_name_override": "localhost" });
  resolver = new Client(`127.0.0.1:${server.vipPort}`, credentials.createInsecure());
});

afterAll(async () => {
  for (const one of [client, raw, resolver]) one.close();
  await server.close();
  await log.close();
  await rm(directory, { recursive: true, force: true });
});

const same = (bytes: Buffer) => bytes;

/** Sends bytes as a call's message. Returns what it is refused with; undefined when it is not. */
async function send(to: Client, path: string, bytes: Uint8Array): Promise<ServiceError | undefined> {
  return new Promise((resolve) => {
    to.makeUnaryRequest(path, same, same, Buffer.from(bytes), (error) => resolve(error ?? undefined));
  });
}

/** The same for the chunks of a BulkSync. */
async function sendBulk(chunks: Iterable<Uint8Array>): Promise<ServiceError | undefined> {
  return new Promise((resolve) => {
    const call = raw.makeClientStreamRequest(
      `/${CloudControllerCopilot.typeName}/${method.bulkSync.name}`,
      (chunk: Uint8Array) =>
        Buffer.from(toBinary(BulkSyncRequestChunkSchema, create(BulkSyncRequestChunkSchema, { chunk }))),
      same,
      (error) => resolve(error ?? undefined),
    );
    const queue = chunks[Symbol.iterator]();
    const write = () => {
      for (;;) {
        const next = queue.next();
        if (next.done === true) {
          call.end();
          return;
        }
        if (!call.write(next.value)) break;
      }
      call.once("drain", write);
    };
    call.once("error", () => undefined);
    write();
  });
}

const whole = [
  toBinary(UpsertRouteRequestSchema, create(UpsertRouteRequestSchema, { route: VIP_ROUTE })),
  toBinary(MapRouteRequestSchema, create(MapRouteRequestSchema, { routeMapping: MAPPING })),
  toBinary(
    CapiDiegoProcessAssociationSchema,
    create(CapiDiegoProcessAssociationSchema, BULK.capiDiegoProcessAssociations[0]),
  ),
];
const strange = fc.oneof(
  fc.string({ unit: "binary", maxLength: 20 }),
  fc.constantFrom("__proto__", "constructor", "é", "\ud83d\ude00".repeat(60), "a".repeat(5_000), "b\r\nc: d"),
);

describe("the copilot API", () => {
  it(
    "answers or refuses any bytes as any message, and keeps what it has",
    async () => {
      await client.bulkSync(BULK);
      const unary = Object.values(method).filter(({ name }) => !/^(BulkSync|List|DeleteRoute|UnmapRoute)/.test(name));
      await fc.assert(
        fc.asyncProperty(fc.constantFrom(...unary), mutated(...whole), async ({ name }, bytes) => {
          const refusal = await send(raw, `/${CloudControllerCopilot.typeName}/${name}`, bytes);
          expect([undefined, status.INTERNAL, ...REFUSALS]).toContain(refusal?.code);
          if (refusal?.code === status.INTERNAL) expect(refusal.details).toContain("deserializ");
        }),
        runs(400),
      );
      expect((await client.call(method.listCfRoutes, {})).routes).toMatchObject({ "good-route": GOOD_ROUTE.host });
    },
    RUNS_TIMEOUT_MS,
  );

  it(
    "answers or refuses any texts in well-formed messages, and can list what it took",
    async () => {
      await fc.assert(
        fc.asyncProperty(strange, strange, fc.nat(), async (one, other, number) => {
          const calls = [
            client.call(method.upsertRoute, { route: { guid: one, host: other, path: one, vip: other } }),
            client.call(method.upsertRoute, { route: { guid: `r-${number}`, host: other, path: `/${one}` } }),
            client.call(method.mapRoute, { routeMapping: { routeGuid: one, capiProcessGuid: other, routeWeight: 1 } }),
            client.call(method.deleteRoute, { guid: one }),
            client.call(method.upsertCapiDiegoProcessAssociation, {
              capiDiegoProcessAssociation: { capiProcessGuid: one, diegoProcessGuids: [other] },
            }),
          ];
          for (const settled of await Promise.allSettled(calls)) {
            if (settled.status === "rejected") expect(REFUSALS).toContain((settled.reason as ServiceError).code);
          }
          await client.call(method.listCfRoutes, {});
          await client.call(method.listCfRouteMappings, {});
          await client.call(method.listCapiDiegoProcessAssociations, {});
        }),
        runs(100),
      );
    },
    RUNS_TIMEOUT_MS,
  );

  it(
    "takes a BulkSync whole or leaves everything as it was, however its bytes are broken or cut",
    async () => {
      await fc.assert(
        fc.asyncProperty(mutated(bulkBytes(BULK)), fc.integer({ min: 1, max: 50 }), async (bytes, chunkBytes) => {
          await client.bulkSync(BULK);
          const before = (await client.call(method.listCfRoutes, {})).routes;
          const chunks: Uint8Array[] = [];
          for (let at = 0; at < bytes.length; at += chunkBytes) chunks.push(bytes.subarray(at, at + chunkBytes));
          const refusal = await sendBulk(chunks);
          expect([undefined, status.INVALID_ARGUMENT]).toContain(refusal?.code);
          if (refusal) expect((await client.call(method.listCfRoutes, {})).routes).toEqual(before);
        }),
        runs(150),
      );
    },
    RUNS_TIMEOUT_MS,
  );

  it("counts what a chunk costs, not only what it holds", { timeout: 60_000 }, async () => {
    await client.bulkSync(BULK);
    const bytesBefore = process.memoryUsage().rss;
    function* chunks(count: number, chunk: Uint8Array) {
      for (let sent = 0; sent < count; sent += 1) yield chunk;
    }
    expect((await sendBulk(chunks(100_000, Buffer.from("x"))))?.code).toBe(status.RESOURCE_EXHAUSTED);
    expect(await sendBulk([...chunks(20_000, Buffer.alloc(0)), bulkBytes(BULK)])).toBeUndefined();
    expect(process.memoryUsage().rss - bytesBefore).toBeLessThan(300 * 2 ** 20);
    // The room that they took is free again.
    expect(await sendBulk([bulkBytes(BULK)])).toBeUndefined();
  });
});

describe("the VIP resolver", () => {
  it(
    "answers or refuses any name and any bytes, as long as they may be",
    async () => {
      await client.bulkSync(BULK);
      const path = `/${VIPResolverCopilot.typeName}/GetVIPByName`;
      const ask = (name: Uint8Array) =>
        send(resolver, path, Buffer.concat([Buffer.from([0x0a]), varint(name.length), name]));
      await fc.assert(
        fc.asyncProperty(
          fc.oneof(
            strange.map((name) => Buffer.from(name)),
            mutated("good.example.com"),
          ),
          async (name) => {
            expect([undefined, status.UNKNOWN, status.INTERNAL]).toContain((await ask(name))?.code);
          },
        ),
        runs(150),
      );
      for (const length of [10_000, 100_000, 1_000_000]) {
        expect((await ask(Buffer.alloc(length, "é")))?.code).toBe(status.UNKNOWN);
      }
      expect(await ask(Buffer.from("*.example.com"))).toBeUndefined();
    },
    RUNS_TIMEOUT_MS,
  );
});

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  return Buffer.from([...bytes, rest]);
}
