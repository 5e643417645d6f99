import { describe, expect, it } from "vitest";
import {
  encodeAssociation,
  encodeProcess,
  encodeRegistration,
  encodeRoute,
  type ProcessInit,
  type RegistrationInit,
  type RouteInit,
} from "../entries/entries.js";
import { type PathRoute, RoutingTable, type TableEntry, type TableOptions } from "./routing-table.js";

const HOST = "shop.example.com";
const destination = (processGuid: string, weight = 0) => ({ processGuid, weight, port: 8080, protocol: "http1" });
const route = (guid: string, init: RouteInit, source = "cc") => ({
  key: `route.${source}.${guid}`,
  value: encodeRoute({ guid, protocol: "http", destinations: [destination("p1")], ...init }),
});
const instance = (hostPort: number) => ({ address: "10.0.0.1", ports: [{ containerPort: 8080, hostPort }] });
const process = (processGuid: string, init: ProcessInit = {}) => ({
  key: `process.bbs.${processGuid}`,
  value: encodeProcess({ processGuid, instances: [instance(61_000)], ...init }),
});
const registration = (id: string, port: number, init: RegistrationInit = {}) => ({
  key: `registration.nats.${id}`,
  value: encodeRegistration({ host: HOST, address: "10.0.0.9", port, protocol: "http1", ...init }),
});
const association = (processGuid: string, ...versions: string[]) => ({
  key: `association.copilot.${processGuid}`,
  value: encodeAssociation({
    processGuid,
    lrpProcessGuids: versions.map((version) => `${processGuid}-${version}`),
  }),
});
const gone = ({ key }: { key: string }) => ({ key, value: undefined });

function tableOf(entries: readonly TableEntry[], options: Partial<TableOptions> = {}): RoutingTable {
  const table = new RoutingTable({ dialsTls: false, ...options });
  table.apply(entries);
  return table;
}

const groups = (table: RoutingTable) => [...table.groups()].sort();
const moves = (table: RoutingTable, ...entries: readonly TableEntry[]) => [...table.apply(entries)].sort();

function pathRoute(table: RoutingTable, path = "", host = HOST): PathRoute | undefined {
  return table.group(host)?.hosts[0]?.paths.find((found) => found.path === path);
}

/** "<name> <protocol> <weight>: <ports>" for each share; the ports of TLS with "tls:" and the certificate's name. */
function shares(table: RoutingTable, path?: string, host?: string): readonly string[] | undefined {
  return pathRoute(table, path, host)?.shares.map(({ name, protocol, weight, endpoints }) => {
    const ports = endpoints.map(({ port, tls }) => (tls ? `tls:${port}:${tls.certSan}` : port));
    return `${name} ${protocol} ${weight}: ${ports.join(" ")}`;
  });
}

