/** What leads from a place to its endpoints of one protocol, as Envoy's cluster and the endpoints in it. */
import { create, fromJson } from "@bufbuild/protobuf";
import { type Any, anyPack } from "@bufbuild/protobuf/wkt";
import { CircuitBreakersSchema } from "../gen/envoy/config/cluster/v3/circuit_breaker_pb.js";
import { Cluster_DiscoveryType, Cluster_LbPolicy, ClusterSchema } from "../gen/envoy/config/cluster/v3/cluster_pb.js";
import { ConfigSourceSchema } from "../gen/envoy/config/core/v3/config_source_pb.js";
import { ClusterLoadAssignmentSchema } from "../gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { HttpProtocolOptionsSchema } from "../gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import type { Balancing } from "../model/balancing.js";
import type { Endpoint } from "../model/endpoints.js";
import type { Share, UpstreamProtocol } from "../model/shares.js";
import { PLAIN_SOCKET_MATCHES } from "./app-tls.js";
import { endpointLabels, type LabelOptions } from "./endpoint-labels.js";
import { FAILED_ENDPOINTS_LB, OUTLIER_DETECTION, OVERPROVISIONING_FACTOR } from "./failed-endpoints.js";
import { milliseconds } from "./durations.js";
import { CLUSTER_STAT_NAME } from "./names.js";
import type { BackendConnections, CompileOptions } from "./options.js";
import { encodeResource, type EncodedResource } from "./resource.js";

/** The shares of a place that speak one protocol: one cluster. */
export interface Pool {
  readonly name: string;
  readonly protocol: UpstreamProtocol;
  readonly balancing: Balancing;
  /** Those that have an endpoint. */
  readonly shares: readonly Share[];
}

/** Envoy's own limits (1,024 each, 3 retries) would refuse requests that an app could take. */
const UNLIMITED = 4_000_000_000;

/** A prime. Envoy's own, 65,537, costs 8 times the time and memory, and says shares finer than anyone sets them. */
const MAGLEV_TABLE_SIZE = 8_191n;
const PERCENT = 100;

/** How many endpoints the least busy is picked from, at random each. Envoy's own, 2, often meets the busy one twice. */
const LEAST_CONNECTION_CHOICES = 16;

const ADS = fromJson(ConfigSourceSchema, { ads: {}, resourceApiVersion: "V3" });
const THRESHOLDS = {
  maxConnections: UNLIMITED,
  maxPendingRequests: UNLIMITED,
  maxRequests: UNLIMITED,
  maxRetries: UNLIMITED,
};

/** How many requests may wait for a connection, for each connection that one endpoint may have. */
const WAITING_PER_CONNECTION = 2;

function circuitBreakers(maxConnectionsPerBackend: number) {
  if (maxConnectionsPerBackend === 0) return create(CircuitBreakersSchema, { thresholds: [THRESHOLDS] });
  return create(CircuitBreakersSchema, {
    thresholds: [{ ...THRESHOLDS, maxPendingRequests: maxConnectionsPerBackend * WAITING_PER_CONNECTION }],
    perHostThresholds: [{ maxConnections: maxConnectionsPerBackend }],
  });
}
/** Made once for each router, and of the same bytes for all its clusters. */
const protocolOptions = new WeakMap<BackendConnections, Readonly<Record<UpstreamProtocol, ProtocolOptions>>>();

type ProtocolOptions = Record<string, Any>;

function protocolOptionsOf(connections: BackendConnections): Readonly<Record<UpstreamProtocol, ProtocolOptions>> {
  const known = protocolOptions.get(connections);
  if (known) return known;
  const { keepAlive, idleTimeoutMs, maxResponseHeaderKb, maxResponseHeaders } = connections;
  const options = (
    protocolConfig: { case: "http2ProtocolOptions"; value: object } | { case: "httpProtocolOptions"; value: object },
  ) => ({
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": anyPack(
      HttpProtocolOptionsSchema,
      create(HttpProtocolOptionsSchema, {
        commonHttpProtocolOptions: {
          idleTimeout: milliseconds(idleTimeoutMs),
          maxHeadersCount: maxResponseHeaders,
          maxResponseHeadersKb: maxResponseHeaderKb,
          ...(!keepAlive && { maxRequestsPerConnection: 1 }),
        },
        upstreamProtocolOptions: { case: "explicitHttpConfig", value: { protocolConfig } },
      }),
    ),
  });
  const made = {
    http1: options({ case: "httpProtocolOptions", value: { enableTrailers: true } }),
    http2: options({ case: "http2ProtocolOptions", value: {} }),
  };
  protocolOptions.set(connections, made);
  return made;
}

