import "reflect-metadata";
import { webcrypto } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type ConnectionOptions } from "node:tls";
import { credentials, status } from "@grpc/grpc-js";
import { PemConverter, X509CertificateGenerator } from "@peculiar/x509";
import { afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { CopilotClient, bulkBytes, clientTls, refused } from "../../../test/support/copilot-client.js";
import { eventually } from "../../../test/support/eventually.js";
import { type Certificates, createCertificates, type KeyPair } from "../../emulator/certificates.js";
import { decodeRoute } from "../../entries/entries.js";
import { KEY_SPACES } from "../../entries/keys.js";
import { CloudControllerCopilot } from "../../gen/copilot/cloud_controller_pb.js";
import { VIPResolverCopilot } from "../../gen/copilot/vip_resolver_pb.js";
import { MeshError } from "../../lib/errors.js";
import { silentLogger } from "../../lib/logger.js";
import { openEmbeddedLog } from "../../log/embedded.js";
import { openKeySpaceWriter } from "../../log/key-space-writer.js";
import type { MeshLog, Write } from "../../log/log.js";
import { type CopilotOptions, type CopilotServer, serveCopilot } from "./copilot.js";

const { method } = CloudControllerCopilot;
const { method: resolver } = VIPResolverCopilot;

let certificates: Certificates;
let clientKeyPair: KeyPair;
let directory: string;
let log: MeshLog;
let server: CopilotServer;
let client: CopilotClient;

const loopback = { address: "127.0.0.1", port: 0 };

async function serve(options: Partial<CopilotOptions> = {}): Promise<CopilotServer> {
  const under = options.log ? (options.log as MeshLog) : log;
  return serveCopilot({
    listen: loopback,
    vipListen: loopback,
    certificates: { ca: certificates.ca, ...certificates.server },
    vipCidr: "127.128.0.0/9",
    log: under,
    routes: await openKeySpaceWriter(under, KEY_SPACES.copilotRoutes),
    associations: await openKeySpaceWriter(under, KEY_SPACES.copilotAssociations),
    logger: silentLogger,
    ...options,
  });
}

const newClient = (options = {}, of = server): CopilotClient => {
  const made = new CopilotClient(of.port, clientTls({ ca: certificates.ca, ...clientKeyPair }), options);
  onTestFinished(() => made.close());
  return made;
};
const newResolver = (of = server): CopilotClient => {
  const made = new CopilotClient(of.vipPort, credentials.createInsecure());
  onTestFinished(() => made.close());
  return made;
};

/** The server and its log opened anew, as after a restart of the process. */
async function restart(options: Partial<CopilotOptions> = {}): Promise<void> {
  client.close();
  await server.close();
  await log.close();
  log = await openEmbeddedLog({ directory });
  server = await serve(options);
  client = new CopilotClient(server.port, clientTls({ ca: certificates.ca, ...clientKeyPair }));
}

beforeAll(async () => {
  certificates = await createCertificates();
  clientKeyPair = await certificates.issue({ commonName: "cloud-controller", usages: ["client"] });
});

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "cf-mesh-"));
  log = await openEmbeddedLog({ directory });
  server = await serve();
  client = new CopilotClient(server.port, clientTls({ ca: certificates.ca, ...clientKeyPair }));
});

afterEach(async () => {
  client.close();
  await server.close();
  await log.close();
  await rm(directory, { recursive: true, force: true });
});

const upsert = (route: object, by = client) => by.call(method.upsertRoute, { route });
const map = (routeGuid: string, capiProcessGuid: string, routeWeight = 1) =>
  client.call(method.mapRoute, { routeMapping: { routeGuid, capiProcessGuid, routeWeight } });
const unmap = (routeGuid: string, capiProcessGuid: string) =>
  client.call(method.unmapRoute, { routeMapping: { routeGuid, capiProcessGuid, routeWeight: 1 } });
const associate = (capiProcessGuid: string, diegoProcessGuids: string[]) =>
  client.call(method.upsertCapiDiegoProcessAssociation, {
    capiDiegoProcessAssociation: { capiProcessGuid, diegoProcessGuids },
  });

