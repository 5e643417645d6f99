/** One group of hosts of the routing table as Envoy's resources: route configuration, clusters, endpoints. */
import { create, fromJson } from "@bufbuild/protobuf";
import { anyPack, type Any, DurationSchema } from "@bufbuild/protobuf/wkt";
import { ClusterSchema, Cluster_DiscoveryType, Cluster_LbPolicy } from "../gen/envoy/config/cluster/v3/cluster_pb.js";
import { CircuitBreakersSchema } from "../gen/envoy/config/cluster/v3/circuit_breaker_pb.js";
import { ConfigSourceSchema } from "../gen/envoy/config/core/v3/config_source_pb.js";
import { ClusterLoadAssignmentSchema } from "../gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { RouteConfigurationSchema } from "../gen/envoy/config/route/v3/route_pb.js";
import {
  FilterConfigSchema,
  RetryPolicySchema,
  RouteSchema,
  type Route as RdsRoute,
  type RouteMatch,
  RouteMatchSchema,
} from "../gen/envoy/config/route/v3/route_components_pb.js";
import { HttpProtocolOptionsSchema } from "../gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import { isWildcard, wildcardsAbove } from "../model/hosts.js";
import type { GroupRoutes, PathRoute, ResolvedDestination } from "../model/routing-table.js";
import { clusterName, SCOPE_HEADER, SEARCH_FILTERS, UPSTREAM_PROTOCOLS, type UpstreamProtocol } from "./names.js";
import { encodeResource, type EncodedResource } from "./resource.js";

export interface CompiledGroup {
  readonly routes: EncodedResource;
  readonly clusters: ReadonlyMap<string, EncodedResource>;
  /** By the name of their cluster. */
  readonly endpoints: ReadonlyMap<string, EncodedResource>;
}

/** Longest time a request may take, as on Gorouter. Connections that were upgraded (WebSocket) have no limit. */
const REQUEST_TIMEOUT_SECONDS = 900n;
const CONNECT_TIMEOUT_SECONDS = 5n;

/** Attempts beyond the first; each goes to an instance that was not tried yet. */
const RETRIES = 2;
const RETRY_UNSENT = "connect-failure,refused-stream,reset-before-request";
/** For requests that may be sent twice: no effect by their method, and without a body. */
const RETRY_SAFE = `${RETRY_UNSENT},reset`;

/** Envoy's own limits (1,024 each, 3 retries) would refuse requests that an app could take. */
const UNLIMITED = 4_000_000_000;

const seconds = (count: bigint) => create(DurationSchema, { seconds: count });
const ADS = fromJson(ConfigSourceSchema, { ads: {}, resourceApiVersion: "V3" });
const FILTERS_OFF: Record<string, Any> = Object.fromEntries(
  SEARCH_FILTERS.map((filter) => [filter, anyPack(FilterConfigSchema, create(FilterConfigSchema, { disabled: true }))]),
);
/** What Envoy adds for itself, and apps behind Gorouter never saw. */
const HEADERS_TO_REMOVE = [SCOPE_HEADER, "x-envoy-external-address", "x-envoy-expected-rq-timeout-ms"];
const CIRCUIT_BREAKERS = create(CircuitBreakersSchema, {
  thresholds: [
    {
      maxConnections: UNLIMITED,
      maxPendingRequests: UNLIMITED,
      maxRequests: UNLIMITED,
      maxRetries: UNLIMITED,
    },
  ],
});
const HTTP2 = {
  "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": anyPack(
    HttpProtocolOptionsSchema,
    create(HttpProtocolOptionsSchema, {
      upstreamProtocolOptions: {
        case: "explicitHttpConfig",
        value: { protocolConfig: { case: "http2ProtocolOptions", value: {} } },
      },
    }),
  ),
};

