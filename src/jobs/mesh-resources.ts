/** The routing table as xDS resource types: what is compiled, and when. */
import { compileAbsence, compileGroup, type CompiledGroup } from "../compile/compile-group.js";
import { compileScope } from "../compile/compile-scope.js";
import { hostOfCluster } from "../compile/names.js";
import type { CompileOptions } from "../compile/options.js";
import { groupOf, wildcardGroupOf } from "../model/hosts.js";
import type { RoutingTable } from "../model/routing-table.js";
import type { ResourceType } from "../xds/resources.js";
import type { WildcardHosts } from "./wildcard-hosts.js";

const typeUrl = (name: string) => `type.googleapis.com/envoy.config.${name}`;

export const TYPE_URLS = {
  clusters: typeUrl("cluster.v3.Cluster"),
  endpoints: typeUrl("endpoint.v3.ClusterLoadAssignment"),
  routes: typeUrl("route.v3.RouteConfiguration"),
  scopes: typeUrl("route.v3.ScopedRouteConfiguration"),
} as const;

/** A first request asks for a group's routes, cluster and endpoints one after the other: compile once. */
const RECENT_GROUPS = 64;

/**
 * Envoy drops requests that wait for the routes of a scope when the scope goes: they get a 503 after 5 s. So a scope stays
 * for as long as somebody may wait; asked for its routes, the agent says that there are none.
 */
const SCOPE_LINGER_MS = 2_000;

/** Clusters that are remembered after their group changed. Who asks for one does so milliseconds later. */
const FORMER_CLUSTERS = 1_024;

export interface MeshResources {
  readonly types: readonly ResourceType[];
  /** Forgets what was compiled for these groups. To be called before anyone is told that they changed. */
  invalidate(groups: ReadonlySet<string>): void;
}

export function meshResources(
  table: RoutingTable,
  wildcardHosts: WildcardHosts,
  options: CompileOptions,
): MeshResources {
  const recent = new Map<string, CompiledGroup>();
  /** By the name of their cluster, as they were before the latest change of their group; those that changed first come first. */
  const former = new Map<string, CompiledGroup>();

  function compiled(group: string): CompiledGroup | undefined {
    const known = recent.get(group);
    if (known) return known;
    const routes = table.group(group);
    if (!routes) return undefined;
    const fresh = compileGroup(routes, options);
    recent.set(group, fresh);
    if (recent.size > RECENT_GROUPS)
      for (const oldest of recent.keys()) return recent.delete(oldest) ? fresh : undefined;
    return fresh;
  }

  function remember(before: CompiledGroup): void {
    for (const name of before.clusters.keys()) {
      former.delete(name);
      former.set(name, before);
    }
    for (const name of former.keys()) {
      if (former.size <= FORMER_CLUSTERS) return;
      former.delete(name);
    }
  }

  function* scopeNames(): Iterable<string> {
    yield* table.groups();
    for (const name of wildcardHosts.names()) if (!table.hasGroup(name)) yield name;
  }

  const onDemand = { mode: "onDemand" } as const;
  const groupOfCluster = (name: string) => groupOf(hostOfCluster(name));
  const itself = (name: string) => name;
  return {
    invalidate(groups) {
      for (const group of groups) {
        const before = recent.get(group);
        recent.delete(group);
        if (before) remember(before);
      }
    },
    types: [
      {
        typeUrl: TYPE_URLS.clusters,
        get: (name) => compiled(groupOfCluster(name))?.clusters.get(name),
        former: (name) => former.get(name)?.clusters.get(name),
        groupOf: groupOfCluster,
        delivery: onDemand,
        // Envoy puts a changed cluster to work when its endpoints come again.
        followedBy: TYPE_URLS.endpoints,
        usedBy: TYPE_URLS.routes,
      },
      {
        typeUrl: TYPE_URLS.endpoints,
        get: (name) => compiled(groupOfCluster(name))?.endpoints.get(name),
        former: (name) => former.get(name)?.endpoints.get(name),
        groupOf: groupOfCluster,
        delivery: onDemand,
      },
      {
        typeUrl: TYPE_URLS.routes,
        // Asked for by the scopes that Envoy has, one that is about to go among them.
        get: (name) => compiled(name)?.routes ?? compileAbsence(name),
        groupOf: itself,
        delivery: onDemand,
        uses: {
          typeUrl: TYPE_URLS.clusters,
          names: (name) => [...(compiled(name)?.clusters.keys() ?? [])],
          neverAskedFor: (name) => compiled(name)?.copyClusters ?? [],
        },
      },
      {
        typeUrl: TYPE_URLS.scopes,
        get: (name) => {
          if (table.hasGroup(name)) return compileScope(name);
          return wildcardHosts.has(name) ? compileScope(name, wildcardGroupOf(name)) : undefined;
        },
        groupOf: itself,
        delivery: { mode: "eager", names: scopeNames, lingerMs: SCOPE_LINGER_MS },
      },
    ],
  };
}
