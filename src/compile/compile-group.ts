/** One group of hosts of the routing table as Envoy's resources: route configuration, clusters, endpoints. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { anyPack, type Any, DurationSchema } from "@bufbuild/protobuf/wkt";
import { RouteConfigurationSchema } from "../gen/envoy/config/route/v3/route_pb.js";
import {
  FilterConfigSchema,
  RetryPolicySchema,
  RouteSchema,
  type Route as RdsRoute,
  type RouteMatch,
  RouteMatchSchema,
} from "../gen/envoy/config/route/v3/route_components_pb.js";
import type { Balancing } from "../model/balancing.js";
import { isWildcard, wildcardsAbove } from "../model/hosts.js";
import type { GroupRoutes, PathRoute } from "../model/routing-table.js";
import { UPSTREAM_PROTOCOLS } from "../model/shares.js";
import type { AppTls } from "./app-tls.js";
import { compileCluster, compileEndpoints, type Pool } from "./compile-cluster.js";
import { clusterName, SCOPE_HEADER, SEARCH_FILTERS } from "./names.js";
import { encodeResource, type EncodedResource } from "./resource.js";

export interface CompiledGroup {
  readonly routes: EncodedResource;
  readonly clusters: ReadonlyMap<string, EncodedResource>;
  /** By the name of their cluster. */
  readonly endpoints: ReadonlyMap<string, EncodedResource>;
}

/** Longest time a request may take, as on Gorouter. Connections that were upgraded (WebSocket) have no limit. */
const REQUEST_TIMEOUT_SECONDS = 900n;

/** Attempts beyond the first; each goes to an instance that was not tried yet. */
const RETRIES = 2;
const RETRY_UNSENT = "connect-failure,refused-stream,reset-before-request";
/** For requests that may be sent twice: no effect by their method, and without a body. */
const RETRY_SAFE = `${RETRY_UNSENT},reset`;

const seconds = (count: bigint) => create(DurationSchema, { seconds: count });
const FILTERS_OFF: Record<string, Any> = Object.fromEntries(
  SEARCH_FILTERS.map((filter) => [filter, anyPack(FilterConfigSchema, create(FilterConfigSchema, { disabled: true }))]),
);
/** What Envoy adds for itself, and apps behind Gorouter never saw. */
const HEADERS_TO_REMOVE = [SCOPE_HEADER, "x-envoy-external-address", "x-envoy-expected-rq-timeout-ms"];

/** `appTls`: undefined for a router that can't check the certificates of apps. */
export function compileGroup({ group, hosts }: GroupRoutes, appTls: AppTls | undefined): CompiledGroup {
  const clusters = new Map<string, EncodedResource>();
  const endpoints = new Map<string, EncodedResource>();
  const routesByHost = new Map<string, RdsRoute[]>();
  for (const { host, paths } of hosts) {
    const routes = paths.filter(isMatchable).flatMap((path) => {
      const pools = poolsOf(host, path);
      for (const pool of pools) {
        clusters.set(pool.name, compileCluster(pool, appTls));
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
  return { routes: compileRoutes(group, virtualHosts), clusters, endpoints };
}

/**
 * The routes of a group that has none. A request that waits for the routes of a host that has just gone gets these, and
 * goes on as one of a host that never was: to its wildcards, or to a 404. Envoy has no answer for it in "there are none".
 */
export function compileAbsence(group: string): EncodedResource {
  return compileRoutes(group, []);
}

function compileRoutes(
  group: string,
  virtualHosts: NonNullable<MessageInitShape<typeof RouteConfigurationSchema>["virtualHosts"]>,
): EncodedResource {
  const routes = create(RouteConfigurationSchema, {
    name: group,
    virtualHosts,
    requestHeadersToRemove: HEADERS_TO_REMOVE,
    typedPerFilterConfig: FILTERS_OFF,
    ignorePortInHostMatching: true,
  });
  return encodeResource(RouteConfigurationSchema, group, routes);
}

/** No request has these in its path, and Envoy would refuse the whole host for them. */
function isMatchable({ path }: PathRoute): boolean {
  return !/[?#]/.test(path);
}

/**
 * A share with nothing running sends nobody to a 503: the others take its part. A pool of such shares is left out where
 * another serves, and not told that it is empty: requests go to it until Envoy has the routes that leave it out.
 */
function poolsOf(host: string, { path, balancing, shares }: PathRoute): readonly Pool[] {
  const pools = UPSTREAM_PROTOCOLS.flatMap((protocol) => {
    const members = shares.filter((share) => share.protocol === protocol);
    if (members.length === 0) return [];
    const serving = members.filter(({ endpoints }) => endpoints.length > 0);
    return { name: clusterName(host, path, protocol), protocol, balancing, shares: serving };
  });
  const serving = pools.filter((pool) => pool.shares.length > 0);
  return serving.length > 0 ? serving : pools;
}

/** The Envoy routes of one path: for methods that may be sent again, then for the others. */
function compilePath({ path, balancing }: PathRoute, pools: readonly Pool[]): RdsRoute[] {
  const name = path === "" ? "/" : path;
  const match: RouteMatch["pathSpecifier"] =
    path === "" ? { case: "prefix", value: "/" } : { case: "pathSeparatedPrefix", value: path };
  const action = {
    clusterSpecifier: clusterSpecifier(pools, balancing),
    hashPolicy: hashPolicy(balancing),
    timeout: seconds(REQUEST_TIMEOUT_SECONDS),
    // The listener's own bounds the wait for this route, and no longer applies: WebSockets may be silent for long.
    idleTimeout: seconds(0n),
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

function clusterSpecifier(pools: readonly Pool[], balancing: Balancing) {
  const [only] = pools;
  if (pools.length === 1 && only) return { case: "cluster" as const, value: only.name };
  // With nothing running any pool gives the answer for that: 503.
  if (only?.shares.length === 0) return { case: "cluster" as const, value: only.name };
  const clusters = pools.map(({ name, shares }) => ({
    name,
    weight: shares.reduce((sum, { weight }) => sum + weight, 0),
  }));
  // A client that stays with one endpoint has to stay with its protocol, too.
  const useHashPolicy = { case: "useHashPolicy" as const, value: { value: true } };
  const value = { clusters, ...(balancing.algorithm === "hash" && { randomValueSpecifier: useHashPolicy }) };
  return { case: "weightedClusters" as const, value };
}

function hashPolicy(balancing: Balancing) {
  if (balancing.algorithm !== "hash") return [];
  return [{ policySpecifier: { case: "header" as const, value: { headerName: balancing.header } } }];
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