const routes = async (by = client) => (await by.call(method.listCfRoutes, {})).routes;
const weights = async (by = client) => {
  const { routeMappings } = await by.call(method.listCfRouteMappings, {});
  return Object.fromEntries(Object.entries(routeMappings).map(([key, { routeWeight }]) => [key, routeWeight]));
};
const associations = async () => {
  const { capiDiegoProcessAssociations: found } = await client.call(method.listCapiDiegoProcessAssociations, {});
  return Object.fromEntries(Object.entries(found).map(([key, { diegoProcessGuids }]) => [key, diegoProcessGuids]));
};
const everything = async () => ({
  routes: await routes(),
  weights: await weights(),
  associations: await associations(),
});
const vipOf = async (fqdn: string) => (await newResolver().call(resolver.getVIPByName, { fqdn })).ip;

async function storedRoute(guid: string) {
  const entry = await log.get(`${KEY_SPACES.copilotRoutes}${guid}`);
  return entry?.value && decodeRoute(entry.value);
}

describe("the copilot API", () => {
  it("says that it is healthy, on both ports", async () => {
    expect(await client.call(method.health, {})).toMatchObject({ healthy: true });
    expect(await newResolver().call(resolver.health, {})).toMatchObject({ healthy: true });
  });

  it("lists hosts by route guid, in lower case, and takes the last word for a route", async () => {
    await upsert({ guid: "route-a", host: "A.Example.com" });
    await upsert({ guid: "route-b", host: "b.example.com", path: "/cart" });
    await upsert({ guid: "route-a", host: "Other.Example.com" });
    await upsert({ guid: "route-a", host: "Other.Example.com" });
    expect(await routes()).toEqual({ "route-a": "other.example.com", "route-b": "b.example.com" });
    await client.call(method.deleteRoute, { guid: "route-b" });
    await client.call(method.deleteRoute, { guid: "never-there" });
    expect(await routes()).toEqual({ "route-a": "other.example.com" });
  });

  it("lists a mapping once however often it is made, with its last weight", async () => {
    await upsert({ guid: "route-a", host: "a.example.com" });
    await map("route-a", "process-1", 10);
    await map("route-a", "process-2", 90);
    await map("route-a", "process-2", 90);
    await map("route-a", "process-1", 128);
    expect((await client.call(method.listCfRouteMappings, {})).routeMappings["route-a-process-2"]).toMatchObject({
      routeGuid: "route-a",
      capiProcessGuid: "process-2",
      routeWeight: 90,
    });
    expect(await weights()).toEqual({ "route-a-process-1": 128, "route-a-process-2": 90 });
    expect((await storedRoute("route-a"))?.destinations).toMatchObject([
      { processGuid: "process-1", weight: 128 },
      { processGuid: "process-2", weight: 90 },
    ]);
  });

  it("removes one mapping or association, and leaves its siblings", async () => {
    await upsert({ guid: "route-a", host: "a.example.com" });
    await Promise.all(["process-1", "process-2", "process-3"].map((guid) => map("route-a", guid)));
    await associate("process-1", ["process-1-v1"]);
    await associate("process-2", ["process-2-v2", "process-2-v1", "process-2-v2"]);
    await unmap("route-a", "process-2");
    await unmap("route-a", "process-2");
    await unmap("never-there", "process-2");
    await client.call(method.deleteCapiDiegoProcessAssociation, { capiProcessGuid: "process-1" });
    await client.call(method.deleteCapiDiegoProcessAssociation, { capiProcessGuid: "process-1" });
    expect(await everything()).toEqual({
      routes: { "route-a": "a.example.com" },
      weights: { "route-a-process-1": 1, "route-a-process-3": 1 },
      associations: { "process-2": ["process-2-v1", "process-2-v2"] },
    });
  });

  it("keeps a mapping for a route that is told later, or again", async () => {
    await map("route-a", "process-1", 7);
    expect(await everything()).toMatchObject({ routes: {}, weights: { "route-a-process-1": 7 } });
    expect(await storedRoute("route-a")).toMatchObject({ guid: "route-a", host: "" });
    await upsert({ guid: "route-a", host: "a.example.com", path: "/x" });
    expect(await storedRoute("route-a")).toMatchObject({ host: "a.example.com", path: "/x", protocol: "http" });
    await client.call(method.deleteRoute, { guid: "route-a" });
    expect(await everything()).toMatchObject({ routes: {}, weights: { "route-a-process-1": 7 } });
    await unmap("route-a", "process-1");
    expect(await storedRoute("route-a")).toBeUndefined();
  });

  it("answers when a change is in the log, and forgets nothing when it is started anew", async () => {
    await upsert({ guid: "route-a", host: "a.example.com" });
    await upsert({ guid: "route-i", host: "i.apps.internal", internal: true });
    await map("route-a", "process-1", 3);
    await map("route-later", "process-1", 4);
    await associate("process-1", ["process-1-v1"]);
    const before = { ...(await everything()), vip: await vipOf("i.apps.internal") };
    const sequence = await log.lastSequence();
    await restart();
    expect({ ...(await everything()), vip: await vipOf("i.apps.internal") }).toEqual(before);
    expect(await log.lastSequence()).toBe(sequence);
    await unmap("route-later", "process-1");
    expect(await weights()).toEqual({ "route-a-process-1": 3 });
  });

  it("carries out calls that come at once, one after the other, and loses none", async () => {
    await Promise.all(Array.from({ length: 50 }, (_, index) => map("route-a", `process-${index}`, index + 1)));
    await Promise.all(Array.from({ length: 25 }, (_, index) => unmap("route-a", `process-${index * 2}`)));
    const expected = Array.from({ length: 25 }, (_, index) => [`route-a-process-${index * 2 + 1}`, index * 2 + 2]);
    expect(await weights()).toEqual(Object.fromEntries(expected));
  });
});