export function compileGroup({ group, hosts }: GroupRoutes): CompiledGroup {
  const clusters = new Map<string, EncodedResource>();
  const endpoints = new Map<string, EncodedResource>();
  const routesByHost = new Map<string, RdsRoute[]>();
  for (const { host, paths } of hosts) {
    const routes = paths.filter(isMatchable).flatMap((path) => {
      const pools = poolsOf(host, path);
      for (const pool of pools) {
        clusters.set(pool.name, compileCluster(pool));
        endpoints.set(pool.name, compileEndpoints(pool));
      }
      return compilePath(path, pools);
    });
    routesByHost.set(host, routes);
  }
  const virtualHosts = hosts.map(({ host }) => ({
    name: host,
    // The scope has found an exact host already; in a group of wildcards Envoy takes the longest that matches.
    domains: [isWildcard(host) ? host : "*"],
    // What no path of a wildcard host matches may match one of the wildcards above it.
    routes: isWildcard(host)
      ? [host, ...wildcardsAbove(host)].flatMap((name) => routesByHost.get(name) ?? [])
      : (routesByHost.get(host) ?? []),
    retryPolicy: retryPolicy(RETRY_UNSENT),
  }));
  const routes = create(RouteConfigurationSchema, {
    name: group,
    virtualHosts,
    requestHeadersToRemove: HEADERS_TO_REMOVE,
    typedPerFilterConfig: FILTERS_OFF,
    ignorePortInHostMatching: true,
  });
  return { routes: encodeResource(RouteConfigurationSchema, group, routes), clusters, endpoints };
}

