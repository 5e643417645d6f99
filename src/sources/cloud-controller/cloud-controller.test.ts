import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, it, onTestFinished } from "vitest";
import {
  APP_DOMAIN,
  type EmulatedFoundation,
  type Shown,
  startEmulatedFoundation,
} from "../../../test/support/emulated-foundation.js";
import { eventually } from "../../../test/support/eventually.js";
import type { Fault } from "../../emulator/http/faults.js";
import { decodeRoute, type Route } from "../../entries/entries.js";
import { KEY_SPACES } from "../../entries/keys.js";
import { systemClock } from "../../lib/clock.js";
import { createLogger } from "../../lib/logger.js";
import { openEmbeddedLog } from "../../log/embedded.js";
import { type KeySpaceWriter, openKeySpaceWriter } from "../../log/key-space-writer.js";
import type { MeshLog } from "../../log/log.js";
import { type CloudControllerOptions, type CloudControllerSource, cloudControllerSource } from "./cloud-controller.js";

const KEY_SPACE = KEY_SPACES.cloudControllerRoutes;

/** The mesh log as a reader who follows it knows it. */
class Reader {
  readonly routes = new Map<string, Route>();
  readonly #changed = new Set<() => void>();

  constructor(log: MeshLog, signal: AbortSignal) {
    void this.#follow(log, signal);
  }

