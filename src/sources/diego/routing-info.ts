/** What a desired LRP says of routes, in the mesh's own words; its other contents, keys for ssh among them, stay behind. */
import { z } from "zod";
import type { RouteOptions } from "../../entries/entries.js";
import { readPolicyOptions } from "../../entries/route-policies.js";
import type { DesiredLRP } from "../../gen/bbs/v1/bbs_pb.js";
import { APPS_DOMAIN, PROCESS_GUID_LENGTH, isLrpProcessGuid, type Tag } from "./description.js";

/** One host and path that leads to a port of the process. */
export interface DesiredRoute {
  /** Lower case, or a wildcard. */
  readonly host: string;
  /** "" or begins with "/". */
  readonly path: string;
  readonly internal: boolean;
  readonly port: number;
  /** "http1" or "http2". */
  readonly protocol: string;
  /** undefined where none is set. */
  readonly options: Omit<RouteOptions, "$typeName" | "$unknown"> | undefined;
  /** Where requests are to go first; "" where they are not. */
  readonly routeServiceUrl: string;
}

export interface RoutingInfo extends Tag {
  readonly lrpProcessGuid: string;
  readonly processGuid: string;
  readonly processType: string;
  readonly appGuid: string;
  readonly appName: string;
  readonly organizationName: string;
  readonly spaceName: string;
  readonly organizationGuid: string;
  readonly spaceGuid: string;
  readonly routes: readonly DesiredRoute[];
  /** What could not be read of the routes; the others are there. */
  readonly problems: readonly string[];
}

/** Cloud Controller's default. */
const DEFAULT_PORT = 8080;
const HOST = /^(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*$/;
const PATH = /^(\/[^?#\s]*)?$/;
const ALGORITHMS = ["round-robin", "least-connection", "hash"];

const CfRoute = z.object({
  hostnames: z.array(z.string()),
  port: z.int().min(1).max(65535),
  protocol: z.enum(["http1", "http2"]).nullish(),
  route_service_url: z.string().nullish(),
  options: z
    .object({
      loadbalancing: z.string().nullish(),
      hash_header: z.string().nullish(),
      hash_balance: z.union([z.string(), z.number()]).nullish(),
      route_policy_scope: z.string().nullish(),
      route_policy_sources: z.string().nullish(),
    })
    .nullish(),
});
const InternalRoute = z.object({ hostname: z.string() });

/**
 * Reads a desired LRP: the routers cf-router and internal-router. A TCP route has no host, and is left out.
 *
 * An internal route names no port: its requests go to the port of the first outer route, or to Cloud Controller's default.
 *
 * Returns  undefined for what is none of an app's: another domain, or a process guid without Cloud Controller's form.
 * Source   diego/protocol/routing_info.rb of cloud_controller_ng.
 */
export function routingInfoOf(lrp: DesiredLRP): RoutingInfo | undefined {
  const { processGuid: lrpProcessGuid, domain, logGuid, metricTags, modificationTag } = lrp;
  if (domain !== APPS_DOMAIN || !isLrpProcessGuid(lrpProcessGuid)) return undefined;
  const problems: string[] = [];
  const outer = elementsOf(lrp, "cf-router", CfRoute, problems).flatMap((element) => outerRoutes(element, problems));
  const inner = elementsOf(lrp, "internal-router", InternalRoute, problems).flatMap(({ hostname }) =>
    placesOf([hostname], problems).map((place) => ({
      ...place,
      internal: true,
      port: outer[0]?.port ?? DEFAULT_PORT,
      protocol: "http1",
      options: undefined,
      routeServiceUrl: "",
    })),
  );
  const tag = (name: string) => metricTags[name]?.static ?? "";
  return {
    lrpProcessGuid,
    processGuid: lrpProcessGuid.slice(0, PROCESS_GUID_LENGTH),
    processType: tag("process_type"),
    appGuid: tag("app_id") || logGuid,
    appName: tag("app_name"),
    organizationName: tag("organization_name"),
    spaceName: tag("space_name"),
    organizationGuid: tag("organization_id"),
    spaceGuid: tag("space_id"),
    epoch: modificationTag?.epoch ?? "",
    index: modificationTag?.index ?? 0,
    routes: [...outer, ...inner],
    problems,
  };
}

/** Whether two states of a desired LRP say the same of routes, byte by byte. */
export function sameRoutes(one: DesiredLRP, other: DesiredLRP): boolean {
  return ["cf-router", "internal-router", "tcp-router"].every((router) => {
    const [a, b] = [one, other].map((lrp) => Buffer.from(lrp.routes?.routes[router] ?? []));
    return a !== undefined && b !== undefined && a.equals(b);
  });
}

/** The elements of one router that can be read. */
function elementsOf<T>(lrp: DesiredLRP, router: string, schema: z.ZodType<T>, problems: string[]): readonly T[] {
  const bytes = lrp.routes?.routes[router];
  if (bytes === undefined || bytes.length === 0) return [];
  const elements = parseList(Buffer.from(bytes).toString("utf8"));
  if (elements === undefined) problems.push(`${router} is no list in JSON`);
  return (elements ?? []).flatMap((element) => {
    const parsed = schema.safeParse(element);
    if (parsed.success) return [parsed.data];
    problems.push(
      `${router}: ${parsed.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`).join("; ")}`,
    );
    return [];
  });
}

function parseList(text: string): readonly unknown[] | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function outerRoutes(element: z.infer<typeof CfRoute>, problems: string[]): readonly DesiredRoute[] {
  const { hostnames, port, protocol, options } = element;
  const loadbalancing = options?.loadbalancing ?? "";
  const { problems: unread, ...policies } = readPolicyOptions(options);
  problems.push(...unread);
  const wanted = {
    loadbalancing: ALGORITHMS.includes(loadbalancing) ? loadbalancing : "",
    hashHeader: options?.hash_header ?? "",
    hashBalance: String(options?.hash_balance ?? ""),
    ...policies,
  };
  return placesOf(hostnames, problems).map((place) => ({
    ...place,
    internal: false,
    port,
    protocol: protocol ?? "http1",
    options: Object.values(wanted).every((value) => value.length === 0) ? undefined : wanted,
    routeServiceUrl: element.route_service_url ?? "",
  }));
}

/** A "hostname" of Cloud Controller is a host and a path. */
function placesOf(hostnames: readonly string[], problems: string[]): readonly Pick<DesiredRoute, "host" | "path">[] {
  return hostnames.flatMap((hostname) => {
    const slash = hostname.indexOf("/");
    const host = (slash < 0 ? hostname : hostname.slice(0, slash)).toLowerCase();
    const path = slash < 0 ? "" : hostname.slice(slash);
    if (HOST.test(host) && PATH.test(path)) return [{ host, path: path === "/" ? "" : path }];
    problems.push(`${JSON.stringify(hostname.slice(0, 300))} is no host with a path`);
    return [];
  });
}
