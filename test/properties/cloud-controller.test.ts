import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { startFoundation, type Foundation } from "../../src/emulator/foundation.js";
import type { Fault } from "../../src/emulator/http/faults.js";
import { KEY_SPACES } from "../../src/entries/keys.js";
import { silentLogger } from "../../src/lib/logger.js";
import { openEmbeddedLog } from "../../src/log/embedded.js";
import { openKeySpaceWriter } from "../../src/log/key-space-writer.js";
import type { MeshLog } from "../../src/log/log.js";
import { RoutingTable } from "../../src/model/routing-table.js";
import { cloudControllerSource } from "../../src/sources/cloud-controller/cloud-controller.js";
import { Api } from "../support/api.js";
import { MemoryDiego } from "../support/emulated-foundation.js";
import { eventually } from "../support/eventually.js";
import { runs, RUNS_TIMEOUT_MS } from "../support/random-runs.js";

const DOMAIN = "apps.example.test";
/** One of the hosts is of this one, which enforces route policies. */
const POLICED_DOMAIN = "apps.identity";
const POLICED_HOST = "b";
const APPS = ["blue", "green", "red"];
const HOSTS = ["a", "b", "*"];

const host = fc.constantFrom(...HOSTS);
const app = fc.nat(APPS.length - 1);
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("map" as const), host, app }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant("weigh" as const), host, share: fc.integer({ min: 1, max: 99 }) }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("unmap" as const), host }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("delete" as const), host }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("options" as const), host }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("restart" as const) }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant("policy" as const), source: fc.constantFrom("cf:app:a1", "cf:space:b2") }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("fault" as const),
      times: fc.integer({ min: 1, max: 4 }),
      fault: fc.constantFrom<Fault>(
        { kind: "invalid-token" },
        { kind: "status", status: 500 },
        { kind: "status", status: 503 },
        { kind: "garbage" },
        { kind: "truncated" },
        { kind: "drop" },
      ),
    }),
  },
);

/** Follows Cloud Controller into a log; `restart` ends it and begins anew, as a process that was killed does. */
function follow(foundation: Foundation, log: MeshLog) {
  let ending = new AbortController();
  let ended: Promise<void> = Promise.resolve();
  const begin = async () => {
    ending = new AbortController();
    const credentials = { clientSecret: foundation.clientSecret };
    const source = cloudControllerSource({
      apiUrls: [foundation.apiUrl],
      clientId: foundation.clientId,
      credentials: () => credentials,
      requestsPerSecond: 100,
      resyncIntervalMs: 300,
      pageSize: 2,
      logger: silentLogger,
    });
    ended = source.run(await openKeySpaceWriter(log, KEY_SPACES.cloudControllerRoutes), ending.signal);
    return source;
  };
  const stop = async () => {
    ending.abort();
    await ended;
  };
  return { begin, stop };
}

/** What the log means for a router. */
async function tableOf(log: MeshLog): Promise<unknown> {
  const table = new RoutingTable({ dialsTls: false });
  for await (const entries of log.read()) table.apply(entries);
  return [...table.groups()].toSorted().map((group) => table.group(group));
}

describe("the Cloud Controller source", () => {
  it(
    "ends with the table that a fresh full read gives, whatever changed and failed meanwhile",
    async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 3, maxLength: 15 }), async (steps) => {
          const directory = await mkdtemp(join(tmpdir(), "cf-mesh-"));
          const foundation = await startFoundation({
            appDomains: [DOMAIN],
            diego: new MemoryDiego(),
            logger: silentLogger,
          });
          const log = await openEmbeddedLog({ directory: join(directory, "log") });
          const fresh = await openEmbeddedLog({ directory: join(directory, "fresh") });
          const following = follow(foundation, log);
          const reading = follow(foundation, fresh);
          try {
            const api = new Api(foundation.apiUrl, await foundation.adminToken());
            const space = { data: { guid: await api.find("/v3/spaces?names=dev") } };
            const open = { data: { guid: await api.find(`/v3/domains?names=${DOMAIN}`) } };
            const enforcing = { name: POLICED_DOMAIN, enforce_route_policies: true, route_policies_scope: "org" };
            const policed = { data: { guid: await api.create("/v3/domains", enforcing) } };
            const apps = await Promise.all(
              APPS.map((name) => api.create("/v3/apps", { name, relationships: { space } })),
            );
            const destination = (place: number) => ({ app: { guid: apps[place] } });
            const routes = new Map<string, string>();
            const policies = new Map<string, string>();
            const routeOf = async (name: string) => {
              const known = routes.get(name);
              if (known !== undefined) return known;
              const domain = name === POLICED_HOST ? policed : open;
              const made = await api.create("/v3/routes", { host: name, relationships: { space, domain } });
              routes.set(name, made);
              return made;
            };
            await following.begin();
            for (const one of steps) {
              switch (one.kind) {
                case "fault":
                  // What it follows with, not what changes things.
                  foundation.faults.inject({ path: /^\/v3\//, method: "GET", times: one.times, fault: one.fault });
                  break;
                case "restart":
                  await following.stop();
                  await following.begin();
                  break;
                case "map":
                  await api.send("POST", `/v3/routes/${await routeOf(one.host)}/destinations`, {
                    destinations: [destination(one.app)],
                  });
                  break;
                case "weigh":
                  await api.call("PATCH", `/v3/routes/${await routeOf(one.host)}/destinations`, {
                    destinations: [
                      { ...destination(0), weight: one.share },
                      { ...destination(1), weight: 100 - one.share },
                    ],
                  });
                  break;
                case "policy": {
                  const route = { data: { guid: await routeOf(POLICED_HOST) } };
                  const key = `${route.data.guid} ${one.source}`;
                  const there = policies.get(key);
                  if (there !== undefined) await api.call("DELETE", `/v3/route_policies/${there}`);
                  policies.delete(key);
                  if (there !== undefined) break;
                  const made = { source: one.source, relationships: { route } };
                  policies.set(key, await api.create("/v3/route_policies", made));
                  break;
                }
                case "unmap":
                  await api.call("PATCH", `/v3/routes/${await routeOf(one.host)}/destinations`, { destinations: [] });
                  break;
                case "options":
                  await api.call("PATCH", `/v3/routes/${await routeOf(one.host)}`, {
                    options: { loadbalancing: "least-connection" },
                  });
                  break;
                case "delete":
                  await api.call("DELETE", `/v3/routes/${await routeOf(one.host)}`);
                  routes.delete(one.host);
                  break;
              }
            }
            foundation.faults.clear();
            const source = await reading.begin();
            await eventually(() => source.status.state === "following");
            await eventually(async () => {
              expect(await tableOf(log)).toEqual(await tableOf(fresh));
              return true;
            });
          } finally {
            await Promise.all([following.stop(), reading.stop()]);
            await foundation.close();
            await Promise.all([log.close(), fresh.close()]);
            await rm(directory, { recursive: true, force: true });
          }
        }),
        runs(6),
      );
    },
    RUNS_TIMEOUT_MS * 2,
  );
});