describe("a call that lacks something is refused as INVALID_ARGUMENT, in copilot's words:", () => {
  const route = (fields: object) => () => client.refusal(method.upsertRoute, { route: fields });
  const mapping = (fields: object) => () => client.refusal(method.mapRoute, { routeMapping: fields });
  const unmapping = (fields: object) => () => client.refusal(method.unmapRoute, { routeMapping: fields });
  const association = (fields: object) => () =>
    client.refusal(method.upsertCapiDiegoProcessAssociation, { capiDiegoProcessAssociation: fields });
  const pair = { routeGuid: "route-a", capiProcessGuid: "process-1" };

  it.each([
    ["no route", () => client.refusal(method.upsertRoute, {}), "route is required"],
    ["a route without guid", route({ host: "a.example.com" }), "route Guid and Host are required"],
    ["a route without host", route({ guid: "route-a" }), "route Guid and Host are required"],
    ["no guid to delete", () => client.refusal(method.deleteRoute, {}), "route Guid is required"],
    ["no mapping", () => client.refusal(method.mapRoute, {}), "RouteMapping is required"],
    [
      "a mapping without route",
      mapping({ capiProcessGuid: "p", routeWeight: 1 }),
      "RouteGUID and CapiProcessGUID are required",
    ],
    [
      "a mapping without process",
      mapping({ routeGuid: "r", routeWeight: 1 }),
      "RouteGUID and CapiProcessGUID are required",
    ],
    ["weight 0", mapping(pair), "RouteWeight must be between 1 and 128"],
    ["weight 129", mapping({ ...pair, routeWeight: 129 }), "RouteWeight must be between 1 and 128"],
    ["no mapping to undo", () => client.refusal(method.unmapRoute, {}), "RouteMapping is required"],
    ["unmap without guids", unmapping({ routeWeight: 1 }), "RouteGuid and CapiProcessGuid are required"],
    ["unmap with weight 0", unmapping(pair), "RouteWeight must be between 1 and 128"],
    ["unmap with weight 129", unmapping({ ...pair, routeWeight: 129 }), "RouteWeight must be between 1 and 128"],
    [
      "no association",
      () => client.refusal(method.upsertCapiDiegoProcessAssociation, {}),
      "CapiDiegoProcessAssociation is required",
    ],
    [
      "an association without process",
      association({ diegoProcessGuids: ["d"] }),
      "CapiProcessGuid and DiegoProcessGuids are required",
    ],
    [
      "an association to nothing",
      association({ capiProcessGuid: "p" }),
      "CapiProcessGuid and DiegoProcessGuids are required",
    ],
    [
      "no association to delete",
      () => client.refusal(method.deleteCapiDiegoProcessAssociation, {}),
      "CapiProcessGuid is required",
    ],
  ])("%s", async (_what, call, details) => {
    expect(await call()).toEqual({ code: status.INVALID_ARGUMENT, details });
    expect(await log.lastSequence()).toBe(0);
  });

  it.each([
    [{ guid: "a/b", host: "a.example.com" }, "route Guid must be"],
    [{ guid: "__proto__", host: "a.example.com" }, "route Guid must be"],
    [{ guid: "a", host: "a b.example.com" }, "route Host is no host name"],
    [{ guid: "a", host: "a.example.com", path: "x" }, 'route Path must begin with "/"'],
    [{ guid: "a", host: "a.example.com", vip: "10.0.0.256" }, "route Vip is no IPv4 address"],
  ])("what no router could serve: %o", async (fields, details) => {
    expect(await route(fields)()).toMatchObject({ code: status.INVALID_ARGUMENT });
    expect((await route(fields)()).details).toContain(details);
  });
});

