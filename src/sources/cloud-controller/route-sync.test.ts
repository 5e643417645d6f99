import { describe, expect, it } from "vitest";
import { decodeRoute } from "../../entries/entries.js";
import { KEY_SPACES } from "../../entries/keys.js";
import { systemClock } from "../../lib/clock.js";
import { createLogger } from "../../lib/logger.js";
import type { KeySpaceWriter, Want } from "../../log/key-space-writer.js";
import type { Query } from "./cc-client.js";
import type { FetchList } from "./lookups.js";
import { Refusals } from "./refusals.js";
import { RouteSync } from "./route-sync.js";

const KEY_SPACE = KEY_SPACES.cloudControllerRoutes;
const CREATED = "2026-01-01T00:00:00Z";
const reference = (guid: string) => ({ data: { guid } });

interface Resource {
  readonly guid?: unknown;
  readonly [field: string]: unknown;
}

/** A Cloud Controller whose answers a test writes itself, where the emulated one is too well-behaved. */
class ScriptedPlatform {
  routes: Resource[] = [];
  apps: Resource[] = [{ guid: "blue", name: "blue" }];
  processes: Resource[] = [{ guid: "blue", type: "web", relationships: { app: reference("blue") } }];
  bindings: Resource[] = [];
  policies: Resource[] = [];
  domain: object = {};
  events: Resource[] = [];
  /** Routes that lead nowhere, so that no app has them. */
  readonly unmapped = new Set<string>();
  readonly asked: string[] = [];
  failing: RegExp | undefined;

  readonly fetch: FetchList = (path: string, query: Query) => {
    const line = `${path}?${Object.entries(query)
      .map(([name, value]) => `${name}=${value ?? ""}`)
      .join("&")}`;
    this.asked.push(line);
    if (this.failing?.test(line)) return Promise.reject(new Error("scripted"));
    const routes = this.routes
      .map((route) => (this.unmapped.has(String(route.guid)) ? { ...route, destinations: [] } : route))
      .filter((route) => query["app_guids"] === undefined || !this.unmapped.has(String(route.guid)));
    const all =
      {
        "/v3/routes": routes,
        "/v3/apps": this.apps,
        "/v3/processes": this.processes,
        "/v3/service_route_bindings": this.bindings,
        "/v3/route_policies": this.policies,
      }[path] ?? [];
    const listed = path === "/v3/audit_events" ? this.events : all;
    const guids = query["guids"];
    const resources =
      typeof guids === "string" ? listed.filter(({ guid }) => guids.split(",").includes(String(guid))) : [...listed];
    return Promise.resolve({
      pagination: { total_results: resources.length },
      resources,
      included: { domains: [{ guid: "d", name: "example.test", internal: false, ...this.domain }], organizations: [] },
    });
  };

  /** The questions about these lists. */
  reads(...paths: string[]): readonly string[] {
    return this.asked.filter((line) => paths.some((path) => line.startsWith(`${path}?`)));
  }

  route(guid: string, more: object = {}): Resource {
    return {
      guid,
      created_at: CREATED,
      host: guid,
      path: "",
      destinations: [{ app: { guid: "blue", process: { type: "web" } }, port: 8080 }],
      relationships: { space: reference("s"), domain: reference("d") },
      ...more,
    };
  }
}

class MemoryWriter implements KeySpaceWriter {
  readonly keySpace = KEY_SPACE;
  readonly values = new Map<string, Uint8Array>();

  apply(wants: readonly Want[]) {
    const counts = { written: 0, deleted: 0, unchanged: 0 };
    for (const { key, value } of wants) {
      const before = this.values.get(key);
      if (value && before && Buffer.compare(value, before) === 0) counts.unchanged += 1;
      else if (value) counts.written += 1;
      else counts.deleted += 1;
      if (value) this.values.set(key, Uint8Array.from(value));
      else this.values.delete(key);
    }
    return Promise.resolve(counts);
  }

