import { describe, expect, it } from "vitest";
import { encodeProcess, encodeRoute, type ProcessInit, type RouteInit } from "../entries/entries.js";
import { RoutingTable } from "./routing-table.js";

const destination = (processGuid: string, weight = 0) => ({ processGuid, weight, port: 8080, protocol: "http1" });
const route = (guid: string, init: RouteInit, source = "cc") => ({
  key: `route.${source}.${guid}`,
  value: encodeRoute({ guid, protocol: "http", destinations: [destination("p1")], ...init }),
});
const process = (processGuid: string, init: ProcessInit = {}) => ({
  key: `process.bbs.${processGuid}`,
  value: encodeProcess({ processGuid, instances: [{ guid: `${processGuid}-0`, address: "10.0.0.1" }], ...init }),
});
const gone = ({ key }: { key: string }) => ({ key, value: undefined });
const groups = (table: RoutingTable) => [...table.groups()].sort();

describe("the routing table", () => {
  it("joins a route with the instances of its processes, whichever came first", () => {
    const early = new RoutingTable();
    early.apply([process("p1"), route("r1", { host: "shop.example.com" })]);
    const late = new RoutingTable();
    late.apply([route("r1", { host: "shop.example.com" })]);
    expect([...late.apply([process("p1")])]).toEqual(["shop.example.com"]);
    expect(late.group("shop.example.com")).toEqual(early.group("shop.example.com"));
    expect(late.group("shop.example.com")?.hosts[0]?.paths[0]?.destinations[0]?.instances).toHaveLength(1);
  });

  it("tells of no move when an entry comes again", () => {
    const table = new RoutingTable();
    table.apply([route("r1", { host: "a.example.com" }), process("p1")]);
    expect([...table.apply([route("r1", { host: "a.example.com" }), process("p1")])]).toEqual([]);
  });

  it("moves both hosts when a route changes its host", () => {
    const table = new RoutingTable();
    table.apply([route("r1", { host: "a.example.com" })]);
    expect([...table.apply([route("r1", { host: "b.example.com" })])].sort()).toEqual([
      "a.example.com",
      "b.example.com",
    ]);
    expect(groups(table)).toEqual(["b.example.com"]);
  });

  it("moves every host that leads to a process, and none that stopped to", () => {
    const table = new RoutingTable();
    table.apply([
      route("r1", { host: "a.example.com" }),
      route("r2", { host: "b.example.com", path: "/x" }),
      route("r3", { host: "c.example.com", destinations: [destination("p2")] }),
    ]);
    expect([...table.apply([process("p1")])].sort()).toEqual(["a.example.com", "b.example.com"]);
    table.apply([route("r2", { host: "b.example.com", path: "/x", destinations: [destination("p2")] })]);
    expect([...table.apply([gone(process("p1"))])]).toEqual(["a.example.com"]);
  });

  it("keeps internal, TCP and unmapped routes out of reach", () => {
    const table = new RoutingTable();
    table.apply([
      route("r1", { host: "a.apps.internal", internal: true }),
      route("r2", { host: "tcp.example.com", protocol: "tcp", port: 1024 }),
      route("r3", { host: "b.example.com", destinations: [] }),
    ]);
    expect(groups(table)).toEqual([]);
    expect(table.routeCount).toBe(0);
  });

  it("forgets a host with its last route", () => {
    const table = new RoutingTable();
    const [root, cart] = [
      route("r1", { host: "a.example.com" }),
      route("r2", { host: "a.example.com", path: "/cart" }),
    ];
    table.apply([root, cart]);
    table.apply([gone(root)]);
    expect(table.group("a.example.com")?.hosts[0]?.paths.map(({ path }) => path)).toEqual(["/cart"]);
    expect([...table.apply([gone(cart)])]).toEqual(["a.example.com"]);
    expect(table.group("a.example.com")).toBeUndefined();
    expect([...table.keys()]).toEqual([]);
  });

  it("orders paths by length, and takes their case and last slash for nothing", () => {
    const table = new RoutingTable();
    const paths = ["", "/b", "/Cart/", "/a", "/cart/items"];
    table.apply(paths.map((path, index) => route(`r${index}`, { host: "a.example.com", path })));
    expect(table.group("a.example.com")?.hosts[0]?.paths.map(({ path }) => path)).toEqual([
      "/cart/items",
      "/cart",
      "/a",
      "/b",
      "",
    ]);
  });

  it("lets Cloud Controller's route win over copilot's, and that over a registration", () => {
    const table = new RoutingTable();
    const winner = () => table.group("a.example.com")?.hosts[0]?.paths[0]?.route.guid;
    const [nats, copilot, cc] = ["nats", "copilot", "cc"].map((source) =>
      route(source, { host: "a.example.com" }, source),
    );
    if (!nats || !copilot || !cc) throw new Error("three sources");
    table.apply([nats]);
    expect(winner()).toBe("nats");
    table.apply([cc]);
    expect(winner()).toBe("cc");
    table.apply([copilot]);
    expect(winner()).toBe("cc");
    table.apply([gone(cc)]);
    expect(winner()).toBe("copilot");
  });

  it("serves the wildcard hosts below one domain as one group", () => {
    const table = new RoutingTable();
    const moved = table.apply([
      route("r1", { host: "*.example.com" }),
      route("r2", { host: "*.a.b.example.com" }),
      route("r3", { host: "*.localhost" }),
      route("r4", { host: "x.example.com" }),
    ]);
    expect([...moved].sort()).toEqual(["*.example.com", "*.localhost", "x.example.com"]);
    expect(table.group("*.example.com")?.hosts.map(({ host }) => host)).toEqual(["*.a.b.example.com", "*.example.com"]);
    table.apply([gone(route("r1", {})), gone(route("r2", {}))]);
    expect(groups(table)).toEqual(["*.localhost", "x.example.com"]);
  });
});
