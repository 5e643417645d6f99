import { describe, expect, it } from "vitest";
import { decodeRegistration } from "../../entries/entries.js";
import { BadRoute, parseRoute } from "./route.js";

const ROUTE = {
  route: "Shop.example.com/Cart/",
  port: 3_000,
  ip: "10.0.0.1",
  ttl: 60,
  log_guid: "shop",
  modification_tag: { guid: "abc", index: 7 },
};
const entryOf = (json: object) => decodeRegistration(parseRoute(json).encode());

describe("a route of the routing API", () => {
  it("is an endpoint of its host and path, which belongs to the app that its log guid names", () => {
    expect(parseRoute(ROUTE)).toMatchObject({
      tag: { guid: "abc", index: 7 },
      address: "10.0.0.1",
      ttlMs: 60_000,
    });
    expect(entryOf(ROUTE)).toMatchObject({
      host: "shop.example.com",
      path: "/Cart",
      address: "10.0.0.1",
      port: 3_000,
      tls: false,
      protocol: "http1",
      appGuid: "shop",
      processGuid: "",
      routeServiceUrl: "",
      staleThresholdSeconds: 60,
    });
    expect(entryOf({ ...ROUTE, route_service_url: "https://service.example.com/x" })).toMatchObject({
      routeServiceUrl: "https://service.example.com/x",
    });
  });

  it("may say no more than where it leads, and what no version of this knows", () => {
    const { route, port, ip } = ROUTE;
    const bare = { route, port, ip, ttl: null, log_guid: null, modification_tag: null, terminate_frontend_tls: true };
    expect(parseRoute(bare)).toMatchObject({ tag: { guid: "", index: 0 }, ttlMs: 120_000 });
    expect(entryOf(bare)).toMatchObject({ appGuid: "", staleThresholdSeconds: 0 });
  });

  it("has the same bytes whatever its tag, and an id by what the API tells rows apart by", () => {
    const first = parseRoute(ROUTE);
    const renewed = parseRoute({ ...ROUTE, modification_tag: { guid: "abc", index: 8 } });
    expect(Buffer.from(renewed.encode()).equals(first.encode())).toBe(true);
    expect(renewed.id).toBe(first.id);
    expect(parseRoute({ ...ROUTE, ttl: 5, log_guid: "" }).id).toBe(first.id);
    for (const change of [{ port: 1 }, { ip: "10.0.0.2" }, { route: "a.b" }, { route_service_url: "https://s" }]) {
      expect(parseRoute({ ...ROUTE, ...change }).id).not.toBe(first.id);
    }
    expect(first.id).toMatch(/^[\w-]{22}$/);
  });

  it.each([
    [{ route: "127.0.0.1:8080/routing" }, 'route: "127.0.0.1:8080/routing" is no host and path'],
    [{ route: 7 }, "route: 7 is no host and path"],
    [{ port: 0 }, 'port: 0 is no port (route "Shop.example.com/Cart/")'],
    [{ port: 70_000 }, 'port: 70000 is no port (route "Shop.example.com/Cart/")'],
    [{ port: "80" }, 'port: "80" is no port (route "Shop.example.com/Cart/")'],
    [{ ip: "" }, 'ip: "" is neither an IP address nor a host name (route "Shop.example.com/Cart/")'],
    [{ ip: ["10.0.0.1"] }, 'ip: a list is no address (route "Shop.example.com/Cart/")'],
    [{ ttl: -1 }, 'ttl: -1 is below 0 (route "Shop.example.com/Cart/")'],
    [{ ttl: 1.5 }, 'ttl: 1.5 is no whole number (route "Shop.example.com/Cart/")'],
    [{ log_guid: "x".repeat(1_025) }, `log_guid: "${"x".repeat(60)}" is longer than 1024`],
    [{ route_service_url: "http://service" }, 'route_service_url: "http://service" is no https:// URL'],
    [{ modification_tag: "abc" }, 'modification_tag: "abc" is no tag'],
    [{ modification_tag: { guid: "abc", index: -1 } }, "modification_tag.index: -1 is below 0"],
  ])("is refused with %j, by field and value", (change, message) => {
    expect(() => parseRoute({ ...ROUTE, ...change })).toThrow(message);
    expect(() => parseRoute({ ...ROUTE, ...change })).toThrow(BadRoute);
  });

  it.each([[undefined], [null], ["text"], [[]], [{}]])("is refused where it is %j", (json) => {
    expect(() => parseRoute(json)).toThrow(BadRoute);
  });
});