  async replaceAll(wants: Iterable<Want> | AsyncIterable<Want>) {
    this.values.clear();
    const all = [];
    for await (const want of wants) all.push(want);
    return this.apply(all);
  }

  complete() {
    return Promise.resolve();
  }

  keys() {
    return this.values.keys();
  }

  get hosts(): readonly string[] {
    return [...this.values.values()].map((value) => decodeRoute(value).host.split(".")[0] ?? "").sort();
  }

  appName(guid: string): string | undefined {
    const value = this.values.get(KEY_SPACE + guid);
    return value && decodeRoute(value).destinations[0]?.appName;
  }
}

async function synced(...guids: string[]) {
  const platform = new ScriptedPlatform();
  platform.routes = guids.map((guid) => platform.route(guid));
  const writer = new MemoryWriter();
  const logLines: { guid?: string; problem?: string }[] = [];
  const logger = createLogger("warn", { write: (line) => void logLines.push(JSON.parse(line) as object) });
  const sync = new RouteSync(Date.parse(CREATED), {
    fetch: platform.fetch,
    serverMs: () => Date.parse(CREATED),
    writer,
    refusals: new Refusals(logger),
    clock: systemClock,
    pageSize: 100,
  });
  const resync = async () => sync.commit(await sync.readAll(platform.fetch, 4));
  await resync();
  platform.asked.length = 0;
  return { platform, writer, sync, resync, logLines };
}

const event = (guid: string, type: string, target: string, data: object = {}) => ({
  guid,
  type,
  created_at: CREATED,
  target: { guid: target },
  data,
});

describe("malformed resources", () => {
  it("keeps what the log has of a malformed route, tells of it once by guid and field, and takes the others", async () => {
    const { platform, writer, resync, logLines } = await synced("a", "b", "c");
    platform.routes = [
      platform.route("a", { destinations: [{ port: "x" }] }),
      platform.route("b"),
      platform.route("d"),
    ];
    await resync();
    await resync();
    expect(writer.hosts).toEqual(["a", "b", "d"]);
    expect(logLines).toHaveLength(1);
    expect(logLines[0]).toMatchObject({ guid: "a", problem: expect.stringContaining("destinations.0.port") as string });
  });

  it("takes the route again when it is well", async () => {
    const { platform, writer, sync } = await synced("a");
    platform.routes = [platform.route("a", { host: 7 })];
    sync.hint({ routeGuids: ["a"] });
    await sync.settle();
    expect(writer.hosts).toEqual(["a"]);
    platform.routes = [platform.route("a", { host: "again" })];
    sync.hint({ routeGuids: ["a"] });
    await sync.settle();
    expect(writer.hosts).toEqual(["again"]);
  });

  it("deletes nothing on the word of a list with a route that has no guid", async () => {
    const { platform, writer, resync } = await synced("a", "b");
    platform.routes = [platform.route("a"), { host: "who" }];
    await resync();
    expect(writer.hosts).toEqual(["a", "b"]);
  });

  it("counts refused routes, so that they are no reason to read everything again", async () => {
    const { platform, sync, resync } = await synced("a");
    platform.routes.push(platform.route("bad", { host: 7 }));
    await resync();
    expect(await sync.followUpdates()).toBe(true);
    platform.routes.pop();
    expect(await sync.followUpdates()).toBe(false);
  });
});

