import { describe, expect, it } from "vitest";
import { Directory } from "./directory.js";
import type { CcRoute } from "./resources.js";
import { appGuidsOf, routeEntry } from "./route-entry.js";

const DIRECTORY = new Directory();
DIRECTORY.domains.set("apps", { name: "apps.example.test", internal: false, protocol: "http", routePolicyScope: "" });
DIRECTORY.domains.set("mesh", { name: "apps.internal", internal: true, protocol: "http", routePolicyScope: "" });
DIRECTORY.domains.set("tcp", { name: "tcp.example.test", internal: false, protocol: "tcp", routePolicyScope: "" });
DIRECTORY.domains.set("policed", { name: "policed.test", internal: false, protocol: "http", routePolicyScope: "org" });
DIRECTORY.spaces.set("dev", { name: "dev", organizationGuid: "laptop-guid", organizationName: "laptop" });
DIRECTORY.spaces.set("shared", { name: "shared", organizationGuid: "other-guid", organizationName: "other" });
DIRECTORY.nameApp("blue", "Blue", "dev");
DIRECTORY.addProcess("blue", { guid: "blue-web", type: "web" });
DIRECTORY.addProcess("blue", { guid: "blue-worker", type: "worker" });
DIRECTORY.nameApp("green", "Green", "shared");
DIRECTORY.addProcess("green", { guid: "green-web-2", type: "web" });
DIRECTORY.addProcess("green", { guid: "green-web-1", type: "web" });

const to = (app: string, more: Partial<CcRoute["destinations"][number]> = {}, type = "web") => ({
  app: { guid: app, process: { type } },
  port: 8080,
  ...more,
});

function route(more: Partial<CcRoute> = {}, domain = "apps"): CcRoute {
  return {
    guid: "r",
    created_at: "2026-01-01T00:00:00Z",
    updated_at: "2026-01-02T00:00:00Z",
    protocol: "http",
    host: "shop",
    path: "",
    port: null,
    destinations: [],
    relationships: { space: { data: { guid: "dev" } }, domain: { data: { guid: domain } } },
    ...more,
  };
}