describe("the routing table", () => {
  it("joins a route with the instances of its processes, whichever came first", () => {
    const early = tableOf([process("p1"), route("r1", { host: HOST })]);
    const late = tableOf([route("r1", { host: HOST })]);
    expect(moves(late, process("p1"))).toEqual([HOST]);
    expect(late.group(HOST)).toEqual(early.group(HOST));
    expect(shares(late)).toEqual(["all http1 1: 61000"]);
  });

  it("tells of no move when an entry comes again, or one that it does not know", () => {
    const entries = [route("r1", { host: HOST }), process("p1"), registration("n1", 1), association("p1", "v1")];
    const table = tableOf(entries);
    expect(moves(table, ...entries)).toEqual([]);
    const unknown = ["route.tomorrow.r1", "process.tomorrow.p1", "registration.tomorrow.x", "domain.cc.x", "word"];
    expect(moves(table, ...unknown.map((key) => ({ key, value: new Uint8Array([1, 2, 3]) })))).toEqual([]);
    expect(moves(table, ...unknown.map((key) => gone({ key })))).toEqual([]);
  });

  it("moves both hosts when a route changes its host", () => {
    const table = tableOf([route("r1", { host: "a.example.com" })]);
    expect(moves(table, route("r1", { host: "b.example.com" }))).toEqual(["a.example.com", "b.example.com"]);
    expect(groups(table)).toEqual(["b.example.com"]);
  });

  it("moves every host that leads to a process, and none that stopped to", () => {
    const table = tableOf([
      route("r1", { host: "a.example.com" }),
      route("r2", { host: "b.example.com", path: "/x" }),
      route("r3", { host: "c.example.com", destinations: [destination("p2")] }),
    ]);
    expect(moves(table, process("p1"))).toEqual(["a.example.com", "b.example.com"]);
    table.apply([route("r2", { host: "b.example.com", path: "/x", destinations: [destination("p2")] })]);
    expect(moves(table, gone(process("p1")))).toEqual(["a.example.com"]);
  });

  it("keeps internal, TCP, unmapped and nameless routes out of reach", () => {
    const table = tableOf([
      route("r1", { host: "a.apps.internal", internal: true }),
      route("r2", { host: "tcp.example.com", protocol: "tcp", port: 1024 }),
      route("r3", { host: "b.example.com", destinations: [] }),
      route("r4", { host: "" }, "copilot"),
    ]);
    expect(groups(table)).toEqual([]);
    expect(table.routeCount).toBe(0);
  });

  it("takes a route of copilot up when it has a host", () => {
    const table = tableOf([route("r1", { host: "" }, "copilot")]);
    expect(moves(table, route("r1", { host: HOST }, "copilot"))).toEqual([HOST]);
    expect(moves(table, route("r1", { host: "" }, "copilot"))).toEqual([HOST]);
    expect(groups(table)).toEqual([]);
  });

  it("forgets a host with its last route", () => {
    const [root, cart] = [route("r1", { host: HOST }), route("r2", { host: HOST, path: "/cart" })];
    const table = tableOf([root, cart]);
    table.apply([gone(root)]);
    expect(table.group(HOST)?.hosts[0]?.paths.map(({ path }) => path)).toEqual(["/cart"]);
    expect(groups(table)).toEqual([HOST]);
    expect(moves(table, gone(cart))).toEqual([HOST]);
    expect(table.group(HOST)).toBeUndefined();
    expect(table.hasGroup(HOST)).toBe(false);
    expect([...table.keys()]).toEqual([]);
  });

  it("orders paths by length, and takes their case and last slash for nothing", () => {
    const paths = ["", "/b", "/Cart/", "/a", "/cart/items"];
    const table = tableOf(paths.map((path, index) => route(`r${index}`, { host: HOST, path })));
    expect(table.group(HOST)?.hosts[0]?.paths.map(({ path }) => path)).toEqual([
      "/cart/items",
      "/cart",
      "/a",
      "/b",
      "",
    ]);
    expect(groups(table)).toEqual([HOST]);
    expect(table.routeCount).toBe(5);
  });

  it("serves the wildcard hosts below one domain as one group", () => {
    const table = tableOf([]);
    const moved = moves(
      table,
      route("r1", { host: "*.example.com" }),
      route("r2", { host: "*.a.b.example.com", path: "/x" }),
      route("r3", { host: "*.localhost" }),
      registration("n1", 1, { host: "*.c.example.com" }),
      route("r4", { host: "x.example.com" }),
    );
    expect(moved).toEqual(["*.example.com", "*.localhost", "x.example.com"]);
    const hosts = ["*.a.b.example.com", "*.c.example.com", "*.example.com"];
    expect(table.group("*.example.com")?.hosts.map(({ host }) => host)).toEqual(hosts);
    table.apply([gone(route("r1", {})), gone(route("r2", {})), gone(registration("n1", 1))]);
    expect(groups(table)).toEqual(["*.localhost", "x.example.com"]);
  });

  it("names the keys of all that it holds", () => {
    const entries = [route("r1", { host: HOST }), process("p1"), registration("n1", 1), association("p1", "v1")];
    expect([...tableOf(entries).keys()].sort()).toEqual(entries.map(({ key }) => key).sort());
  });
});

