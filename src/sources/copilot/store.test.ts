import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, expect, it } from "vitest";
import { KEY_SPACES } from "../../entries/keys.js";
import { openEmbeddedLog } from "../../log/embedded.js";
import { openKeySpaceWriter } from "../../log/key-space-writer.js";
import type { MeshLog } from "../../log/log.js";
import { Refusal } from "./faults.js";
import type { ToldRoute } from "./picture.js";
import { type CopilotStore, openStore } from "./store.js";
import { vipRange } from "./vips.js";

let directory: string;
let log: MeshLog;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "cf-mesh-"));
  log = await openEmbeddedLog({ directory });
});
afterEach(async () => {
  await log.close();
  await rm(directory, { recursive: true, force: true });
});

const open = async (cidr: string): Promise<CopilotStore> =>
  openStore({
    log,
    routes: await openKeySpaceWriter(log, KEY_SPACES.copilotRoutes),
    associations: await openKeySpaceWriter(log, KEY_SPACES.copilotAssociations),
    vipRange: vipRange(cidr),
  });

const bulkOf = (routes: Iterable<ToldRoute>) => ({
  routes: new Map([...routes].map((route) => [route.guid, route])),
  weights: new Map<string, ReadonlyMap<string, number>>(),
  associations: new Map<string, readonly string[]>(),
  leftOut: { count: 0, examples: [] },
});

const route = fc.record({
  guid: fc.constantFrom("a", "b", "c", "d", "e"),
  host: fc.constantFrom("x.apps.internal", "y.apps.internal"),
  path: fc.constantFrom("", "/p"),
  internal: fc.boolean(),
  vip: fc.constantFrom("", "", "", "10.0.0.1", "10.0.0.2", "192.168.7.7"),
});
const step = fc.oneof(
  fc.record({ kind: fc.constant("upsert" as const), route }),
  fc.record({ kind: fc.constant("delete" as const), guid: fc.constantFrom("a", "b", "c", "d", "e") }),
  fc.record({ kind: fc.constant("bulk" as const), routes: fc.array(route, { maxLength: 6 }) }),
  fc.record({ kind: fc.constant("restart" as const) }),
);

it("no two routes ever have one vip, every internal one has one, and keeps it while nobody names another", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
      // Four addresses for up to five routes.
      let store = await open("10.0.0.0/29");
      await store.replaceAll(bulkOf([]));
      for (const done of steps) {
        const before = new Map(store.picture.routes);
        const told = done.kind === "upsert" ? [done.route] : done.kind === "bulk" ? done.routes : [];
        const named = new Set<string>(told.map(({ vip }) => vip));
        try {
          if (done.kind === "upsert") await store.upsertRoute(done.route);
          if (done.kind === "delete") await store.deleteRoute(done.guid);
          if (done.kind === "bulk") await store.replaceAll(bulkOf(told));
          if (done.kind === "restart") store = await open("10.0.0.0/29");
        } catch (error) {
          if (!(error instanceof Refusal)) throw error;
          expect(new Map(store.picture.routes)).toEqual(before);
        }
        const routes = [...store.picture.routes.values()];
        const vips = routes.map(({ vip }) => vip).filter((vip) => vip !== "");
        expect(new Set(vips).size).toBe(vips.length);
        for (const { guid, internal, vip } of routes) {
          if (internal) expect(vip).not.toBe("");
          const old = before.get(guid)?.vip ?? "";
          if (old !== "" && vip !== old) expect(named.has(vip) || named.has(old)).toBe(true);
        }
      }
      const stored = (await open("10.0.0.0/29")).picture.routes;
      expect([...stored.values()].sort((a, b) => (a.guid < b.guid ? -1 : 1))).toEqual(
        [...store.picture.routes.values()].sort((a, b) => (a.guid < b.guid ? -1 : 1)),
      );
    }),
    { numRuns: 100 },
  );
});

it("gives routes the same vips in whatever order they are told", async () => {
  const routes = Array.from({ length: 200 }, (_, index) => ({
    guid: `route-${index}`,
    host: `h-${index}.apps.internal`,
    path: "",
    internal: true,
    vip: "",
  }));
  const vipsOf = (store: CopilotStore) => new Map([...store.picture.routes].map(([guid, { vip }]) => [guid, vip]));
  const store = await open("127.128.0.0/9");
  await store.replaceAll(bulkOf(routes));
  const first = vipsOf(store);
  await store.replaceAll(bulkOf([]));
  await store.replaceAll(bulkOf(routes.toReversed()));
  expect(vipsOf(store)).toEqual(first);
  await store.replaceAll(bulkOf([]));
  for (const one of routes.slice(50, 60)) await store.upsertRoute(one);
  for (const [guid, vip] of vipsOf(store)) expect(vip).toBe(first.get(guid));
});

it.each([
  ["127.128.0.0/9", "127.128.0.1", 2 ** 23 - 2],
  ["10.1.2.3/24", "10.1.2.1", 254],
  ["255.255.255.252/30", "255.255.255.253", 2],
  ["10.0.0.7/32", "10.0.0.7", 1],
])("the addresses of %s begin at %s, and are %i", (cidr, first, count) => {
  const range = vipRange(cidr);
  expect([24, 16, 8, 0].map((shift) => (range.first >>> shift) & 0xff).join(".")).toBe(first);
  expect(range.count).toBe(count);
});
