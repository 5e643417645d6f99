/** What comes before the routes of a path whose requests go to a route service first. */
import { create } from "@bufbuild/protobuf";
import { RouteSchema, type Route as RdsRoute } from "../gen/envoy/config/route/v3/route_components_pb.js";
import { MetadataMatcherSchema } from "../gen/envoy/type/matcher/v3/metadata_pb.js";
import type { PathRoute } from "../model/routing-table.js";
import { PROOF_HEADERS } from "../route-services/signature.js";
import { appHeader } from "./app-header.js";
import { pathSpecifierOf, routeName } from "./compile-path.js";
import { directReply, replacedHeader } from "./direct-reply.js";
import { milliseconds } from "./durations.js";
import { ROUTE_SERVICE_FILTER, ROUTE_SERVICE_HEADER, ROUTE_SERVICE_METADATA } from "./names.js";
import type { CompileOptions } from "./options.js";

/** `routes` lead to the app, and are as they were where no route service is bound. */
export function behindRouteService(
  path: PathRoute,
  routes: readonly RdsRoute[],
  options: CompileOptions,
): readonly RdsRoute[] {
  if (path.routeServiceUrl === "") return routes;
  // Not by the filter that checks them: a request that waits for its route begins anew, and has to be checked again.
  for (const route of routes) route.requestHeadersToRemove.push(...PROOF_HEADERS);
  return [...routeServiceRoutes(path, options), ...routes];
}

/**
 * Requests reach the routes after these, which lead to the app, only when the router's filter has found the signature that
 * proves that they have been to the route service; whatever else happens, they go there.
 */
function routeServiceRoutes(
  { path, routeServiceUrl, wishes }: PathRoute,
  options: CompileOptions,
): readonly RdsRoute[] {
  const name = routeName(path);
  const match = { pathSpecifier: pathSpecifierOf(path), caseSensitive: false };
  const refuse = (status: number, message: string, headers: typeof WEB_SOCKET = []) =>
    directReply(name, { ...match, headers }, { status, message, routerError: "route_service_unsupported" });
  if (options.routeServiceCluster === undefined) {
    return [refuse(502, "Support for route services is disabled.")];
  }
  if (!URL.canParse(routeServiceUrl) || new URL(routeServiceUrl).protocol !== "https:") {
    return [refuse(500, "Route service request failed.")];
  }
  return [
    refuse(503, "Websocket requests are not supported for routes bound to Route Services.", WEB_SOCKET),
    create(RouteSchema, {
      name,
      match: { ...match, dynamicMetadata: [HAS_NOT_BEEN_THERE] },
      // Values of headers are formats.
      requestHeadersToAdd: [
        replacedHeader(ROUTE_SERVICE_HEADER, new URL(routeServiceUrl).href.replaceAll("%", "%%")),
        appHeader(""),
      ],
      action: {
        case: "route",
        value: {
          clusterSpecifier: { case: "cluster", value: options.routeServiceCluster },
          timeout: milliseconds(wishes.timeoutMs ?? options.requestTimeoutMs),
          idleTimeout: milliseconds(0),
        },
      },
    }),
  ];
}

const HAS_NOT_BEEN_THERE = create(MetadataMatcherSchema, {
  filter: ROUTE_SERVICE_FILTER,
  path: [{ segment: { case: "key", value: ROUTE_SERVICE_METADATA.hasBeenThere } }],
  value: { matchPattern: { case: "boolMatch", value: true } },
  invert: true,
});

const WEB_SOCKET = [
  {
    name: "upgrade",
    headerMatchSpecifier: {
      case: "stringMatch" as const,
      value: { matchPattern: { case: "exact" as const, value: "websocket" }, ignoreCase: true },
    },
  },
];