describe("sources that tell of one host and path", () => {
  it("win in the order cc, copilot, bbs, nats, whatever comes first", () => {
    const known = new Map<string, TableEntry>([
      ["cc", route("cc", { host: HOST })],
      ["copilot", route("copilot", { host: HOST }, "copilot")],
      ["bbs", route("bbs", { host: HOST }, "bbs")],
      ["", registration("n1", 1)],
    ]);
    const ranked = [...known.keys()];
    for (const arriving of [ranked, [...ranked].reverse()]) {
      const table = tableOf([]);
      const told = new Set<string>();
      for (const name of arriving) {
        table.apply([known.get(name) as TableEntry]);
        told.add(name);
        expect(pathRoute(table)?.routeGuid).toBe(ranked.find((other) => told.has(other)));
        expect(table.routeCount).toBe(1);
      }
      for (const name of ranked) {
        expect(pathRoute(table)?.routeGuid).toBe(name);
        table.apply([gone(known.get(name) as TableEntry)]);
      }
      expect(pathRoute(table)).toBeUndefined();
    }
  });

  it("move the host when the winner changes, and not when a loser does", () => {
    const table = tableOf([route("r1", { host: HOST })]);
    expect(moves(table, route("r2", { host: HOST }, "copilot"))).toEqual([]);
    expect(moves(table, registration("n1", 1))).toEqual([]);
    expect(moves(table, gone(route("r2", {}, "copilot")))).toEqual([]);
    expect(moves(table, gone(route("r1", {})))).toEqual([HOST]);
    expect(moves(table, registration("n2", 2))).toEqual([HOST]);
  });

  it("leave other paths of the host to each other", () => {
    const table = tableOf([route("r1", { host: HOST, path: "/cart" }), registration("n1", 1), process("p1")]);
    expect(shares(table, "/cart")).toEqual(["all http1 1: 61000"]);
    expect(shares(table)).toEqual(["all http1 1: 1"]);
  });

  it("leave a route of Cloud Controller the place even when nothing of it runs", () => {
    const table = tableOf([route("r1", { host: HOST }), process("p1", { instances: [] }), registration("n1", 1)]);
    expect(shares(table)).toEqual(["all http1 0: "]);
  });
});

describe("a process that Diego does not tell of", () => {
  const ofP1 = { processGuid: "p1" };

  it("runs where it is registered for the host and path of the route", () => {
    const table = tableOf([
      route("r1", { host: HOST, destinations: [destination("p1", 90), destination("p2", 10)] }),
      registration("n1", 1, ofP1),
      registration("n2", 2, ofP1),
      registration("n3", 3, { processGuid: "p2" }),
      registration("n4", 4, { host: "other.example.com", ...ofP1 }),
    ]);
    expect(shares(table)).toEqual(["p1:8080 http1 90: 1 2", "p2:8080 http1 10: 3"]);
  });

  it("runs wherever it is registered, when it is nowhere for that host and path", () => {
    const table = tableOf([
      route("r1", { host: HOST }),
      registration("n1", 1, { host: "a.example.com", ...ofP1 }),
      registration("n2", 1, { host: "b.example.com", ...ofP1 }),
      registration("n3", 2, { host: "b.example.com", ...ofP1 }),
      registration("n4", 3, { processGuid: "p2" }),
    ]);
    expect(shares(table)).toEqual(["all http1 2: 1 2"]);
  });

  it("moves the routes that lead to it, and only where its registrations count", () => {
    const table = tableOf([
      route("r1", { host: HOST }),
      route("r2", { host: "a.example.com" }),
      route("r3", { host: "b.example.com", destinations: [destination("p2")] }),
      registration("n1", 1, ofP1),
    ]);
    expect(moves(table, registration("n2", 2, { host: "c.example.com", ...ofP1 }))).toEqual([
      "a.example.com",
      "c.example.com",
    ]);
    expect(moves(table, registration("n1", 3, ofP1))).toEqual(["a.example.com", HOST]);
    expect(moves(table, process("p1"))).toEqual(["a.example.com", HOST]);
    expect(moves(table, registration("n1", 4, ofP1))).toEqual([]);
    expect(moves(table, gone(process("p1")))).toEqual(["a.example.com", HOST]);
    expect(shares(table)).toEqual(["all http1 1: 4"]);
  });

  it("does not run for a route of copilot: registrations tell no version", () => {
    const table = tableOf([
      route("r1", { host: HOST, destinations: [destination("p1", 1)] }, "copilot"),
      association("p1", "v1"),
      registration("n1", 1, ofP1),
    ]);
    expect(shares(table)).toEqual(["p1:8080 http1 1: "]);
  });
});

