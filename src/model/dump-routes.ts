/**
 * The routing table as Gorouter dumps it: a JSON object of lists of endpoints by host and path.
 *
 * Source   Endpoint.MarshalJSON in route/pool.go of Gorouter, routing-release.
 */
import type { Tag } from "../entries/entries.js";
import { compareText } from "../lib/compare-text.js";
import type { Endpoint } from "./endpoints.js";
import type { PathRoute, RoutingTable } from "./routing-table.js";
import type { UpstreamProtocol } from "./shares.js";

/** How long an endpoint stands that is not registered again and does not say. Instances that Diego tells of have no such end. */
const DEFAULT_TTL_SECONDS = 120;

/** What Gorouter's tag says of endpoints that Diego's route-emitter registers. */
const COMPONENT = "route-emitter";

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

function dumpedEndpoint(
  { address, port, tls, identity, origin, appName, availabilityZone }: Endpoint,
  { protocol, algorithm, routeServiceUrl }: Shared,
) {
  const { isolationSegment } = origin.kind === "instance" ? origin.instance : origin.registration;
  const registration = origin.kind === "registration" ? origin.registration : undefined;
  const { appGuid, processGuid, instanceGuid, instanceIndex } = identity;
  const tags = registration?.tags ?? [
    { name: "app_id", value: appGuid },
    { name: "app_name", value: appName },
    { name: "component", value: COMPONENT },
    { name: "instance_id", value: instanceIndex },
    { name: "process_id", value: processGuid },
    { name: "process_instance_id", value: instanceGuid },
    { name: "source_id", value: appGuid },
  ];
  return {
    address: `${address}:${port}`,
    availability_zone: availabilityZone,
    protocol,
    tls: tls !== undefined,
    ttl: registration?.staleThresholdSeconds || DEFAULT_TTL_SECONDS,
    route_service_url: routeServiceUrl || undefined,
    tags: tagsObject(tags),
    isolation_segment: isolationSegment || undefined,
    private_instance_id: instanceGuid || undefined,
    server_cert_domain_san: tls?.certSan || undefined,
    load_balancing_algorithm: algorithm,
  };
}

/** In the order of their names, as Go writes maps. */
function tagsObject(tags: readonly Pick<Tag, "name" | "value">[]): Readonly<Record<string, string>> {
  const told = tags.filter(({ value }) => value !== "").sort((a, b) => compareText(a.name, b.name));
  return Object.fromEntries(told.map(({ name, value }) => [name, value]));
}