describe("BulkSync", () => {
  const bulk = {
    routes: [
      { guid: "route-a", host: "A.example.com" },
      { guid: "route-b", host: "b.example.com", path: "/cart" },
    ],
    routeMappings: [
      { routeGuid: "route-a", capiProcessGuid: "process-1", routeWeight: 10 },
      { routeGuid: "route-a", capiProcessGuid: "process-2", routeWeight: 0 },
      { routeGuid: "route-later", capiProcessGuid: "process-2", routeWeight: 129 },
    ],
    capiDiegoProcessAssociations: [{ capiProcessGuid: "process-1", diegoProcessGuids: ["process-1-v1"] }],
  };
  const told = {
    routes: { "route-a": "a.example.com", "route-b": "b.example.com" },
    weights: { "route-a-process-1": 10, "route-a-process-2": 1, "route-later-process-2": 129 },
    associations: { "process-1": ["process-1-v1"] },
  };

  it.each([1, 7, 13, 100, 65_536])(
    "takes its bytes in chunks of %i, and an empty one at the end",
    async (chunkBytes) => {
      const { totalBytesReceived } = await client.bulkSync(bulk, { chunkBytes });
      expect(totalBytesReceived).toBe(bulkBytes(bulk).length);
      expect(await everything()).toEqual(told);
    },
  );

  it("takes messages that are compressed with gzip", async () => {
    const packing = newClient({ gzip: true });
    const { totalBytesReceived } = await packing.bulkSync(bulk, { chunkBytes: 100 });
    expect(totalBytesReceived).toBe(bulkBytes(bulk).length);
    expect(await routes(packing)).toEqual(told.routes);
  });

  it("replaces all that was said before, and writes nothing when nothing differs", async () => {
    await upsert({ guid: "route-old", host: "old.example.com" });
    await map("route-old", "process-1");
    await associate("process-old", ["process-old-v1"]);
    await client.bulkSync(bulk);
    expect(await everything()).toEqual(told);
    const sequence = await log.lastSequence();
    await client.bulkSync(bulk);
    expect(await log.lastSequence()).toBe(sequence);
  });

  it("without bytes means that there is nothing", async () => {
    await client.bulkSync(bulk);
    expect(await client.bulkSync(new Uint8Array())).toMatchObject({ totalBytesReceived: 0 });
    expect(await everything()).toEqual({ routes: {}, weights: {}, associations: {} });
  });

  it("lets the later one of two items with one key count", async () => {
    await client.bulkSync({
      routes: [...bulk.routes, { guid: "route-a", host: "late.example.com" }],
      routeMappings: [...bulk.routeMappings, { routeGuid: "route-a", capiProcessGuid: "process-1", routeWeight: 20 }],
      capiDiegoProcessAssociations: [
        ...bulk.capiDiegoProcessAssociations,
        { capiProcessGuid: "process-1", diegoProcessGuids: ["process-1-v2"] },
      ],
    });
    expect(await everything()).toEqual({
      routes: { ...told.routes, "route-a": "late.example.com" },
      weights: { ...told.weights, "route-a-process-1": 20 },
      associations: { "process-1": ["process-1-v2"] },
    });
  });

  it.each([
    ["bytes that are no message", Buffer.from([0x12, 0xff, 0xff, 0xff, 0x7f])],
    ["a message that ends too soon", bulkBytes(bulk).subarray(0, -3)],
    ["text", Buffer.from("not a message at all")],
  ])("with %s is refused, and leaves all as it was", async (_what, bytes) => {
    await client.bulkSync(bulk);
    const sequence = await log.lastSequence();
    const { code, details } = await refused(client.bulkSync(bytes));
    expect(code).toBe(status.INVALID_ARGUMENT);
    expect(details).toContain("nothing was changed");
    expect(await everything()).toEqual(told);
    expect(await log.lastSequence()).toBe(sequence);
  });

  it("passes over fields that it does not know", async () => {
    // Field 15, text; field 16, a number.
    const unknown = Buffer.from([0x7a, 2, 0x68, 0x69, 0x80, 0x01, 5]);
    await client.bulkSync(Buffer.concat([unknown, bulkBytes(bulk), unknown]));
    expect(await everything()).toEqual(told);
  });

  it("leaves out the items that can't be used, and them alone", async () => {
    await client.bulkSync({
      routes: [...bulk.routes, { guid: "route.with.dots", host: "c.example.com" }, { guid: "route-c", host: "" }],
      routeMappings: [...bulk.routeMappings, { routeGuid: "route-a", capiProcessGuid: "", routeWeight: 1 }],
      capiDiegoProcessAssociations: [
        ...bulk.capiDiegoProcessAssociations,
        { capiProcessGuid: "", diegoProcessGuids: ["x"] },
      ],
    });
    expect(await everything()).toEqual(told);
  });

  it("larger than is allowed is refused with RESOURCE_EXHAUSTED, and its room is free again", async () => {
    await client.bulkSync(bulk);
    await restart({ maxBulkBytes: 10_000 });
    const large = Buffer.alloc(10_001);
    for (let round = 0; round < 3; round += 1) {
      const { code, details } = await refused(client.bulkSync(large, { chunkBytes: 1_000 }));
      expect(code).toBe(status.RESOURCE_EXHAUSTED);
      expect(details).toContain("10000 bytes");
    }
    expect(await everything()).toEqual(told);
    await client.bulkSync({});
    expect(await routes()).toEqual({});
  });

  it("that its client gives up changes nothing, and its room is free again", async () => {
    await client.bulkSync(bulk);
    await restart({ maxBulkBytes: 1_000 });
    const leaving = newClient();
    const giveUp = leaving.beginBulkSync(Buffer.alloc(900));
    await eventually(
      async () => (await refused(client.bulkSync(Buffer.alloc(900)))).code === status.RESOURCE_EXHAUSTED,
    );
    giveUp();
    await eventually(async () => (await client.bulkSync(bulk)).totalBytesReceived > 0);
    expect(await everything()).toEqual(told);
  });

  it("has what is new in the log before anything that goes", async () => {
    const many = (name: string, count: number) => ({
      routes: Array.from({ length: count }, (_, index) => ({
        guid: `${name}-${index}`,
        host: `h-${index}.example.com`,
      })),
      routeMappings: Array.from({ length: count }, (_, index) => ({
        routeGuid: `${name}-${index}`,
        capiProcessGuid: `process-${name}`,
        routeWeight: 1,
      })),
      capiDiegoProcessAssociations: [{ capiProcessGuid: `process-${name}`, diegoProcessGuids: [`process-${name}-v1`] }],
    });
    const old = many("old", 1_500);
    await client.bulkSync({ ...old, routes: [...old.routes, { guid: "mover", host: "h-x.example.com" }] });
    const sequence = await log.lastSequence();
    const fresh = many("new", 1_500);
    await client.bulkSync({
      ...fresh,
      routes: [{ guid: "mover", host: "away.example.com" }, ...fresh.routes, { guid: "heir", host: "h-x.example.com" }],
    });
    const seen: string[] = [];
    const ending = new AbortController();
    for await (const { entries, caughtUp } of log.follow(sequence, ending.signal)) {
      for (const { key, value } of entries) {
        const [kind = "", , name = ""] = key.split(".");
        seen.push(`${value ? "put" : "delete"} ${kind} ${/^[a-z]+/.exec(name)?.[0] ?? ""}`);
      }
      if (caughtUp) ending.abort();
    }
    expect(seen.filter((write, index) => write !== seen[index - 1])).toEqual([
      "put association process",
      "put route new",
      "put route heir",
      "put route mover",
      "delete route old",
      "delete association process",
    ]);
  });

  it("takes 100,000 routes in one call, while other calls are answered", async () => {
    const count = 100_000;
    const guid = (kind: string, index: number) => `${kind}-0000-4000-8000-${index.toString().padStart(12, "0")}`;
    const large = {
      routes: Array.from({ length: count }, (_, index) => ({
        guid: guid("aaaaaaaa", index),
        host: `app-${index}.apps.example.com`,
        internal: index % 10 === 0,
      })),
      routeMappings: Array.from({ length: count }, (_, index) => ({
        routeGuid: guid("aaaaaaaa", index),
        capiProcessGuid: guid("bbbbbbbb", index),
        routeWeight: 1,
      })),
      capiDiegoProcessAssociations: Array.from({ length: count }, (_, index) => ({
        capiProcessGuid: guid("bbbbbbbb", index),
        diegoProcessGuids: [`${guid("bbbbbbbb", index)}-${guid("cccccccc", index)}`],
      })),
    };
    const bytes = bulkBytes(large);
    const syncing = client.bulkSync(bytes);
    let isDone = false;
    void syncing.then(() => (isDone = true));
    const other = newClient();
    for (let call = 0; call < 10; call += 1) await other.call(method.health, {});
    expect(isDone).toBe(false);
    expect((await syncing).totalBytesReceived).toBe(bytes.length);
    expect(Object.keys(await routes())).toHaveLength(count);
    expect(Object.keys(await weights())).toHaveLength(count);
    expect(Object.keys(await associations())).toHaveLength(count);
    const sequence = await log.lastSequence();
    await client.bulkSync(bytes);
    expect(await log.lastSequence()).toBe(sequence);
  }, 120_000);
});