describe("a route of copilot", () => {
  const versioned = (version: string, hostPort: number) => ({ ...instance(hostPort), version });

  it("leads to the versions that its processes are associated with, and nowhere without", () => {
    const table = tableOf([
      route("r1", { host: HOST, destinations: [destination("p1", 1), destination("p2", 128)] }, "copilot"),
      route("r2", { host: "cc.example.com" }),
      process("p1", { instances: [versioned("v1", 1), versioned("v2", 2), versioned("v3", 3)] }),
      process("p2", { instances: [versioned("v1", 4)] }),
    ]);
    expect(shares(table)).toEqual(["p1:8080 http1 1: ", "p2:8080 http1 128: "]);
    expect(moves(table, association("p1", "v1", "v3"))).toEqual([HOST]);
    expect(shares(table)).toEqual(["p1:8080 http1 1: 1 3", "p2:8080 http1 128: "]);
    expect(moves(table, association("p1", "v2"))).toEqual([HOST]);
    expect(shares(table)).toEqual(["p1:8080 http1 1: 2", "p2:8080 http1 128: "]);
    expect(moves(table, gone(association("p1")))).toEqual([HOST]);
    expect(moves(table, process("p1"))).toEqual(["cc.example.com"]);
  });

  it("takes 8080 of an instance, or its lowest port, where no port is said", () => {
    const ports = (...list: number[]) => list.map((containerPort) => ({ containerPort, hostPort: containerPort + 1 }));
    const table = tableOf([
      route("r1", { host: HOST, destinations: [{ processGuid: "p1", weight: 1 }] }, "copilot"),
      association("p1", "v1"),
      process("p1", {
        instances: [
          { version: "v1", ports: ports(7000, 8080) },
          { version: "v1", ports: ports(9000, 7000) },
          { version: "v1" },
        ],
      }),
    ]);
    expect(shares(table)).toEqual(["p1:0 http1 1: 8081 7001"]);
  });
});

