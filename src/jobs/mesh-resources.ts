/** The routing table as xDS resource types: what is compiled, and when. */
import type { AppTls } from "../compile/app-tls.js";
import { compileGroup, type CompiledGroup } from "../compile/compile-group.js";
import { compileScope } from "../compile/compile-scope.js";
import { hostOfCluster } from "../compile/names.js";
import { groupOf } from "../model/hosts.js";
import type { RoutingTable } from "../model/routing-table.js";
import type { ResourceType } from "../xds/resources.js";

const typeUrl = (name: string) => `type.googleapis.com/envoy.config.${name}`;

export const TYPE_URLS = {
  clusters: typeUrl("cluster.v3.Cluster"),
  endpoints: typeUrl("endpoint.v3.ClusterLoadAssignment"),
  routes: typeUrl("route.v3.RouteConfiguration"),
  scopes: typeUrl("route.v3.ScopedRouteConfiguration"),
} as const;

/** A first request asks for a group's routes, cluster and endpoints one after the other: compile once. */
const RECENT_GROUPS = 64;

export interface MeshResources {
  readonly types: readonly ResourceType[];
  /** Forgets what was compiled for these groups. To be called before anyone is told that they changed. */
  invalidate(groups: ReadonlySet<string>): void;
}

/** `appTls`: undefined for a router that can't check the certificates of apps. */
export function meshResources(table: RoutingTable, appTls: AppTls | undefined): MeshResources {
  const recent = new Map<string, CompiledGroup>();

  function compiled(group: string): CompiledGroup | undefined {
    const known = recent.get(group);
    if (known) return known;
    const routes = table.group(group);
    if (!routes) return undefined;
    const fresh = compileGroup(routes, appTls);
    recent.set(group, fresh);
    if (recent.size > RECENT_GROUPS)
      for (const oldest of recent.keys()) return recent.delete(oldest) ? fresh : undefined;
    return fresh;
  }

  const onDemand = { mode: "onDemand" } as const;
  const groupOfCluster = (name: string) => groupOf(hostOfCluster(name));
  const itself = (name: string) => name;
  return {
    invalidate(groups) {
      for (const group of groups) recent.delete(group);
    },
    types: [
      {
        typeUrl: TYPE_URLS.clusters,
        get: (name) => compiled(groupOfCluster(name))?.clusters.get(name),
        groupOf: groupOfCluster,
        delivery: onDemand,
        // Envoy puts a changed cluster to work when its endpoints come again.
        followedBy: TYPE_URLS.endpoints,
      },
      {
        typeUrl: TYPE_URLS.endpoints,
        get: (name) => compiled(groupOfCluster(name))?.endpoints.get(name),
        groupOf: groupOfCluster,
        delivery: onDemand,
      },
      { typeUrl: TYPE_URLS.routes, get: (name) => compiled(name)?.routes, groupOf: itself, delivery: onDemand },
      {
        typeUrl: TYPE_URLS.scopes,
        get: (name) => (table.hasGroup(name) ? compileScope(name) : undefined),
        groupOf: itself,
        delivery: { mode: "eager", names: () => table.groups() },
      },
    ],
  };
}