describe("when the log can't be written", () => {
  it("a call is refused as UNAVAILABLE, what is listed is what the log holds, and the next call goes on", async () => {
    const diskFull = new MeshError("MESH_LOG_UNAVAILABLE", "the disk is full", "free space");
    let failing: "before" | "after" | undefined;
    const breaking: MeshLog = {
      id: () => log.id(),
      get: (key) => log.get(key),
      read: (prefix) => log.read(prefix),
      follow: (afterSequence, signal) => log.follow(afterSequence, signal),
      lastSequence: () => log.lastSequence(),
      close: () => log.close(),
      async append(batch: readonly Write[]) {
        if (failing === "before") throw diskFull;
        const sequence = await log.append(batch);
        if (failing === "after") throw diskFull;
        return sequence;
      },
    };
    const second = await serve({ log: breaking });
    onTestFinished(() => second.close());
    const user = newClient({}, second);
    await upsert({ guid: "route-a", host: "a.example.com" }, user);
    failing = "before";
    expect(await refused(upsert({ guid: "route-b", host: "b.example.com" }, user))).toEqual({
      code: status.UNAVAILABLE,
      details: diskFull.message,
    });
    expect(await routes(user)).toEqual({ "route-a": "a.example.com" });
    expect(second.status.state).toBe("retrying");
    failing = "after";
    await refused(upsert({ guid: "route-c", host: "c.example.com" }, user));
    expect(await routes(user)).toEqual({ "route-a": "a.example.com", "route-c": "c.example.com" });
    failing = undefined;
    await upsert({ guid: "route-b", host: "b.example.com" }, user);
    expect(Object.keys(await routes(user))).toEqual(["route-a", "route-c", "route-b"]);
    expect(second.status).toMatchObject({ state: "following", lastError: undefined });
  });
});