  /** Resolves once `find` returns something, looked for after each batch of the log. */
  async until<T>(find: (routes: ReadonlyMap<string, Route>) => T | undefined | false): Promise<T> {
    for (;;) {
      const found = find(this.routes);
      if (found !== undefined && found !== false) return found;
      await new Promise<void>((resolve) => this.#changed.add(resolve));
    }
  }

  route(guid: string, is: (route: Route) => boolean = () => true): Promise<Route> {
    return this.until((routes) => {
      const route = routes.get(guid);
      return route && is(route) ? route : undefined;
    });
  }

  async gone(guid: string): Promise<void> {
    await this.until((routes) => !routes.has(guid));
  }

  async #follow(log: MeshLog, signal: AbortSignal): Promise<void> {
    for await (const { entries } of log.follow(0, signal)) {
      for (const { key, value } of entries) {
        if (value) this.routes.set(key.slice(KEY_SPACE.length), decodeRoute(value));
        else this.routes.delete(key.slice(KEY_SPACE.length));
      }
      for (const resolve of this.#changed) resolve();
      this.#changed.clear();
    }
  }
}

let cf: EmulatedFoundation;
let log: MeshLog;
let reader: Reader;
const logLines: { level: string; msg: string; guid?: string }[] = [];

beforeEach(async () => {
  logLines.length = 0;
  cf = await startEmulatedFoundation({ clock: systemClock });
  const directory = await mkdtemp(join(tmpdir(), "cloud-controller-"));
  log = await openEmbeddedLog({ directory });
  const stop = new AbortController();
  reader = new Reader(log, stop.signal);
  return async () => {
    stop.abort();
    await log.close();
    await cf.close();
    await rm(directory, { recursive: true, force: true });
  };
});

interface Running {
  readonly source: CloudControllerSource;
  readonly writer: KeySpaceWriter;
  readonly stop: () => Promise<void>;
}

const logger = createLogger("debug", {
  write: (line: string) => void logLines.push(JSON.parse(line) as (typeof logLines)[number]),
});

async function run(options: Partial<CloudControllerOptions> = {}): Promise<Running> {
  const { apiUrl, clientId, clientSecret } = cf.foundation;
  const credentials = { clientSecret };
  const source = cloudControllerSource({
    apiUrls: [apiUrl],
    clientId,
    credentials: () => credentials,
    requestsPerSecond: 50,
    logger,
    ...options,
  });
  const writer = await openKeySpaceWriter(log, KEY_SPACE);
  const abort = new AbortController();
  const ended = source.run(writer, abort.signal);
  const stop = async () => {
    abort.abort();
    await ended;
  };
  onTestFinished(stop);
  return { source, writer, stop };
}

/** A source that has read everything once. */
async function following(options: Partial<CloudControllerOptions> = {}): Promise<Running> {
  const running = await run(options);
  await eventually(() => running.source.status.state === "following");
  return running;
}

interface Proxy {
  readonly url: string;
  /** So many answers to come tell a time of another century. */
  lie(count: number): void;
  /** Resolves when it was asked once more after the last lie. */
  truth(): Promise<void>;
}

/** Between the source and the API: a load balancer whose clock is wrong. */
async function startProxy(apiUrl: string): Promise<Proxy> {
  let lies = 0;
  let truths = 0;
  const server = createServer((request, response) => {
    void fetch(`${apiUrl}${request.url ?? ""}`, {
      headers: { authorization: request.headers.authorization ?? "" },
    }).then(
      async (answer) => {
        const date = lies > 0 ? "Fri, 01 Jan 2100 00:00:00 GMT" : (answer.headers.get("date") ?? "");
        if (lies > 0) lies -= 1;
        else truths += 1;
        response.writeHead(answer.status, { date, "content-type": "application/json" }).end(await answer.text());
      },
      () => response.destroy(),
    );
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    lie(count) {
      [lies, truths] = [count, 0];
    },
    async truth() {
      await eventually(() => truths > 0);
    },
  };
}

const destination = (appGuid: string, more: object = {}, type?: string) => ({
  app: { guid: appGuid, ...(type !== undefined && { process: { type } }) },
  ...more,
});
const map = (route: Shown, ...destinations: object[]) =>
  cf.patch(`/v3/routes/${route.guid}/destinations`, { destinations });
const remove = (path: string) => cf.call("DELETE", path);
const weightsOf = ({ destinations }: Route) => destinations.map(({ weight }) => weight).sort((a, b) => a - b);

describe("the first read", () => {
  it("writes each route with its destinations, weights, options and names", async () => {
    const [blue, green] = [await cf.app("blue"), await cf.app("green")];
    const shop = await cf.route("Shop", { path: "/cart", options: { loadbalancing: "least-connection" } });
    await map(shop, destination(blue, { weight: 90 }), destination(green, { weight: 10, protocol: "http2" }));
    await following();
    const route = await reader.route(shop.guid);
    expect(route).toMatchObject({
      guid: shop.guid,
      host: `shop.${APP_DOMAIN}`,
      path: "/cart",
      internal: false,
      protocol: "http",
      options: { loadbalancing: "least-connection", hashHeader: "", hashBalance: "" },
      labels: { organizationName: "laptop", spaceName: "dev" },
    });
    const [web] = (await cf.get(`/v3/processes?app_guids=${green}&types=web`)).resources;
    expect(route.destinations).toHaveLength(2);
    expect(route.destinations).toContainEqual(
      expect.objectContaining({
        appGuid: green,
        processGuid: web.guid,
        weight: 10,
        port: 8080,
        protocol: "http2",
        appName: "green",
      }),
    );
  });

  it("knows the processes of apps that are stopped, that never started, and of other types than web", async () => {
    const stopped = await cf.app("stopped");
    await cf.post(`/v3/apps/${stopped}/actions/stop`, {});
    const relationships = { space: { data: { guid: cf.spaceGuid } } };
    const { guid: neverStarted } = await cf.post("/v3/apps", { name: "never-started", relationships });
    const shop = await cf.route("shop", { options: { loadbalancing: "round-robin" } });
    await map(
      shop,
      destination(stopped, { port: 9090 }),
      destination(neverStarted),
      destination(stopped, {}, "worker"),
    );
    await following();
    const { destinations } = await reader.route(shop.guid);
    const shown = destinations.map(({ appName, processType, port, processGuid }) => ({
      ...{ appName, processType, port },
      isKnown: processGuid !== "",
    }));
    expect(shown).toHaveLength(3);
    expect(shown).toContainEqual({ appName: "stopped", processType: "web", port: 9090, isKnown: true });
    expect(shown).toContainEqual({ appName: "never-started", processType: "web", port: 8080, isKnown: true });
    expect(shown).toContainEqual({ appName: "stopped", processType: "worker", port: 8080, isKnown: false });
  });

  it("reads page after page, however the pages change meanwhile", async () => {
    const routes = [];
    for (let place = 0; place < 25; place += 1) routes.push(await cf.route(`r-${place}`));
    const doomed = routes.slice(0, 5);
    cf.foundation.faults.betweenPages = async ({ path }) => {
      if (path !== "/v3/routes") return;
      const next = doomed.shift();
      if (next) await remove(`/v3/routes/${next.guid}`);
    };
    await run({ pageSize: 5 });
    const staying = routes.slice(5).map(({ guid }) => guid);
    await reader.until((known) => staying.every((guid) => known.has(guid)) && known.size === 20);
  });

  it("writes nothing while any part of it fails", async () => {
    await cf.route("a");
    const fault = cf.foundation.faults.inject({ path: "/v3/processes", fault: { kind: "status", status: 500 } });
    const { source, writer } = await run();
    await eventually(() => source.status.state === "retrying");
    expect(source.status.lastError).toMatch(/Cloud Controller at .*\/v3\/processes answered 500/);
    expect([...writer.keys()]).toEqual([]);
    fault.clear();
    await reader.until((routes) => routes.size === 1);
    await eventually(() => source.status.state === "following");
  });

  it("writes nothing when it starts again and nothing changed", async () => {
    for (let place = 0; place < 10; place += 1) await cf.route(`r-${place}`);
    const first = await following();
    await first.stop();
    const sequence = await log.lastSequence();
    const second = await following();
    expect(second.source.status.lastSyncMs).toBeTypeOf("number");
    expect(await log.lastSequence()).toBe(sequence);
  });

  it("deletes what went away while nobody looked", async () => {
    const [kept, gone] = [await cf.route("kept"), await cf.route("gone")];
    await (await following()).stop();
    await remove(`/v3/routes/${gone.guid}`);
    await following();
    await reader.gone(gone.guid);
    expect([...reader.routes.keys()]).toEqual([kept.guid]);
  });

  it("stops at once, whatever it waits for", async () => {
    cf.foundation.faults.inject({ path: "/v3/routes", fault: { kind: "slow" } });
    const asked = cf.foundation.faults.inject({ path: "/v3/routes", fault: { kind: "slow" } }).nextHit();
    const { stop } = await run();
    await asked;
    await stop();
  });
});

describe("a change through the API is in the log by the next reads", () => {
  // Full reads are far away: what is seen is seen by following.
  const options = { resyncIntervalMs: 3_600_000 };

  it("a new route, and its deletion", async () => {
    await following(options);
    const route = await cf.route("new");
    await reader.route(route.guid);
    await remove(`/v3/routes/${route.guid}`);
    await reader.gone(route.guid);
  });

  it("mapping, reweighing and unmapping", async () => {
    const [blue, green] = [await cf.app("blue"), await cf.app("green")];
    const shop = await cf.route("shop");
    await following(options);
    await map(shop, destination(blue));
    await reader.route(shop.guid, ({ destinations }) => destinations.length === 1);
    await map(shop, destination(blue, { weight: 50 }), destination(green, { weight: 50 }));
    await reader.route(shop.guid, (route) => weightsOf(route).join() === "50,50");
    await map(shop, destination(blue, { weight: 1 }), destination(green, { weight: 99 }));
    await reader.route(shop.guid, (route) => weightsOf(route).join() === "1,99");
    await map(shop);
    await reader.route(shop.guid, ({ destinations }) => destinations.length === 0);
  });

  it("options, of which no audit event tells, twice in the same second", async () => {
    const shop = await cf.route("shop");
    await following(options);
    for (const loadbalancing of ["least-connection", "round-robin", "least-connection"]) {
      await cf.patch(`/v3/routes/${shop.guid}`, { options: { loadbalancing } });
      await reader.route(shop.guid, (route) => route.options?.loadbalancing === loadbalancing);
    }
  });

  it("a route's binding to a route service, the service's new URL, and the end of it", async () => {
    const relationships = { space: { data: { guid: cf.spaceGuid } } };
    const fields = {
      type: "user-provided",
      name: "guard",
      route_service_url: "https://one.example.test",
      relationships,
    };
    const guard = await cf.post("/v3/service_instances", fields);
    const bind = (route: Shown) =>
      cf.post("/v3/service_route_bindings", {
        relationships: { route: { data: { guid: route.guid } }, service_instance: { data: { guid: guard.guid } } },
      });
    const [before, shop] = [await cf.route("before"), await cf.route("shop")];
    await bind(before);
    await following(options);
    await reader.route(before.guid, ({ routeServiceUrl }) => routeServiceUrl === "https://one.example.test");
    const binding = await bind(shop);
    await reader.route(shop.guid, ({ routeServiceUrl }) => routeServiceUrl === "https://one.example.test");
    await cf.patch(`/v3/service_instances/${guard.guid}`, { route_service_url: "https://two.example.test" });
    for (const route of [before, shop]) {
      await reader.route(route.guid, ({ routeServiceUrl }) => routeServiceUrl === "https://two.example.test");
    }
    await remove(`/v3/service_route_bindings/${binding.guid}`);
    await reader.route(shop.guid, ({ routeServiceUrl }) => routeServiceUrl === "");
    expect(reader.routes.get(before.guid)?.routeServiceUrl).toBe("https://two.example.test");
  });

  it("route policies that come and go, of the routes of domains that enforce them", async () => {
    const domain = await cf.post("/v3/domains", {
      ...{ name: "apps.identity", enforce_route_policies: true, route_policies_scope: "space" },
    });
    const policed = (host: string) =>
      cf.post("/v3/routes", {
        host,
        relationships: { space: { data: { guid: cf.spaceGuid } }, domain: { data: { guid: domain.guid } } },
      });
    const add = (route: Shown, source: string) =>
      cf.post("/v3/route_policies", { source, relationships: { route: { data: { guid: route.guid } } } });
    const [before, shop, plain] = [await policed("before"), await policed("shop"), await cf.route("plain")];
    const blue = await cf.app("blue");
    await map(before, destination(blue));
    const early = await add(before, "cf:app:a1");
    await following(options);
    const becomes = (route: Shown, ...sources: string[]) =>
      reader.route(route.guid, (entry) => entry.options?.routePolicySources.join() === sources.join());
    const known = await becomes(before, "cf:app:a1");
    const organization = (await cf.get(`/v3/spaces/${cf.spaceGuid}`)).relationships.organization.data.guid;
    expect(known.options).toMatchObject({ routePolicyScope: "space" });
    expect(known.destinations).toMatchObject([{ spaceGuid: cf.spaceGuid, organizationGuid: organization }]);
    expect((await becomes(shop)).options).toMatchObject({ routePolicyScope: "space" });
    const [first] = [await add(shop, "cf:space:b2"), await add(shop, "cf:app:c3")];
    await becomes(shop, "cf:app:c3", "cf:space:b2");
    await remove(`/v3/route_policies/${first.guid}`);
    await becomes(shop, "cf:app:c3");
    await remove(`/v3/route_policies/${early.guid}`);
    await becomes(before);
    expect((await reader.route(plain.guid)).options).toBeUndefined();
  });

  it("an app that is new", async () => {
    const shop = await cf.route("shop");
    await following(options);
    const blue = await cf.app("blue");
    await map(shop, destination(blue));
    const route = await reader.route(shop.guid, ({ destinations }) => destinations.length === 1);
    expect(route.destinations[0]).toMatchObject({ appGuid: blue, processGuid: blue, appName: "blue" });
  });

  it("an app that is renamed, on each of its routes", async () => {
    const blue = await cf.app("blue");
    const routes = [await cf.route("a"), await cf.route("b")];
    for (const route of routes) await map(route, destination(blue));
    await following(options);
    await cf.patch(`/v3/apps/${blue}`, { name: "navy" });
    for (const { guid } of routes) await reader.route(guid, (route) => route.destinations[0]?.appName === "navy");
  });

  it("an app that is deleted: its destinations vanish", async () => {
    const [blue, green] = [await cf.app("blue"), await cf.app("green")];
    const shop = await cf.route("shop");
    await map(shop, destination(blue), destination(green));
    await following(options);
    await reader.route(shop.guid, ({ destinations }) => destinations.length === 2);
    await remove(`/v3/apps/${blue}`);
    await reader.route(shop.guid, ({ destinations }) => destinations.map(({ appName }) => appName).join() === "green");
  });

  it("a domain that is deleted: its routes vanish, though no event tells of them", async () => {
    const domain = await cf.post("/v3/domains", { name: "other.example.test" });
    const relationships = { space: { data: { guid: cf.spaceGuid } }, domain: { data: { guid: domain.guid } } };
    const [kept, gone] = [await cf.route("kept"), await cf.route("gone", { relationships })];
    await following(options);
    await reader.route(gone.guid);
    await remove(`/v3/domains/${domain.guid}`);
    await reader.gone(gone.guid);
    expect([...reader.routes.keys()]).toEqual([kept.guid]);
  });

  it.each([
    ["all along its start", 4],
    ["for a while", 40],
  ])("what happens after answers of a time far in the future, %s", async (_when, count) => {
    const far = await startProxy(cf.foundation.apiUrl);
    const [blue, green] = [await cf.app("blue"), await cf.app("green")];
    const shop = await cf.route("shop");
    await map(shop, destination(blue));
    far.lie(count);
    await following({ apiUrls: [far.url], uaaUrls: [cf.foundation.uaaUrl], resyncIntervalMs: 3_600_000 });
    await far.truth();
    // Of a mapping only the events tell.
    await map(shop, destination(green));
    await reader.route(shop.guid, ({ destinations }) => destinations[0]?.appGuid === green);
  });

  it("a route that was created before the source's overlap began, when someone hints at it", async () => {
    const blue = await cf.app("blue");
    const shop = await cf.route("shop");
    const { source } = await following({ ...options, requestsPerSecond: 0.2 });
    await map(shop, destination(blue));
    source.refresh({ processGuids: [blue] });
    await reader.route(shop.guid, ({ destinations }) => destinations.length === 1);
    await map(shop);
    source.refresh({ appGuids: [blue] });
    await reader.route(shop.guid, ({ destinations }) => destinations.length === 0);
    await remove(`/v3/routes/${shop.guid}`);
    source.refresh({ routeGuids: [shop.guid] });
    await reader.gone(shop.guid);
  });

  it("at the cost of one request per look while nothing changes, two for events to each for updates", async () => {
    await cf.route("shop");
    await following(options);
    const { requests } = cf.foundation;
    for (let poll = 0; poll < 4; poll += 1) await requests.next(/^\/v3/);
    requests.clear();
    for (let poll = 0; poll < 20; poll += 1) await requests.next(/^\/v3/);
    const counts = { events: requests.count("/v3/audit_events"), routes: requests.count("/v3/routes") };
    expect(Math.abs(counts.events - 2 * counts.routes)).toBeLessThanOrEqual(3);
    expect(counts.events + counts.routes).toBe(requests.count(/^\//));
  });
});

describe("names that change without an event", () => {
  it("are taken over by the next full read", async () => {
    const shop = await cf.route("shop");
    await following({ resyncIntervalMs: 100 });
    await cf.patch(`/v3/spaces/${cf.spaceGuid}`, { name: "prod" });
    await cf.patch(`/v3/organizations/${cf.organizationGuid}`, { name: "acme" });
    const route = await reader.route(shop.guid, ({ labels }) => labels?.organizationName === "acme");
    expect(route.labels?.spaceName).toBe("prod");
  });
});

describe("a full read beside changes", () => {
  it("neither holds them up nor takes them back", async () => {
    const blue = await cf.app("blue");
    const [kept, gone] = [await cf.route("kept"), await cf.route("gone")];
    const { source } = await following({ resyncIntervalMs: 200 });
    const first = source.status.lastSyncMs;
    // Its read of all processes, not those of some apps.
    const path = /^\/v3\/processes\?(?!.*app_guids)/;
    const held = cf.foundation.faults.inject({ path, times: 1, fault: { kind: "slow" } });
    await held.nextHit();
    await map(kept, destination(blue));
    await remove(`/v3/routes/${gone.guid}`);
    await reader.route(kept.guid, ({ destinations }) => destinations.length === 1);
    await reader.gone(gone.guid);
    const sequence = await log.lastSequence();
    held.release();
    await eventually(() => source.status.lastSyncMs !== first);
    expect(await log.lastSequence()).toBe(sequence);
  });
});

describe("when the platform fails", () => {
  const FAULTS: { fault: Fault; error: RegExp }[] = [
    { fault: { kind: "status", status: 500 }, error: /MESH_SOURCE_UNREACHABLE.*answered 500/ },
    { fault: { kind: "drop" }, error: /MESH_SOURCE_UNREACHABLE/ },
    { fault: { kind: "truncated" }, error: /MESH_SOURCE_UNREACHABLE/ },
    { fault: { kind: "garbage" }, error: /MESH_SOURCE_MALFORMED.*no JSON/ },
    { fault: { kind: "invalid-token" }, error: /MESH_SOURCE_REFUSED.*answered 401/ },
    { fault: { kind: "rate-limited", retryAfterSeconds: 1 }, error: /MESH_SOURCE_REFUSED.*429.*in 1 s/ },
  ];

  it.each(FAULTS)(
    "with $fault.kind, nothing changes, one line tells of it, and it recovers",
    async ({ fault, error }) => {
      const shop = await cf.route("shop");
      const { source } = await following({ resyncIntervalMs: 50 });
      await reader.route(shop.guid);
      const sequence = await log.lastSequence();
      const injected = cf.foundation.faults.inject({ path: /^\/v3/, method: "GET", fault });
      await eventually(() => source.status.state === "retrying");
      expect(source.status.lastError).toMatch(error);
      expect(source.status.lastError).toContain("stay as they are");
      await eventually(() => injected.hitCount > 2);
      expect(await log.lastSequence()).toBe(sequence);
      expect(logLines.filter(({ level }) => level === "warn")).toHaveLength(1);
      injected.clear();
      await cf.patch(`/v3/routes/${shop.guid}`, { options: { loadbalancing: "least-connection" } });
      await reader.route(shop.guid, (route) => route.options?.loadbalancing === "least-connection");
      await eventually(() => source.status.state === "following");
      expect(source.status.lastError).toBeUndefined();
      expect(logLines.filter(({ msg }) => msg.includes("can be read again"))).toHaveLength(1);
    },
  );

  it("waits as long as the rate limit says", async () => {
    await following();
    const limited = cf.foundation.faults.inject({
      path: /^\/v3/,
      fault: { kind: "rate-limited", retryAfterSeconds: 3600 },
    });
    const { requests } = cf.foundation;
    await limited.nextHit();
    const hits = limited.hitCount;
    // Somebody else's request comes after many polls' time.
    for (let asked = 0; asked < 50; asked += 1) await cf.call("GET", "/");
    expect(limited.hitCount).toBe(hits);
    expect(requests.count(/^\/v3/)).toBeGreaterThan(0);
  });

  it("takes a new token when its own is refused or about to expire", async () => {
    cf.foundation.faults.tokenLifetimeSeconds = 1;
    const { source } = await following();
    const { requests } = cf.foundation;
    await requests.next("/oauth/token");
    await cf.foundation.faults.revokeTokens();
    await requests.next("/oauth/token");
    const renewed = requests.next(/^\/v3/);
    expect((await renewed).status).toBe(200);
    await eventually(() => source.status.state === "following");
  });

  it.each([
    [
      "an unknown client",
      { credentials: () => ({ clientSecret: "wrong" }) },
      /UAA at .*no token for client "cf-mesh".*401/,
    ],
    ["no UAA", { uaaUrls: ["http://127.0.0.1:1"] }, /UAA at http:\/\/127\.0\.0\.1:1: .*ECONNREFUSED/],
    [
      "no Cloud Controller",
      { apiUrls: ["http://127.0.0.1:1"] },
      /Cloud Controller at http:\/\/127\.0\.0\.1:1: .*ECONNREFUSED/,
    ],
  ])("says so when there is %s, and never says the secret", async (_what, options, error) => {
    const { source } = await run(options);
    await eventually(() => source.status.state === "retrying");
    expect(source.status.lastError).toMatch(error);
    expect(source.status.lastError).toContain("fix:");
    expect(JSON.stringify(logLines)).not.toContain(cf.foundation.clientSecret);
  });

  it("refuses a client that would see only a part of the routes", async () => {
    await cf.close();
    const narrow = { id: "narrow", secret: "s3cret", authorities: ["cloud_controller.read"] };
    cf = await startEmulatedFoundation({ clock: systemClock, clients: [narrow] });
    const { source } = await run({ clientId: narrow.id, credentials: () => ({ clientSecret: narrow.secret }) });
    await eventually(() => source.status.state === "retrying");
    expect(source.status.lastError).toMatch(/would see only a part.*cloud_controller\.global_auditor/s);
  });
});
