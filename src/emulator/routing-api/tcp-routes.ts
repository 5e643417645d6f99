import { z } from "zod";
import type { Clock } from "../../lib/clock.js";
import { ExpiringRows, MAX_TTL_SECONDS, type Said } from "./expiring-rows.js";
import { RoutingApiError } from "./errors.js";
import { ROUTER_GROUPS } from "./router-groups.js";

/** A backend of a TCP port, in the routing API's own names. */
export interface TcpMapping extends Said {
  readonly router_group_guid: string;
  /** The external one. */
  readonly port: number;
  readonly backend_ip: string;
  readonly backend_port: number;
  /** 0 for none. */
  readonly backend_tls_port: number;
  readonly instance_id: string;
  readonly isolation_segment: string;
}

/** The TCP routes of the routing API. */
export class TcpRoutes extends ExpiringRows<TcpMapping> {
  constructor(clock: Clock) {
    super(clock, keyOf);
  }
}

export const tcpMappingSchema = z.object({
  router_group_guid: z.string().default(""),
  port: z.int().default(0),
  backend_ip: z.string().default(""),
  backend_port: z.int().default(0),
  backend_tls_port: z.int().default(0),
  instance_id: z.string().default(""),
  isolation_segment: z.string().default(""),
  ttl: z.int().optional(),
});

/** Throws RoutingApiError. */
export function checkTcpMapping(mapping: TcpMapping): void {
  const problem = problemOf(mapping);
  if (problem !== undefined) throw new RoutingApiError(400, "TcpRouteMappingInvalidError", problem);
}

function keyOf({ router_group_guid, port, backend_ip, backend_port, backend_tls_port }: TcpMapping): string {
  return [router_group_guid, port, backend_ip, backend_port, backend_tls_port].join(" ");
}

/** In the words of handlers/validator.go. */
function problemOf({ router_group_guid: group, port, backend_ip, backend_port, backend_tls_port, ttl }: TcpMapping) {
  if (group === "") return "Each tcp mapping requires a non empty router group guid.";
  if (port <= 0) return "Each tcp mapping requires a positive external port.";
  if (backend_ip === "") return "Each tcp mapping requires a non empty backend ip.";
  if (backend_port <= 0 && backend_tls_port <= 0) return "Each tcp mapping requires a positive backend port.";
  if (backend_tls_port > 65_535) {
    return "Each tcp mapping with a backend TLS port requires that port to be less than or equal to 65535.";
  }
  if (ttl !== undefined && ttl > MAX_TTL_SECONDS) {
    return `Each tcp mapping requires TTL to be less than or equal to ${MAX_TTL_SECONDS}.`;
  }
  if (ttl !== undefined && ttl <= 0) return "Each tcp route mapping requires a ttl greater than 0";
  return ROUTER_GROUPS.some(({ guid }) => guid === group) ? undefined : `router_group_guid: ${group} not found`;
}