describe("virtual addresses", () => {
  const internal = (guid: string, host = `${guid}.apps.internal`) => ({ guid, host, internal: true });

  it("are answered for a name in any case, with or without dots at its end", async () => {
    await upsert({ ...internal("i"), host: "Shop.apps.internal", vip: "127.200.1.2" });
    for (const name of ["shop.apps.internal", "SHOP.apps.internal", "shop.apps.internal."]) {
      expect(await vipOf(name)).toBe("127.200.1.2");
    }
  });

  it("of unknown names, external routes and deleted routes are refused with UNKNOWN", async () => {
    await upsert({ guid: "route-a", host: "a.example.com" });
    await upsert(internal("gone"));
    await client.call(method.deleteRoute, { guid: "gone" });
    await upsert(internal("moved"));
    await upsert(internal("moved", "elsewhere.apps.internal"));
    for (const fqdn of ["never.apps.internal.", "a.example.com", "gone.apps.internal", "moved.apps.internal"]) {
      const details = `route doesn't exist: ${fqdn}`;
      expect(await newResolver().refusal(resolver.getVIPByName, { fqdn })).toEqual({ code: status.UNKNOWN, details });
    }
  });

  it("stay a route's until it is deleted: told again, with another host, in bulk, after a restart", async () => {
    await upsert(internal("i"));
    const vip = await vipOf("i.apps.internal");
    expect(vip).toMatch(/^127\.(12[89]|1[3-9]\d|2\d\d)\./);
    await upsert(internal("i", "other.apps.internal"));
    await client.bulkSync({ routes: [internal("h"), internal("i", "other.apps.internal")] });
    await restart();
    expect(await vipOf("other.apps.internal")).toBe(vip);
    expect((await storedRoute("i"))?.vip).toBe(vip);
  });

  it("are never one for two routes: who names another's is refused", async () => {
    await upsert({ ...internal("first"), vip: "127.200.1.2" });
    expect(await client.refusal(method.upsertRoute, { route: { ...internal("second"), vip: "127.200.1.2" } })).toEqual({
      code: status.ALREADY_EXISTS,
      details: "vip 127.200.1.2 is route first's; nothing was changed",
    });
    await client.bulkSync({
      routes: [
        { ...internal("first"), vip: "127.200.1.2" },
        { ...internal("second"), vip: "127.200.1.2" },
      ],
    });
    expect(await vipOf("first.apps.internal")).toBe("127.200.1.2");
    expect(await vipOf("second.apps.internal")).not.toBe("127.200.1.2");
  });

  it("that are used up are refused clearly, and change nothing", async () => {
    await restart({ vipCidr: "10.255.0.0/30" });
    await upsert(internal("one"));
    await upsert(internal("two"));
    expect([await vipOf("one.apps.internal"), await vipOf("two.apps.internal")].sort()).toEqual([
      "10.255.0.1",
      "10.255.0.2",
    ]);
    const exhausted = { code: status.RESOURCE_EXHAUSTED };
    expect(await client.refusal(method.upsertRoute, { route: internal("three") })).toMatchObject(exhausted);
    const all = ["one", "two", "three"].map((guid) => internal(guid));
    expect(await refused(client.bulkSync({ routes: all }))).toMatchObject(exhausted);
    expect(Object.keys(await routes())).toEqual(["one", "two"]);
    await client.call(method.deleteRoute, { guid: "one" });
    await upsert(internal("three"));
  });
});

