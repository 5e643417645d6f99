/** One group of hosts of the routing table as Envoy's resources: route configuration, clusters, endpoints. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { anyPack, type Any } from "@bufbuild/protobuf/wkt";
import { RouteConfigurationSchema } from "../gen/envoy/config/route/v3/route_pb.js";
import { FilterConfigSchema, type Route as RdsRoute } from "../gen/envoy/config/route/v3/route_components_pb.js";
import { isWildcard, wildcardsAbove } from "../model/hosts.js";
import { isWithin } from "../model/places.js";
import type { GroupRoutes, PathRoute } from "../model/routing-table.js";
import { appHeader, onlyAppOf } from "./app-header.js";
import { compileCluster, compileEndpoints } from "./compile-cluster.js";
import { compilePath, defaultRetryPolicy } from "./compile-path.js";
import { hoistToHost } from "./host-wide.js";
import { SEARCH_FILTER } from "./names.js";
import type { CompileOptions } from "./options.js";
import { planPath } from "./plan-path.js";
import { guardedRoutes } from "./route-policies.js";
import { behindRouteService } from "./route-service.js";
import { encodeResource, type EncodedResource } from "./resource.js";

export interface CompiledGroup {
  readonly routes: EncodedResource;
  readonly clusters: ReadonlyMap<string, EncodedResource>;
  /** By the name of their cluster. */
  readonly endpoints: ReadonlyMap<string, EncodedResource>;
  /** Clusters that get copies of requests alone: no request has to wait for them, so Envoy does not ask for them. */
  readonly copyClusters: readonly string[];
}

const SEARCH_OFF: Record<string, Any> = {
  [SEARCH_FILTER]: anyPack(FilterConfigSchema, create(FilterConfigSchema, { disabled: true })),
};

export function compileGroup({ group, hosts }: GroupRoutes, options: CompileOptions): CompiledGroup {
  const clusters = new Map<string, EncodedResource>();
  const endpoints = new Map<string, EncodedResource>();
  const copyClusters = new Set<string>();
  const routesByHost = new Map<string, RdsRoute[]>();
  for (const { host, paths } of hosts) {
    const matchable = paths.filter(isMatchable);
    const routes = matchable
      .filter((path) => isPreferred(path, matchable))
      .flatMap((path) =>
        guardedRoutes(host, path, options.clientDomains, (served, owner) => {
          const plan = planPath(host, served, owner);
          const app = onlyAppOf(plan);
          for (const { name } of plan.copies) copyClusters.add(name);
          for (const pool of [...plan.branches.flatMap(({ pools }) => pools), ...plan.copies]) {
            if (clusters.has(pool.name)) continue;
            clusters.set(pool.name, compileCluster(pool, options));
            endpoints.set(pool.name, compileEndpoints(pool, app === undefined, options));
          }
          return behindRouteService(served, compilePath(served, plan, appHeader(app), options), options);
        }),
      );
    routesByHost.set(host, routes);
  }
  const virtualHosts = hosts.map(({ host }) => {
    const own = routesByHost.get(host) ?? [];
    return {
      name: host,
      // The scope has found an exact host already; in a group of wildcards Envoy takes the longest that matches.
      domains: [isWildcard(host) ? host : "*"],
      // What no path of a wildcard host matches may match one of the wildcards above it.
      routes: isWildcard(host) ? [host, ...wildcardsAbove(host)].flatMap((name) => routesByHost.get(name) ?? []) : own,
      ...(!isWildcard(host) && hoistToHost(own)),
      retryPolicy: defaultRetryPolicy(options),
    };
  });
  return { routes: compileRoutes(group, virtualHosts), clusters, endpoints, copyClusters: [...copyClusters] };
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
    typedPerFilterConfig: SEARCH_OFF,
    ignorePortInHostMatching: true,
  });
  return encodeResource(RouteConfigurationSchema, group, routes);
}

/**
 * The longest path where something runs is taken, or the shortest of those where nothing does: as on Gorouter. The clusters of
 * the others are not told that they are empty: requests go to them until Envoy has the routes that leave them out.
 */
function isPreferred(route: PathRoute, paths: readonly PathRoute[]): boolean {
  return isServing(route) || !paths.some(({ path }) => path !== route.path && isWithin(route.path, path));
}

function isServing({ shares, split }: PathRoute): boolean {
  const all = [...shares, ...(split?.branches ?? []).flatMap((branch) => branch.shares)];
  return all.some(({ endpoints }) => endpoints.length > 0);
}

/** No request has these in its path, and Envoy would refuse the whole host for them. */
function isMatchable({ path }: PathRoute): boolean {
  return !/[?#]/.test(path);
}