/** No request has these in its path, and Envoy would refuse the whole host for them. */
function isMatchable({ path }: PathRoute): boolean {
  return !/[?#]/.test(path);
}

/** The destinations of a path that speak one protocol: one cluster. */
interface Pool {
  readonly name: string;
  readonly protocol: UpstreamProtocol;
  readonly loadBalancing: string;
  readonly localities: readonly Locality[];
  /** Relative to the other pools of the path. */
  readonly weight: number;
}

/** Instances that get one share of the requests between them. */
interface Locality {
  readonly name: string;
  readonly weight: number;
  readonly addresses: readonly Address[];
}

interface Address {
  readonly address: string;
  readonly port: number;
}

function poolsOf(host: string, { path, route, destinations }: PathRoute): readonly Pool[] {
  return UPSTREAM_PROTOCOLS.flatMap((protocol) => {
    const members = destinations.filter(
      ({ destination }) => (destination.protocol === "http2") === (protocol === "http2"),
    );
    if (members.length === 0) return [];
    const localities = localitiesOf(members);
    return {
      name: clusterName(host, path, protocol),
      protocol,
      loadBalancing: route.options?.loadbalancing ?? "",
      localities,
      weight: localities.reduce((sum, { weight }) => sum + weight, 0),
    };
  });
}

/**
 * One locality for each weighted destination that has something running: Envoy first picks a locality by its weight,
 * then one of its instances, so a share is exact whatever the number of instances, and a destination with none sends
 * nobody to a 503. Without weights every instance has an equal share, as on Gorouter.
 */
function localitiesOf(members: readonly ResolvedDestination[]): readonly Locality[] {
  const weighted = members.some(({ destination }) => destination.weight > 0);
  if (!weighted) {
    const addresses = members.flatMap(addressesOf);
    return addresses.length > 0 ? [{ name: "all", weight: addresses.length, addresses }] : [];
  }
  const byShare = new Map<string, { name: string; weight: number; addresses: Address[] }>();
  for (const member of members) {
    const addresses = addressesOf(member);
    if (addresses.length === 0) continue;
    const { appGuid, processGuid, processType, port, weight } = member.destination;
    // The processes that a rolling deployment has of one type get one share between them.
    const name = processType === "" ? `${processGuid}:${port}` : `${appGuid}:${processType}:${port}`;
    const share = byShare.get(name);
    if (share) share.addresses.push(...addresses);
    else byShare.set(name, { name, weight, addresses: [...addresses] });
  }
  return [...byShare.values()];
}

/** Where a proxy reaches the instances in plain text. */
function addressesOf({ destination, instances }: ResolvedDestination): readonly Address[] {
  return instances.flatMap(({ address, ports }) =>
    ports
      .filter(({ containerPort, hostPort }) => containerPort === destination.port && hostPort !== 0)
      .map(({ hostPort }) => ({ address, port: hostPort })),
  );
}

/** The Envoy routes of one path: for methods that may be sent again, then for the others. */
function compilePath({ path }: PathRoute, pools: readonly Pool[]): RdsRoute[] {
  const name = path === "" ? "/" : path;
  const match: RouteMatch["pathSpecifier"] =
    path === "" ? { case: "prefix", value: "/" } : { case: "pathSeparatedPrefix", value: path };
  const action = {
    clusterSpecifier: clusterSpecifier(pools),
    timeout: seconds(REQUEST_TIMEOUT_SECONDS),
  };
  const route = (safe: boolean) =>
    create(RouteSchema, {
      // A route must have a name: the search for a wildcard host stops when it sees one.
      name,
      match: create(RouteMatchSchema, {
        pathSpecifier: match,
        caseSensitive: false,
        headers: safe ? SAFE_METHODS : [],
      }),
      action: {
        case: "route",
        value: safe ? { ...action, retryPolicy: retryPolicy(RETRY_SAFE) } : action,
      },
    });
  return [route(true), route(false)];
}

/** Anything but a method with effects; plain comparisons cost Envoy less than one regular expression. */
const SAFE_METHODS = ["POST", "PUT", "PATCH", "DELETE", "CONNECT"].map((method) => ({
  name: ":method",
  invertMatch: true,
  headerMatchSpecifier: {
    case: "stringMatch" as const,
    value: { matchPattern: { case: "exact" as const, value: method } },
  },
}));

function clusterSpecifier(pools: readonly Pool[]) {
  const [only] = pools;
  if (pools.length === 1 && only) return { case: "cluster" as const, value: only.name };
  const serving = pools.filter(({ weight }) => weight > 0);
  // With nothing running any pool gives the answer for that: 503.
  const clusters = serving.length > 0 ? serving.map(({ name, weight }) => ({ name, weight: weight })) : [];
  if (clusters.length === 0 && only) return { case: "cluster" as const, value: only.name };
  return { case: "weightedClusters" as const, value: { clusters } };
}

function retryPolicy(retryOn: string) {
  return create(RetryPolicySchema, {
    retryOn,
    numRetries: RETRIES,
    retryHostPredicate: [PREVIOUS_HOSTS],
    hostSelectionRetryMaxAttempts: 5n,
    // The default pause is up to 25 ms; another instance is another chance at once.
    retryBackOff: { baseInterval: milliseconds(1), maxInterval: milliseconds(10) },
  });
}

const PREVIOUS_HOSTS = {
  name: "envoy.retry_host_predicates.previous_hosts",
  configType: {
    case: "typedConfig" as const,
    value: {
      typeUrl: "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
      value: new Uint8Array(),
    },
  },
};

function milliseconds(value: number) {
  return create(DurationSchema, { nanos: value * 1_000_000 });
}

function compileCluster({ name, protocol, loadBalancing }: Pool): EncodedResource {
  const message = create(ClusterSchema, {
    name,
    clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.EDS },
    edsClusterConfig: { edsConfig: ADS },
    connectTimeout: seconds(CONNECT_TIMEOUT_SECONDS),
    lbPolicy: loadBalancing === "least-connection" ? Cluster_LbPolicy.LEAST_REQUEST : Cluster_LbPolicy.ROUND_ROBIN,
    commonLbConfig: { localityConfigSpecifier: { case: "localityWeightedLbConfig", value: {} } },
    circuitBreakers: CIRCUIT_BREAKERS,
    typedExtensionProtocolOptions: protocol === "http2" ? HTTP2 : {},
  });
  return encodeResource(ClusterSchema, name, message);
}

function compileEndpoints({ name, localities }: Pool): EncodedResource {
  const message = create(ClusterLoadAssignmentSchema, {
    clusterName: name,
    endpoints: localities.map((locality) => ({
      locality: { subZone: locality.name },
      loadBalancingWeight: locality.weight,
      lbEndpoints: locality.addresses.map(({ address, port }) => ({
        hostIdentifier: {
          case: "endpoint" as const,
          value: {
            address: {
              address: {
                case: "socketAddress" as const,
                value: { address, portSpecifier: { case: "portValue" as const, value: port } },
              },
            },
          },
        },
      })),
    })),
  });
  return encodeResource(ClusterLoadAssignmentSchema, name, message);
}