/** The suites that copilot had are for certificates with RSA keys. */
async function selfSignedRsa(): Promise<KeyPair> {
  const algorithm = {
    name: "RSASSA-PKCS1-v1_5",
    hash: "SHA-256",
    modulusLength: 2_048,
    publicExponent: new Uint8Array([1, 0, 1]),
  };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const certificate = await X509CertificateGenerator.createSelfSigned(
    { name: "CN=copilot", signingAlgorithm: algorithm, keys },
    webcrypto,
  );
  const key = PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey), "PRIVATE KEY");
  return { certificate: certificate.toString("pem"), key };
}

describe("who may call", () => {
  const failed = async (made: CopilotClient) => {
    onTestFinished(() => made.close());
    return (await made.refusal(method.health, {})).code;
  };

  it("is nobody without a certificate, or with one of another CA, or in plain text", async () => {
    const foreign = await createCertificates();
    const foreignClient = await foreign.issue({ commonName: "cloud-controller", usages: ["client"] });
    const withoutCertificate = credentials.createSsl(Buffer.from(certificates.ca));
    const unavailable = status.UNAVAILABLE;
    expect(await failed(new CopilotClient(server.port, withoutCertificate))).toBe(unavailable);
    expect(await failed(new CopilotClient(server.port, clientTls({ ca: certificates.ca, ...foreignClient })))).toBe(
      unavailable,
    );
    expect(await failed(new CopilotClient(server.port, credentials.createInsecure()))).toBe(unavailable);
    expect(await client.call(method.health, {})).toMatchObject({ healthy: true });
  });

  it("changes with the certificates, and connections that are open stay", async () => {
    const served = await serve();
    onTestFinished(() => served.close());
    const before = newClient({}, served);
    expect(await before.call(method.health, {})).toMatchObject({ healthy: true });

    const others = await createCertificates();
    served.useCertificates({ ca: others.ca, ...others.server });
    const theirs = await others.issue({ commonName: "cloud-controller", usages: ["client"] });
    const after = new CopilotClient(served.port, clientTls({ ca: others.ca, ...theirs }));
    onTestFinished(() => after.close());
    expect(await after.call(method.health, {})).toMatchObject({ healthy: true });
    const ofOldCa = clientTls({ ca: others.ca, ...clientKeyPair });
    expect(await failed(new CopilotClient(served.port, ofOldCa))).toBe(status.UNAVAILABLE);
    expect(await before.call(method.health, {})).toMatchObject({ healthy: true });
  });

  it("speaks TLS 1.2 at least, with copilot's cipher suites", async () => {
    const rsa = await selfSignedRsa();
    const second = await serve({ certificates: { ca: certificates.ca, ...rsa } });
    onTestFinished(() => second.close());
    const handshake = async (options: ConnectionOptions) => {
      const socket = connect({
        port: second.port,
        host: "127.0.0.1",
        rejectUnauthorized: false,
        ALPNProtocols: ["h2"],
        cert: clientKeyPair.certificate,
        key: clientKeyPair.key,
        ...options,
      });
      try {
        await once(socket, "secureConnect");
        return socket.getCipher().name;
      } catch {
        return "refused";
      } finally {
        socket.destroy();
      }
    };
    const version12 = { minVersion: "TLSv1.2", maxVersion: "TLSv1.2" } as const;
    expect(await handshake(version12)).toBe("ECDHE-RSA-AES256-GCM-SHA384");
    const allowed = ["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256"];
    for (const ciphers of allowed) expect(await handshake({ ...version12, ciphers })).toBe(ciphers);
    for (const ciphers of ["AES256-GCM-SHA384", "ECDHE-RSA-AES128-SHA", "ECDHE-RSA-CHACHA20-POLY1305"]) {
      expect(await handshake({ ...version12, ciphers })).toBe("refused");
    }
    expect(await handshake({ minVersion: "TLSv1.1", maxVersion: "TLSv1.1", ciphers: "DEFAULT@SECLEVEL=0" })).toBe(
      "refused",
    );
    expect(await handshake({ minVersion: "TLSv1.3" })).toMatch(/^TLS_AES/);
  });

  it("can ask what is served: each port tells of its own service", async () => {
    for (const version of ["v1", "v1alpha"] as const) {
      expect(await client.services(version)).toContain("api.CloudControllerCopilot");
      const names = await newResolver().services(version);
      expect(names).toContain("api.VIPResolverCopilot");
      expect(names).not.toContain("api.CloudControllerCopilot");
    }
  });

  it("is told at the start which certificates can't be used, and which port is taken", async () => {
    await expect(serve({ certificates: { ca: "x", certificate: "y", key: "z" } })).rejects.toMatchObject({
      code: "MESH_CONFIG_INVALID",
    });
    await expect(serve({ listen: { address: "127.0.0.1", port: server.port } })).rejects.toMatchObject({
      code: "MESH_PORT_TAKEN",
    });
  });
});

it("answers the calls under way before it closes", async () => {
  const calls = Array.from({ length: 20 }, (_, index) => map("route-a", `process-${index}`));
  const answers = Promise.allSettled(calls);
  await eventually(async () => (await log.lastSequence()) > 0);
  await server.close();
  const done = (await answers).filter(({ status: outcome }) => outcome === ("fulfilled" as typeof outcome)).length;
  expect(done).toBeGreaterThan(0);
  expect((await storedRoute("route-a"))?.destinations.length).toBeGreaterThanOrEqual(done);
  server = await serve();
});
