/**
 * The routing table as Gorouter dumps it: a JSON object of lists of endpoints by host and path.
 *
 * Source   Endpoint.MarshalJSON in route/pool.go of Gorouter, routing-release.
 */
import { tagsOf } from "./endpoint-tags.js";
import type { Endpoint } from "./endpoints.js";
import type { PathRoute, RoutingTable } from "./routing-table.js";
import type { UpstreamProtocol } from "./shares.js";

/** How long an endpoint stands that is not registered again and does not say. Instances that Diego tells of have no such end. */
const DEFAULT_TTL_SECONDS = 120;

/** The JSON text in pieces, one for each route: many, and none of them large. */
export function* dumpRoutes(table: RoutingTable): Iterable<string> {
  let separator = "{";
  for (const place of table.places()) {
    const route = table.pathRoute(place);
    if (!route) continue;
    yield `${separator}${JSON.stringify(place)}:${JSON.stringify(endpointsOf(route))}`;
    separator = ",";
  }
  yield separator === "{" ? "{}\n" : "}\n";
}

function endpointsOf({ balancing, shares, routeServiceUrl }: PathRoute) {
  const algorithm = balancing.algorithm === "round-robin" ? undefined : balancing.algorithm;
  return shares.flatMap(({ endpoints, protocol }) =>
    endpoints.map((endpoint) => dumpedEndpoint(endpoint, { protocol, algorithm, routeServiceUrl })),
  );
}

/** What all endpoints of a route have alike. */
interface Shared {
  readonly protocol: UpstreamProtocol;
  readonly algorithm: string | undefined;
  readonly routeServiceUrl: string;
}

function dumpedEndpoint(endpoint: Endpoint, { protocol, algorithm, routeServiceUrl }: Shared) {
  const { address, port, tls, identity, origin, availabilityZone } = endpoint;
  const { isolationSegment } = origin.kind === "instance" ? origin.instance : origin.registration;
  const registration = origin.kind === "registration" ? origin.registration : undefined;
  return {
    address: `${address}:${port}`,
    availability_zone: availabilityZone,
    protocol,
    tls: tls !== undefined,
    ttl: registration?.staleThresholdSeconds || DEFAULT_TTL_SECONDS,
    route_service_url: routeServiceUrl || undefined,
    tags: tagsOf(endpoint),
    isolation_segment: isolationSegment || undefined,
    private_instance_id: identity.instanceGuid || undefined,
    server_cert_domain_san: tls?.certSan || undefined,
    load_balancing_algorithm: algorithm,
  };
}