describe("a route as an entry", () => {
  it.each([
    ["host and domain, in lower case", { host: "Shop" }, "shop.apps.example.test"],
    ["the domain alone where the host is empty", { host: "" }, "apps.example.test"],
    ["a wildcard", { host: "*" }, "*.apps.example.test"],
  ])("has as host %s", (_what, fields, host) => {
    expect(routeEntry(route(fields), DIRECTORY)).toMatchObject({ host });
  });

  it("tells who may call it and whose its apps are, where its domain enforces route policies", () => {
    const policy = (guid: string, source: string) => ({ guid, routeGuid: "r", source });
    DIRECTORY.policies.replace(["r"], [policy("p1", "cf:space:s"), policy("p2", "cf:app:a")]);
    const destinations = [to("green"), to("blue"), to("stranger")];
    const policed = routeEntry(route({ destinations }, "policed"), DIRECTORY);
    expect(policed?.options).toMatchObject({
      routePolicyScope: "org",
      routePolicySources: ["cf:app:a", "cf:space:s"],
    });
    expect(policed?.destinations).toMatchObject([
      { appGuid: "stranger", spaceGuid: "", organizationGuid: "" },
      { appGuid: "blue", spaceGuid: "dev", organizationGuid: "laptop-guid" },
      { appGuid: "green", spaceGuid: "shared", organizationGuid: "other-guid" },
      { appGuid: "green", spaceGuid: "shared", organizationGuid: "other-guid" },
    ]);
    const open = routeEntry(route({ destinations }), DIRECTORY);
    expect(open?.options).toBeUndefined();
    expect(open?.destinations?.[1]).not.toHaveProperty("spaceGuid");
  });

  it("has path, revision and names", () => {
    expect(routeEntry(route({ path: "/Cart" }), DIRECTORY)).toMatchObject({
      guid: "r",
      path: "/Cart",
      internal: false,
      protocol: "http",
      port: 0,
      sourceRevision: "2026-01-02T00:00:00Z",
      labels: { organizationName: "laptop", spaceName: "dev" },
    });
  });

  it("has the annotations that speak to the mesh, by name, and those of nobody else", () => {
    const annotations = {
      "cf-mesh.example.com/timeout": "5s",
      "cf-mesh/retries": "2",
      "cf-meshed.example.com/timeout": "no",
      "example.com/cf-mesh": "no",
      "cf-mesh": "no",
      "cf-mesh/number": 3,
      "cf-mesh/gone": null,
    };
    expect(routeEntry(route({ metadata: { annotations } }), DIRECTORY)?.annotations).toEqual([
      { name: "cf-mesh.example.com/timeout", value: "5s" },
      { name: "cf-mesh/retries", value: "2" },
    ]);
    expect(routeEntry(route({ metadata: {} }), DIRECTORY)?.annotations).toEqual([]);
  });

  it("is internal on an internal domain", () => {
    expect(routeEntry(route({}, "mesh"), DIRECTORY)).toMatchObject({ host: "shop.apps.internal", internal: true });
  });

  it("has the port of a TCP route, with destinations that speak TCP", () => {
    const tcp = route({ host: "", protocol: "tcp", port: 1024, destinations: [to("blue")] }, "tcp");
    expect(routeEntry(tcp, DIRECTORY)).toMatchObject({
      host: "tcp.example.test",
      protocol: "tcp",
      port: 1024,
      destinations: [{ protocol: "tcp" }],
    });
  });

  it("takes the protocol of the domain where the route has none", () => {
    const bare: CcRoute = route({ host: "", port: 1024 }, "tcp");
    delete bare.protocol;
    expect(routeEntry(bare, DIRECTORY)).toMatchObject({ protocol: "tcp" });
  });

  it("joins destinations with their processes, ordered by process and port", () => {
    const destinations = [to("blue", { port: 9090, weight: 30, protocol: "http2" }), to("blue", { weight: 70 })];
    expect(routeEntry(route({ destinations }), DIRECTORY)?.destinations).toEqual([
      {
        processGuid: "blue-web",
        appGuid: "blue",
        weight: 70,
        port: 8080,
        protocol: "http1",
        appName: "Blue",
        processType: "web",
      },
      {
        processGuid: "blue-web",
        appGuid: "blue",
        weight: 30,
        port: 9090,
        protocol: "http2",
        appName: "Blue",
        processType: "web",
      },
    ]);
  });

  it("is the same whatever the order of the destinations", () => {
    const destinations = [to("blue"), to("green"), to("gone"), to("blue", {}, "worker")];
    expect(routeEntry(route({ destinations }), DIRECTORY)).toEqual(
      routeEntry(route({ destinations: destinations.toReversed() }), DIRECTORY),
    );
  });

  it("leads to both processes of a rolling deployment", () => {
    const destinations = [to("green")];
    expect(routeEntry(route({ destinations }), DIRECTORY)?.destinations).toMatchObject([
      { processGuid: "green-web-1" },
      { processGuid: "green-web-2" },
    ]);
  });

  it("keeps a destination whose process is not there yet", () => {
    const destinations = [to("blue", { weight: 100 }, "clock"), to("unknown")];
    expect(routeEntry(route({ destinations }), DIRECTORY)?.destinations).toMatchObject([
      { processGuid: "", appGuid: "blue", weight: 100, appName: "Blue", processType: "clock" },
      { processGuid: "", appGuid: "unknown", weight: 0, appName: "" },
    ]);
  });

  it("has options only where some are set", () => {
    expect(routeEntry(route({ options: {} }), DIRECTORY)).not.toHaveProperty("options");
    const options = { loadbalancing: "hash", hash_header: "X-User", hash_balance: 1.5 };
    expect(routeEntry(route({ options }), DIRECTORY)?.options).toEqual({
      loadbalancing: "hash",
      hashHeader: "X-User",
      hashBalance: "1.5",
      routePolicyScope: "",
      routePolicySources: [],
    });
  });

  it("leaves an algorithm that it does not know to the router's default", () => {
    expect(routeEntry(route({ options: { loadbalancing: "newest" } }), DIRECTORY)).not.toHaveProperty("options");
  });

  it("is none without its domain", () => {
    expect(routeEntry(route({}, "unheard-of"), DIRECTORY)).toBeUndefined();
  });
});

it("names each app of a route once", () => {
  expect(appGuidsOf(route({ destinations: [to("blue"), to("green"), to("blue", { port: 9090 })] }))).toEqual([
    "blue",
    "green",
  ]);
});