describe("changes", () => {
  it("reads what an event points to once, though the overlap shows the event again and again", async () => {
    const { platform, writer, sync } = await synced("a");
    platform.events = [event("e", "audit.app.map-route", "blue", { route_guid: "new" })];
    platform.routes.push(platform.route("new"));
    await sync.followEvents();
    expect(writer.hosts).toEqual(["a", "new"]);
    platform.asked.length = 0;
    await sync.followEvents();
    expect(platform.asked).toHaveLength(1);
  });

  it("looks again at a route whose deletion was asked for, until it is gone", async () => {
    const { platform, writer, sync } = await synced("a", "b");
    platform.events = [event("e", "audit.route.delete-request", "a")];
    await sync.followEvents();
    expect(writer.hosts).toEqual(["a", "b"]);
    platform.routes = [platform.route("b")];
    await sync.followEvents();
    expect(writer.hosts).toEqual(["b"]);
    platform.asked.length = 0;
    await sync.followEvents();
    expect(platform.asked).toHaveLength(1);
  });

  it("gives a destination its process when that is created", async () => {
    const { platform, writer, sync, resync } = await synced("a");
    const processes = platform.processes;
    platform.processes = [];
    await resync();
    const processGuid = () =>
      decodeRoute(writer.values.get(`${KEY_SPACE}a`) ?? new Uint8Array()).destinations[0]?.processGuid;
    expect(processGuid()).toBe("");
    platform.processes = processes;
    platform.events = [event("e", "audit.app.process.create", "blue")];
    await sync.followEvents();
    expect(processGuid()).toBe("blue");
  });

  it("loses nothing to a read that fails half way", async () => {
    const { platform, writer, sync } = await synced("a", "b");
    platform.apps = [{ guid: "blue", name: "navy" }];
    platform.events = [event("e", "audit.app.update", "blue")];
    for (const failing of [/audit_events/, /v3.apps/, /v3.routes/]) {
      platform.failing = failing;
      await expect(sync.followEvents()).rejects.toThrow("scripted");
      expect([writer.appName("a"), writer.appName("b")]).toEqual(["blue", "blue"]);
    }
    platform.failing = undefined;
    await sync.followEvents();
    expect([writer.appName("a"), writer.appName("b")]).toEqual(["navy", "navy"]);
  });

  it("rebuilds other routes of an app that one route showed to have changed", async () => {
    const { platform, writer, sync, resync } = await synced("a", "b");
    platform.processes = [];
    await resync();
    platform.processes = [{ guid: "blue-web", type: "web", relationships: { app: reference("blue") } }];
    sync.hint({ routeGuids: ["a"] });
    await sync.settle();
    const guids = [...writer.values.values()].map((value) => decodeRoute(value).destinations[0]?.processGuid);
    expect(guids).toEqual(["blue-web", "blue-web"]);
  });

  it("reads the routes of a process that it knows in one request, and those that led to it by guid", async () => {
    const { platform, writer, sync } = await synced("a", "b");
    platform.routes = [platform.route("a"), platform.route("b"), platform.route("c")];
    sync.hint({ processGuids: ["blue"] });
    expect(await sync.settle()).toBe(true);
    expect(platform.reads("/v3/routes")).toHaveLength(1);
    expect(platform.reads("/v3/apps", "/v3/processes")).toEqual([]);
    expect(writer.hosts).toEqual(["a", "b", "c"]);
    platform.asked.length = 0;
    platform.unmapped.add("b");
    sync.hint({ processGuids: ["blue"] });
    await sync.settle();
    expect(platform.reads("/v3/routes")).toHaveLength(2);
    expect(writer.appName("b")).toBeUndefined();
  });

  it("finds the app of a process that is new to it", async () => {
    const { platform, writer, sync } = await synced("a");
    const fresh = { guid: "green", type: "web", relationships: { app: reference("green") } };
    platform.apps = [...platform.apps, { guid: "green", name: "green" }];
    platform.processes = [...platform.processes, fresh];
    const destinations = [{ app: { guid: "green", process: { type: "web" } }, port: 8080 }];
    platform.routes = [...platform.routes, platform.route("b", { destinations })];
    sync.hint({ processGuids: ["green"] });
    expect(await sync.settle()).toBe(true);
    expect(writer.appName("b")).toBe("green");
  });

  it("tells when a read showed nothing new", async () => {
    const { sync } = await synced("a");
    sync.hint({ processGuids: ["blue"] });
    expect(await sync.settle()).toBe(false);
  });

  it("asks for routes in groups whose guids fit in a URL", async () => {
    const { platform, sync } = await synced();
    sync.hint({ routeGuids: Array.from({ length: 450 }, (_, index) => `g-${index}`) });
    await sync.settle();
    for (const list of ["/v3/routes", "/v3/service_route_bindings"]) expect(platform.reads(list), list).toHaveLength(3);
  });

  const policy = (guid: string, source: unknown) => ({ guid, source, relationships: { route: reference("a") } });
  const policiesIn = (writer: MemoryWriter) => {
    const [value] = [...writer.values.values()];
    const { routePolicyScope, routePolicySources } = decodeRoute(value ?? expect.fail()).options ?? {};
    return [routePolicyScope, ...(routePolicySources ?? [])];
  };

  it("asks for no route policies where no domain enforces them: an older platform has none", async () => {
    const { platform, sync } = await synced("a");
    await sync.followUpdates();
    expect(platform.reads("/v3/route_policies")).toEqual([]);
  });

  it("leaves out policies that it does not understand, and keeps a scope that it does not: both let nobody in", async () => {
    const { platform, writer, sync } = await synced("a");
    platform.domain = { enforce_route_policies: true, route_policies_scope: "galaxy" };
    platform.policies = [policy("p1", "spiffe://x"), policy("p2", 7), policy("p3", "cf:app:x")];
    sync.hint({ routeGuids: ["a"] });
    await sync.settle();
    expect(policiesIn(writer)).toEqual(["galaxy", "cf:app:x"]);
    platform.domain = { enforce_route_policies: true };
    sync.hint({ routeGuids: ["a"] });
    await sync.settle();
    expect(policiesIn(writer)).toEqual(["none", "cf:app:x"]);
    const many = Array.from({ length: 30_000 }, (_, index) => `cf:app:${`${index}`.padStart(36, "0")}`);
    platform.policies = many.map((source, index) => policy(`p${index}`, source));
    sync.hint({ routeGuids: ["a"] });
    await sync.settle();
    expect(policiesIn(writer)).toEqual(["none", ...many.slice(0, 1_489)]);
  });

  it("reads the policies of a route anew whenever it reads the route, and takes back none of what it read meanwhile", async () => {
    const { platform, writer, sync } = await synced("a");
    platform.domain = { enforce_route_policies: true, route_policies_scope: "any" };
    platform.policies = [policy("p1", "cf:app:x"), policy("p2", "cf:app:y")];
    await sync.commit(await sync.readAll(platform.fetch, 1));
    expect(policiesIn(writer)).toEqual(["any", "cf:app:x", "cf:app:y"]);
    // One goes while everything is read: after its routes were, before that is written.
    const read = await sync.readAll(platform.fetch, 1);
    platform.policies = platform.policies.slice(1);
    platform.events = [{ guid: "e1", type: "audit.route_policy.delete", created_at: CREATED, target: { guid: "p1" } }];
    await sync.followEvents();
    expect(policiesIn(writer)).toEqual(["any", "cf:app:y"]);
    await sync.commit(read);
    expect(policiesIn(writer)).toEqual(["any", "cf:app:y"]);
    platform.policies = [];
    platform.events = [{ guid: "e2", type: "audit.route_policy.delete", created_at: CREATED, target: { guid: "p2" } }];
    await sync.followEvents();
    expect(policiesIn(writer)).toEqual(["any"]);
  });

  it("takes a route service's URL that can't be read for one, so that nobody passes by it", async () => {
    const { platform, writer, sync } = await synced("a");
    platform.bindings = [
      {
        guid: "binding",
        route_service_url: { href: "https://guard.example.test" },
        relationships: { route: reference("a"), service_instance: reference("guard") },
      },
    ];
    sync.hint({ routeGuids: ["a"] });
    await sync.settle();
    const [value] = [...writer.values.values()];
    expect(decodeRoute(value ?? expect.fail()).routeServiceUrl).toBe("unreadable");
  });
});
