/** The Envoy routes of one path. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { HeaderValueOptionSchema } from "../gen/envoy/config/core/v3/base_pb.js";
import {
  RetryPolicySchema,
  RouteSchema,
  type Route as RdsRoute,
  type RouteMatch,
} from "../gen/envoy/config/route/v3/route_components_pb.js";
import { MetadataMatcherSchema } from "../gen/envoy/type/matcher/v3/metadata_pb.js";
import { FractionalPercent_DenominatorType } from "../gen/envoy/type/v3/percent_pb.js";
import type { CohortCookie, RouteWishes } from "../model/annotations.js";
import type { Balancing } from "../model/balancing.js";
import type { PathRoute } from "../model/routing-table.js";
import { CLUSTER_HEADER, INSTANCE_FILTER, INSTANCE_METADATA } from "./names.js";
import { milliseconds } from "./durations.js";
import { escaped, regexMatcher, stringMatcher } from "./header-matcher.js";
import type { CompileOptions } from "./options.js";
import { routeMetadata } from "./route-metadata.js";
import type { PathPlan, RequestCondition, WeightedPool } from "./plan-path.js";

const RETRY_UNSENT = "connect-failure,refused-stream,reset-before-request";
/** For requests that may be sent twice: their methods have no effects. */
const RETRY_SAFE = `${RETRY_UNSENT},reset`;

/** For methods that may be sent again, then for the others; of each branch. */
export function compilePath(
  route: PathRoute,
  { branches, copies }: PathPlan,
  appHeader: MessageInitShape<typeof HeaderValueOptionSchema>,
  options: CompileOptions,
): RdsRoute[] {
  const { path, balancing, wishes, split } = route;
  const pathSpecifier = pathSpecifierOf(path);
  const shared = {
    hashPolicy: hashPolicy(balancing),
    timeout: milliseconds(wishes.timeoutMs ?? options.requestTimeoutMs),
    // The listener's own bounds the wait for this route, and no longer applies: WebSockets may be silent for long.
    idleTimeout: milliseconds(0),
    requestMirrorPolicies: copies.map(({ name, weight }) =>
      mirrorPolicy(name, copyPercent(split?.copies?.percent ?? 0, weight, copies)),
    ),
  };
  return branches.flatMap(({ match, pools }) => {
    const setsCohort = match === undefined ? split?.cohort : undefined;
    const action = { ...shared, clusterSpecifier: clusterSpecifier(pools, route, setsCohort) };
    const common = {
      // A route must have a name: the search for a wildcard host stops when it sees one.
      name: routeName(path),
      metadata: routeMetadata(pools, route.cookiePath),
      requestHeadersToAdd: [appHeader],
    };
    const matching = {
      pathSpecifier,
      caseSensitive: false,
      headers: match ? [requestMatcher(match)] : [],
    };
    const routes = [true, false].map((isSafe) =>
      create(RouteSchema, {
        ...common,
        match: { ...matching, headers: [...matching.headers, ...(isSafe ? SAFE_METHODS : [])] },
        action: { case: "route", value: { ...action, ...retries(wishes, isSafe, options) } },
      }),
    );
    if (action.clusterSpecifier.case === "cluster") return routes;
    // A request that wants a certain instance goes to its cluster, whatever the weights.
    const addressed = create(RouteSchema, {
      ...common,
      match: { ...matching, dynamicMetadata: [KNOWS_CLUSTER] },
      action: {
        case: "route",
        value: { ...shared, clusterSpecifier: { case: "clusterHeader", value: CLUSTER_HEADER } },
      },
    });
    return [addressed, ...routes];
  });
}

/** A route must have one, and paths may be empty. */
export function routeName(path: string): string {
  return path === "" ? "/" : path;
}

/** All requests of a path. Compared in any case, where the match says so. */
export function pathSpecifierOf(path: string): RouteMatch["pathSpecifier"] {
  return path === "" ? { case: "prefix", value: "/" } : { case: "pathSeparatedPrefix", value: path };
}

const KNOWS_CLUSTER = create(MetadataMatcherSchema, {
  filter: INSTANCE_FILTER,
  path: [{ segment: { case: "key", value: INSTANCE_METADATA.knowsCluster } }],
  value: { matchPattern: { case: "boolMatch", value: true } },
});

/** What a virtual host does with requests whose route says nothing else: those that may have effects. */
export function defaultRetryPolicy(options: CompileOptions) {
  return retryPolicy({ retryOn: RETRY_UNSENT, attempts: options.maxAttempts }, options);
}

function retries({ attempts, retryOn }: RouteWishes, isSafe: boolean, options: CompileOptions) {
  const most = attempts ?? options.maxAttempts;
  const policy = (retries: Omit<Retries, "attempts">) => ({
    retryPolicy: retryPolicy({ ...retries, attempts: most }, options),
  });
  if (!isSafe) return attempts === undefined ? {} : policy({ retryOn: RETRY_UNSENT });
  if (!retryOn) return policy({ retryOn: RETRY_SAFE });
  const statuses = retryOn.filter((condition) => typeof condition === "number");
  const words = retryOn.filter((condition) => typeof condition === "string");
  const conditions = [RETRY_UNSENT, ...words, ...(statuses.length > 0 ? ["retriable-status-codes"] : [])];
  return policy({ retryOn: conditions.join(","), statuses });
}

