/** What Diego's route-emitter says about a process: a message for each of its instances' endpoints and each hostname. */
import { z } from "zod";
import { type ActualLRP, type DesiredLRP, MetricTagValue_DynamicValue } from "../../gen/bbs/v1/bbs_pb.js";
import type { LrpFeed } from "../diego/lrp-feed.js";
import type { TcpMapping } from "../routing-api/tcp-routes.js";

/** Beginning of the subjects: "router.register", "service-discovery.register". */
export type Registry = "router" | "service-discovery";

/** A message of `<registry>.register`, or `<registry>.unregister` when it is no longer true. */
export interface Registration {
  readonly registry: Registry;
  /** JSON. */
  readonly payload: string;
}

export interface ProcessRoutes {
  /** By hostname, address and instance: the same key is the same endpoint of the same route. */
  readonly registrations: ReadonlyMap<string, Registration>;
  readonly tcpMappings: ReadonlyMap<string, TcpMapping>;
}

const httpRoutesSchema = z.array(
  z.object({
    hostnames: z.array(z.string()),
    port: z.number(),
    protocol: z.string().nullish(),
    route_service_url: z.string().nullish(),
    isolation_segment: z.string().nullish(),
    options: z.record(z.string(), z.unknown()).nullish(),
  }),
);
const internalRoutesSchema = z.array(z.object({ hostname: z.string() }));
const tcpRoutesSchema = z.array(
  z.object({ router_group_guid: z.string(), external_port: z.number(), container_port: z.number() }),
);

const COMPONENT = { component: "route-emitter" };

/**
 * The routes of a process as it is now: of every instance that is RUNNING and not marked unroutable, evacuating and
 * suspect ones too. Nothing for a process that is not desired any more.
 *
 * Source   routingtable/registry_message.go and routingtable/endpoint.go of cloudfoundry/route-emitter.
 */
export function routesOf(lrps: LrpFeed, processGuid: string): ProcessRoutes {
  const registrations = new Map<string, Registration>();
  const tcpMappings = new Map<string, TcpMapping>();
  const desired = lrps.desired(processGuid);
  if (desired === undefined) return { registrations, tcpMappings };
  const httpRoutes = httpRoutesSchema.parse(routingInfo(desired, "cf-router"));
  const internalRoutes = internalRoutesSchema.parse(routingInfo(desired, "internal-router"));
  const tcpRoutes = tcpRoutesSchema.parse(routingInfo(desired, "tcp-router"));
  const running = lrps.actuals(processGuid).filter(({ state, routable }) => state === "RUNNING" && routable !== false);

  for (const lrp of running) {
    const { instanceGuid = "" } = lrp.instanceKey ?? {};
    for (const { hostname } of internalRoutes) {
      registrations.set(`${hostname} ${instanceGuid}`, {
        registry: "service-discovery",
        payload: internalMessage(desired, lrp, hostname),
      });
    }
    for (const port of lrp.netInfo?.ports ?? []) {
      const host = lrp.netInfo?.address ?? "";
      const endpoint = { host, port: port.hostPort, tlsPort: port.hostTlsProxyPort };
      for (const route of httpRoutes) {
        if (route.port !== port.containerPort) continue;
        for (const hostname of route.hostnames) {
          registrations.set(`${hostname} ${host}:${port.hostPort} ${instanceGuid}`, {
            registry: "router",
            payload: httpMessage(desired, lrp, endpoint, hostname, route),
          });
        }
      }
      for (const route of tcpRoutes) {
        if (route.container_port !== port.containerPort) continue;
        tcpMappings.set(`${route.router_group_guid} ${route.external_port} ${host}:${port.hostPort}`, {
          router_group_guid: route.router_group_guid,
          port: route.external_port,
          backend_ip: host,
          backend_port: port.hostPort,
          backend_tls_port: port.hostTlsProxyPort,
          instance_id: instanceGuid,
          isolation_segment: "",
        });
      }
    }
  }
  return { registrations, tcpMappings };
}

function routingInfo(desired: DesiredLRP, router: string): unknown {
  const bytes = desired.routes?.routes[router];
  return bytes === undefined ? [] : JSON.parse(new TextDecoder().decode(bytes));
}

interface Endpoint {
  readonly host: string;
  readonly port: number;
  readonly tlsPort: number;
}

function httpMessage(
  desired: DesiredLRP,
  lrp: ActualLRP,
  { host, port, tlsPort }: Endpoint,
  hostname: string,
  route: z.infer<typeof httpRoutesSchema>[number],
): string {
  const { instanceGuid = "" } = lrp.instanceKey ?? {};
  return message(lrp, {
    host,
    port,
    tls_port: tlsPort === 0 ? undefined : tlsPort,
    uris: [hostname],
    protocol: route.protocol ?? undefined,
    app: desired.logGuid,
    route_service_url: route.route_service_url ?? undefined,
    private_instance_id: instanceGuid,
    private_instance_index: indexOf(lrp),
    server_cert_domain_san: instanceGuid,
    isolation_segment: route.isolation_segment ?? undefined,
    tags: { ...metricTags(desired, lrp), ...COMPONENT },
    availability_zone: lrp.availabilityZone === "" ? undefined : lrp.availabilityZone,
    options: route.options ?? undefined,
  });
}

function internalMessage(desired: DesiredLRP, lrp: ActualLRP, hostname: string): string {
  const index = indexOf(lrp);
  return message(lrp, {
    host: lrp.netInfo?.instanceAddress ?? "",
    port: 0,
    uris: [hostname, `${index}.${hostname}`],
    app: desired.logGuid,
    private_instance_index: index,
    tags: COMPONENT,
  });
}

/** Nanoseconds are more than a JavaScript number holds, so they are written by hand. */
function message({ since }: ActualLRP, fields: Readonly<Record<string, unknown>>): string {
  return `${JSON.stringify(fields).slice(0, -1)},"endpoint_updated_at_ns":${since}}`;
}

function indexOf({ key }: ActualLRP): string {
  return String(key?.index ?? 0);
}

function metricTags(desired: DesiredLRP, lrp: ActualLRP): Readonly<Record<string, string>> {
  const tags = Object.entries(desired.metricTags).map(([name, tag]) => {
    switch (tag.dynamic) {
      case MetricTagValue_DynamicValue.INDEX:
        return [name, indexOf(lrp)];
      case MetricTagValue_DynamicValue.INSTANCE_GUID:
        return [name, lrp.instanceKey?.instanceGuid ?? ""];
      case MetricTagValue_DynamicValue.UNSPECIFIED:
        return [name, tag.static];
    }
  });
  return Object.fromEntries(tags) as Readonly<Record<string, string>>;
}
