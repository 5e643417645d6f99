import { z } from "zod";
import type { Clock } from "../../lib/clock.js";
import { RoutingApiError } from "./errors.js";
import { ExpiringRows, MAX_TTL_SECONDS, type Said } from "./expiring-rows.js";

/** A backend of a host and path, in the routing API's own names. */
export interface HttpRoute extends Said {
  /** "shop.example.com/cart" */
  readonly route: string;
  readonly port: number;
  readonly ip: string;
  readonly log_guid: string;
  readonly route_service_url?: string;
}

/**
 * The HTTP routes of the routing API. A backend that is said with another route service is a row of its own.
 *
 * Source   RouteEntity in models/route.go, updateRoute in db/db_sql.go of cloudfoundry/routing-api.
 */
export class HttpRoutes extends ExpiringRows<HttpRoute> {
  constructor(clock: Clock) {
    super(clock, keyOf, (before, said) => ({ ...before, log_guid: said.log_guid || before.log_guid }));
  }
}

export const httpRouteSchema = z
  .object({
    route: z.string().default(""),
    port: z.int().min(0).max(65_535).default(0),
    ip: z.string().default(""),
    ttl: z.int().nullish(),
    log_guid: z.string().default(""),
    route_service_url: z.string().default(""),
  })
  // Go leaves an empty route_service_url out.
  .transform(({ ttl, route_service_url: url, ...said }) => ({
    ...said,
    ...(ttl !== null && ttl !== undefined && { ttl }),
    ...(url !== "" && { route_service_url: url }),
  }));

/** Throws RoutingApiError for what can't be created. */
export function checkHttpRoute(route: HttpRoute): void {
  checkNamed(route);
  const { ttl = MAX_TTL_SECONDS } = route;
  if (ttl > MAX_TTL_SECONDS) throw invalid(`Max ttl is ${MAX_TTL_SECONDS}`);
  if (ttl <= 0) throw invalid("Request requires a ttl greater than 0");
}

/** Throws RoutingApiError for what names no route. In the order and the words of handlers/validator.go. */
export function checkNamed({ route, route_service_url: service = "", port, ip }: HttpRoute): void {
  const bad = urlProblem(route);
  if (bad !== undefined) throw invalid(bad);
  if (service !== "" && !service.startsWith("https://")) throw badService("Route service url must use HTTPS.");
  const badUrl = urlProblem(service);
  if (badUrl !== undefined) throw badService(badUrl);
  if (port <= 0) throw invalid("Each route request requires a port greater than 0");
  if (route === "") throw invalid("Each route request requires a valid route");
  if (ip === "") throw invalid("Each route request requires an IP");
}

function urlProblem(url: string): string | undefined {
  if (/[?#]/.test(url)) return "Url cannot contain any of [?, #]";
  return /^[!-~]*$/.test(url) && !/[ "<>\\^`{|}]/.test(url) ? undefined : "Url cannot contain invalid characters";
}

const invalid = (problem: string) => new RoutingApiError(400, "RouteInvalidError", problem);
const badService = (problem: string) => new RoutingApiError(400, "RouteServiceUrlInvalidError", problem);

function keyOf({ route, ip, port, route_service_url: service = "" }: HttpRoute): string {
  return JSON.stringify([route, ip, port, service]);
}