describe("a host and path that is known from registrations alone", () => {
  it("gives all of them equal shares, by protocol", () => {
    const table = tableOf([
      registration("n2", 2),
      registration("n1", 1),
      registration("n3", 3, { protocol: "http2" }),
      registration("n4", 4, { path: "/v2/" }),
    ]);
    expect(shares(table)).toEqual(["all http1 2: 1 2", "all http2 1: 3"]);
    expect(shares(table, "/v2")).toEqual(["all http1 1: 4"]);
  });

  it("makes one pool of what NATS and the routing API tell of, with no endpoint twice", () => {
    const routingApi = (id: string, port: number) => ({
      ...registration(id, port),
      key: `registration.routingapi.${id}`,
    });
    const table = tableOf([registration("n1", 1), routingApi("a1", 2), routingApi("a2", 1)]);
    expect(shares(table)).toEqual(["all http1 2: 1 2"]);
    expect(moves(table, gone(registration("n1", 1)))).toEqual([HOST]);
    expect(shares(table)).toEqual(["all http1 2: 2 1"]);
    table.apply([gone(routingApi("a1", 2)), gone(routingApi("a2", 1))]);
    expect(groups(table)).toEqual([]);
  });

  it("leaves out what is registered by a name: Envoy dials addresses", () => {
    const table = tableOf([
      registration("n1", 1, { address: "app.service.internal" }),
      registration("n2", 2, { address: "fd00::1" }),
      registration("n3", 3),
    ]);
    expect(shares(table)).toEqual(["all http1 2: 2 3"]);
  });

  it("takes its options from the newest endpoint, and from the first key among equals", () => {
    const options = (loadbalancing: string) => ({ loadbalancing, hashHeader: "X-Tenant" });
    const table = tableOf([
      registration("n2", 2, { updatedAtNs: 5n, options: options("least-connection") }),
      registration("n1", 1, { updatedAtNs: 5n, options: options("round-robin") }),
      registration("n3", 3, { updatedAtNs: 4n, options: options("hash") }),
    ]);
    expect(pathRoute(table)?.balancing).toEqual({ algorithm: "round-robin" });
    table.apply([registration("n3", 3, { updatedAtNs: 6n, options: options("hash") })]);
    expect(pathRoute(table)?.balancing).toEqual({ algorithm: "hash", header: "X-Tenant", balance: undefined });
  });

  it("goes with its last registration", () => {
    const table = tableOf([registration("n1", 1), registration("n2", 2)]);
    expect(moves(table, gone(registration("n1", 1)))).toEqual([HOST]);
    expect(groups(table)).toEqual([HOST]);
    expect(moves(table, gone(registration("n2", 2)))).toEqual([HOST]);
    expect(groups(table)).toEqual([]);
  });

  it("moves when a registration changes its host", () => {
    const table = tableOf([registration("n1", 1)]);
    expect(moves(table, registration("n1", 1, { host: "a.example.com" }))).toEqual(["a.example.com", HOST]);
  });
});

describe("balancing", () => {
  const of = (loadbalancing: string, hashHeader = "", hashBalance = "") =>
    pathRoute(tableOf([route("r1", { host: HOST, options: { loadbalancing, hashHeader, hashBalance } })]))?.balancing;

  it("is what the route says", () => {
    expect(of("")).toEqual({ algorithm: "round-robin" });
    expect(of("round-robin")).toEqual({ algorithm: "round-robin" });
    expect(of("least-connection")).toEqual({ algorithm: "least-connection" });
    expect(of("hash", "X-Tenant", "1.25")).toEqual({ algorithm: "hash", header: "X-Tenant", balance: 1.25 });
    expect(of("hash", "X-Tenant", "0")).toEqual({ algorithm: "hash", header: "X-Tenant", balance: undefined });
  });

  it("is round robin for what no router could do", () => {
    for (const header of ["", "x y", "x:y", "ä", "x".repeat(129)]) {
      expect(of("hash", header)).toEqual({ algorithm: "round-robin" });
    }
    expect(of("by-moon")).toEqual({ algorithm: "round-robin" });
    for (const balance of ["1", "11", "-2", "much"])
      expect(of("hash", "x", balance)).toMatchObject({ balance: undefined });
  });
});