interface Retries {
  readonly retryOn: string;
  readonly attempts: number;
  readonly statuses?: readonly number[];
}

/** Each attempt is at an endpoint that was not tried yet, while there is one. */
function retryPolicy({ retryOn, attempts, statuses = [] }: Retries, { preferredZone }: CompileOptions) {
  return create(RetryPolicySchema, {
    retryOn,
    numRetries: attempts - 1,
    retriableStatusCodes: [...statuses],
    retryHostPredicate: [PREVIOUS_HOSTS],
    ...(preferredZone !== undefined && { retryPriority: OTHER_ZONES }),
    hostSelectionRetryMaxAttempts: 5n,
    // The default pause is up to 25 ms; another instance is another chance at once.
    retryBackOff: { baseInterval: milliseconds(1), maxInterval: milliseconds(10) },
  });
}

/** The zone whose endpoint failed is not tried again while there is another. */
const OTHER_ZONES = {
  name: "envoy.retry_priorities.previous_priorities",
  configType: {
    case: "typedConfig" as const,
    value: {
      typeUrl: "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
      // update_frequency: 1
      value: new Uint8Array([0x08, 1]),
    },
  },
};

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

/**
 * GET, HEAD, OPTIONS and TRACE, and the few of WebDAV that only read: of the methods that Envoy knows, those without a letter
 * that is in none of the four, and that do not begin as POST does. Envoy compares letters faster than regular expressions,
 * and each comparison costs an active route 340 bytes.
 */
const SAFE_METHODS = [
  ...["L", "U", "M", "B", "Y"].map((value) => ({ case: "contains" as const, value })),
  { case: "prefix" as const, value: "P" },
].map((matchPattern) => ({
  name: ":method",
  invertMatch: true,
  headerMatchSpecifier: { case: "stringMatch" as const, value: { matchPattern } },
}));

function requestMatcher({ kind, name, value }: RequestCondition) {
  if (kind === "cookie") {
    const wanted = value === undefined ? "[^;]*" : escaped(value);
    const regex = `(?:.*;\\s*)?${escaped(name)}=${wanted}\\s*(?:;.*)?`;
    return regexMatcher("cookie", regex);
  }
  if (value !== undefined) return stringMatcher(name, { case: "exact" as const, value });
  return { name, headerMatchSpecifier: { case: "presentMatch" as const, value: true } };
}

function clusterSpecifier(
  pools: readonly WeightedPool[],
  { path, balancing }: PathRoute,
  setsCohort: CohortCookie | undefined,
) {
  const [only] = pools;
  const total = pools.reduce((sum, { weight }) => sum + weight, 0);
  // With nothing running any pool gives the answer for that: 503.
  if (only && (pools.length === 1 || pools.every(({ shares }) => shares.length === 0))) {
    return { case: "cluster" as const, value: only.name };
  }
  const clusters = pools.map(({ name, weight, cohort }) => ({
    name,
    // An app without a weight that requests are sent to by name: each of its pools alike.
    weight: total > 0 ? weight : 1,
    responseHeadersToAdd:
      setsCohort && cohort !== undefined
        ? [{ header: { key: "set-cookie", value: cohortCookie(setsCohort, cohort, path) } }]
        : [],
  }));
  // A client that stays with one endpoint has to stay with its protocol, too.
  const useHashPolicy = { case: "useHashPolicy" as const, value: { value: true } };
  const value = { clusters, ...(balancing.algorithm === "hash" && { randomValueSpecifier: useHashPolicy }) };
  return { case: "weightedClusters" as const, value };
}

function cohortCookie({ name, ttlSeconds }: CohortCookie, value: string, path: string): string {
  const age = ttlSeconds > 0 ? `; Max-Age=${ttlSeconds}` : "";
  return `${name}=${value}; Path=${path === "" ? "/" : path}${age}; HttpOnly`;
}

function hashPolicy(balancing: Balancing) {
  if (balancing.algorithm !== "hash") return [];
  return [{ policySpecifier: { case: "header" as const, value: { headerName: balancing.header } } }];
}

/** A part of all copies for each pool of an app that has several. */
function copyPercent(percent: number, weight: number, pools: readonly WeightedPool[]): number {
  const total = pools.reduce((sum, pool) => sum + pool.weight, 0);
  return total > 0 ? (percent * weight) / total : percent / pools.length;
}

const MILLIONTHS_PER_PERCENT = 10_000;

function mirrorPolicy(cluster: string, percent: number) {
  const numerator = Math.round(percent * MILLIONTHS_PER_PERCENT);
  const defaultValue = { numerator, denominator: FractionalPercent_DenominatorType.MILLION };
  return { cluster, runtimeFraction: { defaultValue } };
}