/** Depends on nothing that comes and goes with endpoints: Envoy would close the connections of a cluster that changed. */
export function compileCluster({ name, protocol, balancing }: Pool, options: CompileOptions): EncodedResource {
  const { appTls, maxConnectionsPerBackend } = options;
  const message = create(ClusterSchema, {
    name,
    altStatName: CLUSTER_STAT_NAME,
    clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.EDS },
    edsClusterConfig: { edsConfig: ADS },
    connectTimeout: milliseconds(options.backends.connectTimeoutMs),
    ...loadBalancing(balancing),
    circuitBreakers: circuitBreakers(maxConnectionsPerBackend),
    outlierDetection: OUTLIER_DETECTION,
    typedExtensionProtocolOptions: protocolOptionsOf(options.backends)[protocol],
    ...(appTls && { transportSocket: appTls.socket, transportSocketMatches: PLAIN_SOCKET_MATCHES }),
  });
  return encodeResource(ClusterSchema, name, message);
}

function loadBalancing(balancing: Balancing) {
  const commonLbConfig = {
    localityConfigSpecifier: { case: "localityWeightedLbConfig", value: {} } as const,
    ...FAILED_ENDPOINTS_LB,
  };
  switch (balancing.algorithm) {
    case "round-robin":
      return { lbPolicy: Cluster_LbPolicy.ROUND_ROBIN, commonLbConfig };
    case "least-connection":
      return {
        lbPolicy: Cluster_LbPolicy.LEAST_REQUEST,
        lbConfig: { case: "leastRequestLbConfig", value: { choiceCount: LEAST_CONNECTION_CHOICES } } as const,
        commonLbConfig,
      };
    case "hash": {
      const { balance } = balancing;
      return {
        lbPolicy: Cluster_LbPolicy.MAGLEV,
        lbConfig: { case: "maglevLbConfig", value: { tableSize: MAGLEV_TABLE_SIZE } } as const,
        commonLbConfig: {
          ...commonLbConfig,
          ...(balance !== undefined && {
            consistentHashingLbConfig: { hashBalanceFactor: Math.round(balance * PERCENT) },
          }),
        },
      };
    }
  }
}

/**
 * One locality for each share: Envoy first picks a locality by its weight, then one of its endpoints, so a share is exact
 * whatever the number of endpoints. A pool of one share may have another locality for its endpoints of other zones.
 * `namesApp`: the endpoints of its path are of several apps.
 */
export function compileEndpoints(pool: Pool, namesApp: boolean, options: CompileOptions): EncodedResource {
  const { name } = pool;
  const labels = { namesApp, dialsTls: options.appTls !== undefined };
  const message = create(ClusterLoadAssignmentSchema, {
    clusterName: name,
    policy: { overprovisioningFactor: OVERPROVISIONING_FACTOR },
    endpoints: localitiesOf(pool, options.preferredZone).map(({ priority, share }) => ({
      locality: { zone: priority === 0 ? "" : "others", subZone: share.name },
      priority,
      loadBalancingWeight: share.weight,
      lbEndpoints: share.endpoints.map((endpoint) => compileEndpoint(endpoint, labels)),
    })),
  });
  return encodeResource(ClusterLoadAssignmentSchema, name, message);
}

interface PlacedShare {
  readonly share: Share;
  /** Envoy takes the second while none of the first is left. */
  readonly priority: 0 | 1;
}

/** Where shares are to hold, they hold over all zones; and a hash finds its endpoint in any. */
function localitiesOf({ shares, balancing }: Pool, preferredZone: string | undefined): readonly PlacedShare[] {
  const [only] = shares;
  if (preferredZone === undefined || !only || shares.length > 1 || balancing.algorithm === "hash") {
    return shares.map((share) => ({ share, priority: 0 }));
  }
  const isNear = ({ availabilityZone }: Endpoint) => availabilityZone === preferredZone;
  const near = only.endpoints.filter(isNear);
  const far = only.endpoints.filter((endpoint) => !isNear(endpoint));
  if (near.length === 0 || far.length === 0) return [{ share: only, priority: 0 }];
  return [
    { share: { ...only, endpoints: near }, priority: 0 },
    { share: { ...only, endpoints: far }, priority: 1 },
  ];
}

function compileEndpoint(endpoint: Endpoint, options: LabelOptions) {
  const { address, port } = endpoint;
  const { hostname, metadata } = endpointLabels(endpoint, options);
  return {
    hostIdentifier: {
      case: "endpoint" as const,
      value: {
        address: {
          address: {
            case: "socketAddress" as const,
            value: { address, portSpecifier: { case: "portValue" as const, value: port } },
          },
        },
        hostname,
      },
    },
    ...(metadata && { metadata }),
  };
}