describe("TLS to apps", () => {
  const tlsInstances = [
    { address: "10.0.0.1", certSan: "i0", ports: [{ containerPort: 8080, hostPort: 1, hostTlsPort: 101 }] },
    { address: "10.0.0.1", certSan: "i1", ports: [{ containerPort: 8080, hostPort: 0, hostTlsPort: 102 }] },
    { address: "10.0.0.1", certSan: "", ports: [{ containerPort: 8080, hostPort: 3, hostTlsPort: 103 }] },
    { address: "10.0.0.1", certSan: "i4", ports: [{ containerPort: 8080, hostPort: 4 }] },
    { address: "10.0.0.1", certSan: "i5", ports: [{ containerPort: 8080 }] },
    { address: "10.0.0.1", certSan: "i6", ports: [{ containerPort: 9090, hostPort: 6, hostTlsPort: 106 }] },
  ];
  const entries = [
    route("r1", { host: HOST }),
    process("p1", { instances: tlsInstances }),
    registration("n1", 201, { path: "/nats", tls: true, certSan: "i1" }),
    registration("n2", 202, { path: "/nats", tls: true }),
    registration("n3", 203, { path: "/nats" }),
  ];

  it("is preferred where the router can check certificates", () => {
    const table = tableOf(entries, { dialsTls: true });
    expect(shares(table)).toEqual(["all http1 4: tls:101:i0 tls:102:i1 3 4"]);
    expect(shares(table, "/nats")).toEqual(["all http1 3: tls:201:i1 tls:202: 203"]);
  });

  it("leaves out what takes nothing else where the router can't", () => {
    const table = tableOf(entries);
    expect(shares(table)).toEqual(["all http1 3: 1 3 4"]);
    expect(shares(table, "/nats")).toEqual(["all http1 1: 203"]);
  });
});

describe("isolation segments", () => {
  const entries = ["", "red", "blue"].flatMap((isolationSegment, index) => [
    registration(`n${index}`, index, { host: `nats${index}.example.com`, isolationSegment }),
    registration(`p${index}`, 10 + index, { host: "nats.example.com", isolationSegment }),
    route(`r${index}`, { host: `cc${index}.example.com`, destinations: [destination(`p${index}`)] }),
    process(`p${index}`, { instances: [{ ...instance(20 + index), isolationSegment }] }),
  ]);
  const seen = (mode: "all" | "shared-and-segments" | "segments") => {
    const table = tableOf(entries, { sharding: { mode, isolationSegments: ["red"] } });
    const ports = [0, 1, 2].map((index) => pathRoute(table, "", `cc${index}.example.com`)?.shares[0]?.endpoints.length);
    return { groups: groups(table).filter((group) => group.startsWith("nats")), running: ports };
  };

  it("are served as the router's sharding mode says", () => {
    const all = ["nats.example.com", "nats0.example.com", "nats1.example.com", "nats2.example.com"];
    expect(seen("all")).toEqual({ groups: all, running: [1, 1, 1] });
    expect(seen("shared-and-segments")).toEqual({ groups: all.slice(0, 3), running: [1, 1, 0] });
    expect(seen("segments")).toEqual({ groups: ["nats.example.com", "nats1.example.com"], running: [0, 1, 0] });
  });

  it("take an endpoint out when it moves to one that is not served", () => {
    const table = tableOf([registration("n1", 1)], { sharding: { mode: "segments", isolationSegments: ["red"] } });
    expect(groups(table)).toEqual([]);
    expect(moves(table, registration("n1", 1, { isolationSegment: "red" }))).toEqual([HOST]);
    expect(moves(table, registration("n1", 1, { isolationSegment: "blue" }))).toEqual([HOST]);
    expect(groups(table)).toEqual([]);
  });
});

