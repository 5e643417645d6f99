import { fromBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { encodeProcess, encodeRoute, type RouteInit } from "../entries/entries.js";
import { type Cluster, Cluster_LbPolicy, ClusterSchema } from "../gen/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "../gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { RouteConfigurationSchema } from "../gen/envoy/config/route/v3/route_pb.js";
import type { Route } from "../gen/envoy/config/route/v3/route_components_pb.js";
import { HttpProtocolOptionsSchema } from "../gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import { RoutingTable } from "../model/routing-table.js";
import { type AppTls, appTlsOf } from "./app-tls.js";
import { type CompiledGroup, compileGroup } from "./compile-group.js";

const HOST = "shop.example.com";
const OPTIONS = {
  maxAttempts: 3,
  maxConnectionsPerBackend: 0,
  preferredZone: undefined,
  requestTimeoutMs: 900_000,
  backends: {
    keepAlive: true,
    idleTimeoutMs: 90_000,
    connectTimeoutMs: 5_000,
    maxResponseHeaderKb: 1_024,
    maxResponseHeaders: 1_000,
  },
  clientDomains: [],
  routeServiceCluster: undefined,
};
const to = (processGuid: string, weight = 0, protocol = "http1") => ({ processGuid, weight, port: 8080, protocol });

/** A table with these routes; "blue" has one instance, "green" three, "none" has none. */
function compile(group: string, ...routes: RouteInit[]): CompiledGroup {
  const table = new RoutingTable({ dialsTls: false });
  const instances = (count: number, first: number) =>
    Array.from({ length: count }, (_, index) => ({
      address: "10.0.0.1",
      ports: [
        { containerPort: 8080, hostPort: first + index },
        { containerPort: 9090, hostPort: first + 100 + index },
      ],
    }));
  table.apply([
    ...routes.map((init, index) => ({ key: `route.cc.r${index}`, value: encodeRoute({ host: HOST, ...init }) })),
    { key: "process.bbs.blue", value: encodeProcess({ processGuid: "blue", instances: instances(1, 61_000) }) },
    { key: "process.bbs.green", value: encodeProcess({ processGuid: "green", instances: instances(3, 62_000) }) },
  ]);
  const routesOfGroup = table.group(group);
  if (!routesOfGroup) throw new Error(`no group ${group}`);
  return compileGroup(routesOfGroup, { ...OPTIONS, appTls: undefined });
}

/** "<locality> <weight>: <ports>" for each locality of a cluster. */
function localities(compiled: CompiledGroup, cluster: string): readonly string[] {
  const body = compiled.endpoints.get(cluster)?.body;
  if (!body) throw new Error(`no endpoints for ${cluster}`);
  return fromBinary(ClusterLoadAssignmentSchema, body).endpoints.map((locality) => {
    const ports = locality.lbEndpoints.map(({ hostIdentifier }) => {
      const address = hostIdentifier.case === "endpoint" ? hostIdentifier.value.address?.address : undefined;
      const port = address?.case === "socketAddress" ? address.value.portSpecifier : undefined;
      return port?.case === "portValue" ? port.value : 0;
    });
    return `${locality.locality?.subZone ?? ""} ${locality.loadBalancingWeight ?? 0}: ${ports.join(" ")}`;
  });
}

/** "<domains> <path>: <clusters>" for each route that any request may take, in the order in which Envoy tries them. */
function routes(compiled: CompiledGroup): readonly string[] {
  return fromBinary(RouteConfigurationSchema, compiled.routes.body).virtualHosts.flatMap(({ domains, routes: list }) =>
    list.filter(isForAll).map(({ name, action }) => {
      const target = action.case === "route" ? action.value.clusterSpecifier : undefined;
      const clusters =
        target?.case === "weightedClusters"
          ? target.value.clusters.map((cluster) => `${cluster.name}=${cluster.weight ?? 0}`).join(" ")
          : target?.case === "cluster"
            ? target.value
            : "";
      return `${domains.join(" ")} ${name}: ${clusters}`;
    }),
  );
}

/** Not one of requests for a certain instance alone. */
function isForAll({ match }: Route): boolean {
  return match?.dynamicMetadata.length === 0;
}

function clusterOf(compiled: CompiledGroup, name: string): Cluster {
  return fromBinary(ClusterSchema, compiled.clusters.get(name)?.body ?? new Uint8Array());
}

function protocolOf(compiled: CompiledGroup, cluster: string): string | undefined {
  const [any] = Object.values(clusterOf(compiled, cluster).typedExtensionProtocolOptions);
  const { upstreamProtocolOptions } = fromBinary(HttpProtocolOptionsSchema, any?.value ?? new Uint8Array());
  return upstreamProtocolOptions.case === "explicitHttpConfig"
    ? upstreamProtocolOptions.value.protocolConfig.case
    : undefined;
}

describe("a compiled host", () => {
  it("gives each weighted destination a locality of its weight, whatever its instance count", () => {
    const compiled = compile(HOST, { destinations: [to("blue", 90), to("green", 10)] });
    expect(localities(compiled, `${HOST}|http1`)).toEqual(["blue:8080 90: 61000", "green:8080 10: 62000 62001 62002"]);
  });

  it("gives the two processes of an app that is rolled out one share between them", () => {
    const web = { appGuid: "app", processType: "web" };
    const compiled = compile(HOST, {
      destinations: [{ ...to("blue", 90), ...web }, { ...to("green", 90), ...web }, to("none", 10)],
    });
    expect(localities(compiled, `${HOST}|http1`)).toEqual(["app:web:8080 90: 61000 62000 62001 62002"]);
  });

  it("leaves a destination with nothing running to its siblings", () => {
    const compiled = compile(HOST, { destinations: [to("none", 90), to("green", 10)] });
    expect(localities(compiled, `${HOST}|http1`)).toEqual(["green:8080 10: 62000 62001 62002"]);
  });

  it("gives every instance an equal share on a route without weights", () => {
    const compiled = compile(HOST, { destinations: [to("blue"), to("green")] });
    expect(localities(compiled, `${HOST}|http1`)).toEqual(["all 4: 61000 62000 62001 62002"]);
  });

  it("gives nothing to a destination without a weight beside weighted ones", () => {
    const compiled = compile(HOST, { destinations: [to("blue", 0), to("green", 100)] });
    expect(localities(compiled, `${HOST}|http1`)).toEqual(["green:8080 100: 62000 62001 62002"]);
  });

  it("leaves out a protocol of which nothing runs while another's serve, and keeps it when nothing runs at all", () => {
    const destinations = (http2: string) => [to("none"), { ...to(http2), protocol: "http2" }];
    const serving = compile(HOST, { destinations: destinations("blue") });
    expect([...serving.clusters.keys()]).toEqual([`${HOST}|http2`]);
    expect([...serving.endpoints.keys()]).toEqual([`${HOST}|http2`]);
    expect(new Set(routes(serving))).toEqual(new Set([`* /: ${HOST}|http2`]));
    const silent = compile(HOST, { destinations: destinations("none") });
    expect([...silent.endpoints.keys()]).toEqual([`${HOST}|http1`, `${HOST}|http2`]);
    expect(new Set(routes(silent))).toEqual(new Set([`* /: ${HOST}|http1`]));
  });

  it("has a cluster without endpoints when nothing runs", () => {
    const compiled = compile(HOST, { destinations: [to("none")] });
    expect(localities(compiled, `${HOST}|http1`)).toEqual([]);
  });

  describe("with paths", () => {
    const path = (name: string, processGuid: string) => ({ path: name, destinations: [to(processGuid)] });
    const served = (...routesOfHost: RouteInit[]) => [
      ...new Set(routes(compile(HOST, ...routesOfHost)).map((text) => text.split(" ")[1])),
    ];

    it("leaves out one where nothing runs below one that serves, and keeps its endpoints as they were", () => {
      const compiled = compile(HOST, path("", "blue"), path("/a", "none"), path("/a/b", "green"));
      expect([...new Set(routes(compiled))]).toEqual([`* /a/b: ${HOST}/a/b|http1`, `* /: ${HOST}|http1`]);
      expect([...compiled.endpoints.keys()].sort()).toEqual([`${HOST}/a/b|http1`, `${HOST}|http1`]);
    });

    it("leaves out all below one that is kept where nothing runs at any of them", () => {
      expect(served(path("", "none"), path("/a", "none"), path("/a/b", "none"))).toEqual(["/:"]);
      expect(served(path("/a", "none"), path("/ab", "none"), path("/a/b", "blue"))).toEqual(["/a/b:", "/ab:", "/a:"]);
    });
  });

  it("dials the port that the destination names", () => {
    const compiled = compile(HOST, { destinations: [{ ...to("green"), port: 9090 }] });
    expect(localities(compiled, `${HOST}|http1`)).toEqual(["all 3: 62100 62101 62102"]);
  });

  it("changes endpoints and nothing else when a weight changes", () => {
    const before = compile(HOST, { destinations: [to("blue", 90), to("green", 10)] });
    const after = compile(HOST, { destinations: [to("blue", 50), to("green", 50)] });
    expect(after.routes).toEqual(before.routes);
    expect(after.clusters).toEqual(before.clusters);
    expect(after.endpoints).not.toEqual(before.endpoints);
  });

  it("tries longer paths first, each for safe methods and then for the others", () => {
    const compiled = compile(HOST, { destinations: [to("blue")] }, { path: "/cart", destinations: [to("green")] });
    expect(routes(compiled)).toEqual([
      `* /cart: ${HOST}/cart|http1`,
      `* /cart: ${HOST}/cart|http1`,
      `* /: ${HOST}|http1`,
      `* /: ${HOST}|http1`,
    ]);
  });

  it("leaves out a path that no request can have, and that Envoy would refuse the host for", () => {
    const compiled = compile(HOST, { destinations: [to("blue")] }, { path: "/a#b", destinations: [to("green")] });
    expect(new Set(routes(compiled))).toEqual(new Set([`* /: ${HOST}|http1`]));
  });

  it("weighs the clusters of two protocols by what runs behind them", () => {
    const compiled = compile(HOST, { destinations: [to("blue", 20, "http2"), to("green", 80), to("none", 5)] });
    expect(routes(compiled)[0]).toBe(`* /: ${HOST}|http1=80 ${HOST}|http2=20`);
    expect(protocolOf(compiled, `${HOST}|http1`)).toBe("httpProtocolOptions");
    expect(protocolOf(compiled, `${HOST}|http2`)).toBe("http2ProtocolOptions");
  });

  it("gives equal input equal bytes and versions", () => {
    const once = compile(HOST, { destinations: [to("blue", 90), to("green", 10)] });
    expect(compile(HOST, { destinations: [to("blue", 90), to("green", 10)] })).toEqual(once);
  });
});

describe("a compiled group of wildcard hosts", () => {
  it("lets what no path of a wildcard matches go to the wildcards above it", () => {
    const compiled = compile(
      "*.example.com",
      { host: "*.example.com", destinations: [to("blue")] },
      { host: "*.a.example.com", path: "/x", destinations: [to("green")] },
    );
    const once = [...new Set(routes(compiled))];
    expect(once).toEqual([
      "*.a.example.com /x: *.a.example.com/x|http1",
      "*.a.example.com /: *.example.com|http1",
      "*.example.com /: *.example.com|http1",
    ]);
  });
});

describe("balancing", () => {
  const destinations = [to("blue", 0, "http2"), to("green")];
  const compiled = (loadbalancing: string, hashBalance = "") =>
    compile(HOST, { destinations, options: { loadbalancing, hashHeader: "X-Tenant", hashBalance } });
  const firstAction = (group: CompiledGroup) => {
    const [host] = fromBinary(RouteConfigurationSchema, group.routes.body).virtualHosts;
    const action = host?.routes.find(isForAll)?.action;
    if (action?.case !== "route") throw new Error("a route that leads somewhere");
    return action.value;
  };

  it("is a matter of the cluster: round robin, least connection or a table of hashes", () => {
    const policy = (loadbalancing: string) => clusterOf(compiled(loadbalancing), `${HOST}|http1`).lbPolicy;
    expect(["", "round-robin", "least-connection", "hash"].map(policy)).toEqual([
      Cluster_LbPolicy.ROUND_ROBIN,
      Cluster_LbPolicy.ROUND_ROBIN,
      Cluster_LbPolicy.LEAST_REQUEST,
      Cluster_LbPolicy.MAGLEV,
    ]);
  });

  it("bounds by how much the endpoint of a hash may be busier than the others, where that is said", () => {
    const bound = (balance: string) =>
      clusterOf(compiled("hash", balance), `${HOST}|http1`).commonLbConfig?.consistentHashingLbConfig
        ?.hashBalanceFactor;
    expect(["", "0", "1.25", "10"].map(bound)).toEqual([undefined, undefined, 125, 1_000]);
  });

  it("hashes the header for the endpoint and for the protocol alike, and nothing for other algorithms", () => {
    const { hashPolicy, clusterSpecifier } = firstAction(compiled("hash"));
    expect(hashPolicy.map(({ policySpecifier }) => policySpecifier)).toMatchObject([
      { case: "header", value: { headerName: "X-Tenant" } },
    ]);
    expect(clusterSpecifier).toMatchObject({ value: { randomValueSpecifier: { case: "useHashPolicy" } } });
    const other = firstAction(compiled("least-connection"));
    expect(other.hashPolicy).toEqual([]);
    expect(other.clusterSpecifier).toMatchObject({ value: { randomValueSpecifier: { case: undefined } } });
  });
});

describe("the app of a request", () => {
  const app = (processGuid: string) => ({ ...to(processGuid), appGuid: `${processGuid}-app` });
  const headers = (compiled: CompiledGroup) => {
    const { virtualHosts } = fromBinary(RouteConfigurationSchema, compiled.routes.body);
    const values = (of: { requestHeadersToAdd: { header?: { value: string } | undefined }[] }) =>
      of.requestHeadersToAdd.map(({ header }) => header?.value);
    return virtualHosts.map((host) => ({ host: values(host), routes: host.routes.map(values) }));
  };
  const instances = (processGuid: string) => ({
    key: `process.bbs.${processGuid}`,
    value: encodeProcess({
      processGuid,
      appGuid: `${processGuid}-app`,
      instances: [{ address: "10.0.0.1", ports: [{ containerPort: 8080, hostPort: processGuid.length }] }],
    }),
  });
  const compiled = (host: string, ...routes: RouteInit[]) => {
    const table = new RoutingTable({ dialsTls: false });
    table.apply([
      ...routes.map((init, index) => ({ key: `route.cc.r${index}`, value: encodeRoute({ host, ...init }) })),
      ...["blue", "green"].map(instances),
    ]);
    const group = table.group(host);
    if (!group) throw new Error(`no group ${host}`);
    return compileGroup(group, { ...OPTIONS, appTls: undefined });
  };
  const OF_ONE = { destinations: [app("blue")] };

  it("is told by the host where all its routes lead to one, and by each route where they lead to several", () => {
    expect(headers(compiled(HOST, OF_ONE))).toEqual([{ host: ["blue-app"], routes: [[], []] }]);
    const more = { path: "/more", destinations: [app("green")] };
    expect(headers(compiled(HOST, OF_ONE, more))).toEqual([
      { host: [], routes: [["green-app"], ["green-app"], ["blue-app"], ["blue-app"]] },
    ]);
    expect(headers(compiled("*.example.com", OF_ONE))).toEqual([{ host: [], routes: [["blue-app"], ["blue-app"]] }]);
  });

  it("is told by the endpoints where one path leads to several", () => {
    const both = compiled(HOST, { destinations: [app("blue"), app("green")] });
    expect(headers(both)).toEqual([{ host: [""], routes: [[], []] }]);
    const { body } = both.endpoints.get(`${HOST}|http1`) ?? { body: new Uint8Array() };
    const apps = fromBinary(ClusterLoadAssignmentSchema, body).endpoints.flatMap(({ lbEndpoints }) =>
      lbEndpoints.map(({ metadata }) => metadata?.filterMetadata["cf"]?.["app_id"]),
    );
    expect(apps.sort()).toEqual(["blue-app", "green-app"]);
  });
});

describe("TLS to apps", () => {
  const secured = { address: "10.0.0.1", certSan: "i1", ports: [{ containerPort: 8080, hostPort: 1, hostTlsPort: 2 }] };
  const plain = { address: "10.0.0.1", ports: [{ containerPort: 8080, hostPort: 3 }] };
  const compiled = (instances: readonly (typeof secured | typeof plain)[], appTls?: AppTls) => {
    const table = new RoutingTable({ dialsTls: appTls !== undefined });
    table.apply([
      { key: "route.cc.r1", value: encodeRoute({ host: HOST, destinations: [to("p1")] }) },
      { key: "process.bbs.p1", value: encodeProcess({ processGuid: "p1", instances: [...instances] }) },
    ]);
    const group = table.group(HOST);
    if (!group) throw new Error("no group");
    return compileGroup(group, { ...OPTIONS, appTls });
  };
  const VERIFYING = appTlsOf({ caSecretFile: "/run/ca", certificateSecretFile: undefined });
  const cluster = (group: CompiledGroup) => group.clusters.get(`${HOST}|http1`);
  const endpoints = (group: CompiledGroup) => {
    const { body } = group.endpoints.get(`${HOST}|http1`) ?? { body: new Uint8Array() };
    return fromBinary(ClusterLoadAssignmentSchema, body).endpoints.flatMap(({ lbEndpoints }) =>
      lbEndpoints.map(({ hostIdentifier, metadata }) => ({
        hostname: hostIdentifier.case === "endpoint" ? hostIdentifier.value.hostname : undefined,
        mark: metadata?.filterMetadata["envoy.transport_socket_match"],
      })),
    );
  };

  it("is for all endpoints but those that are marked, with the name that their certificate must have", () => {
    expect(endpoints(compiled([secured, plain], VERIFYING))).toEqual([
      { hostname: "i1", mark: undefined },
      { hostname: "", mark: { plain: true } },
    ]);
  });

  it("leaves the cluster as it is when endpoints of TLS come and go", () => {
    const showing = appTlsOf({ caSecretFile: "/run/ca", certificateSecretFile: "/run/certificate" });
    expect(cluster(compiled([secured], showing))).toEqual(cluster(compiled([plain], showing)));
    expect(cluster(compiled([secured], showing))).not.toEqual(cluster(compiled([secured], VERIFYING)));
  });

  it("costs a router without a CA nothing", () => {
    expect(clusterOf(compiled([secured]), `${HOST}|http1`).transportSocketMatches).toEqual([]);
    expect(endpoints(compiled([secured]))).toEqual([{ hostname: "", mark: undefined }]);
  });
});