describe("route policies", () => {
  const policed = (routePolicyScope: string, ...routePolicySources: string[]) => ({
    options: { routePolicyScope, routePolicySources },
  });
  const owned = (processGuid: string, spaceGuid: string) => ({
    ...destination(processGuid),
    appGuid: processGuid,
    spaceGuid,
  });
  const app = (guid: string) => ({ kind: "app", guid });
  /** "<owner>: <ports>" */
  const parts = (table: RoutingTable) =>
    pathRoute(table)?.policy?.parts.map(
      ({ owner, shares: own }) =>
        `${owner}: ${own.flatMap(({ endpoints }) => endpoints.map(({ port }) => port)).join(" ")}`,
    );

  it("hold whoever tells of them: a source that does not know opens nothing", () => {
    const table = tableOf([route("copilot", { host: HOST }, "copilot"), registration("n1", 1)]);
    expect(pathRoute(table)?.policy).toBeUndefined();
    const guarding = route("bbs", { host: HOST, ...policed("any", "cf:app:a") }, "bbs");
    expect(moves(table, guarding)).toEqual([HOST]);
    expect(pathRoute(table)).toMatchObject({ routeGuid: "copilot", policy: { scope: "any", sources: [app("a")] } });
    expect(moves(table, route("bbs", { host: HOST, ...policed("any", "cf:app:b") }, "bbs"))).toEqual([HOST]);
    expect(pathRoute(table)?.policy?.sources).toEqual([app("b")]);
    expect(moves(table, registration("n2", 2, policed("space")))).toEqual([HOST]);
    expect(pathRoute(table)?.policy?.sources).toEqual([app("b")]);
    expect(moves(table, gone(guarding))).toEqual([HOST]);
    expect(pathRoute(table)?.policy).toEqual({ scope: "space", sources: [], parts: [] });
    expect(moves(table, gone(registration("n2", 2)))).toEqual([HOST]);
    expect(pathRoute(table)?.policy).toBeUndefined();
  });

  it("are what Cloud Controller says, where it says any", () => {
    const table = tableOf([
      route("cc", { host: HOST, ...policed("any", "cf:app:a") }),
      route("bbs", { host: HOST, ...policed("any", "cf:any") }, "bbs"),
    ]);
    expect(pathRoute(table)?.policy?.sources).toEqual([app("a")]);
  });

  it("part a route by the owners of its apps where the scope asks for them, and by nothing else", () => {
    const destinations = [owned("p1", "s1"), owned("p2", "s2"), owned("p3", ""), owned("p4", "s1")];
    const at = (scope: string) =>
      tableOf([
        route("r1", { host: HOST, destinations, ...policed(scope, "cf:any") }),
        ...destinations.map(({ processGuid }, index) =>
          process(processGuid, { instances: [instance(61_001 + index)] }),
        ),
      ]);
    expect(parts(at("space"))).toEqual(["s1: 61001 61004", "s2: 61002"]);
    expect(parts(at("any"))).toEqual([": 61001 61002 61003 61004"]);
    expect(parts(at("org"))).toEqual([]);
    expect(parts(at("galaxy"))).toEqual([]);
    expect(shares(at("space"))).toEqual(["all http1 4: 61001 61002 61003 61004"]);
  });

  it("part registrations by their tags", () => {
    const tags = (value: string) => [{ name: "space_id", value }];
    const table = tableOf([
      registration("n1", 1, { ...policed("space", "cf:any"), tags: tags("s1") }),
      registration("n2", 2, { ...policed("space", "cf:any"), tags: tags("s2") }),
      registration("n3", 3, policed("space", "cf:any")),
    ]);
    expect(parts(table)).toEqual(["s1: 1", "s2: 2"]);
  });

  it("leave the annotations of a route to the parts that have the apps that they name", () => {
    const annotation = (name: string, value: string) => ({ name: `cf-mesh.local/${name}`, value });
    const table = tableOf([
      route("r1", {
        host: HOST,
        destinations: [owned("p1", "s1"), owned("p2", "s2"), owned("p3", "s2")],
        annotations: [annotation("match", "header X-Canary -> p2"), annotation("match-only", "p2")],
        ...policed("space", "cf:any"),
      }),
    ]);
    const [one, other] = pathRoute(table)?.policy?.parts ?? [];
    expect(one?.split?.branches).toEqual([]);
    expect(other?.split?.branches.map(({ match }) => match.app)).toEqual(["p2"]);
    expect(other?.shares.map(({ name }) => name)).toEqual(["p3:8080"]);
  });
});
