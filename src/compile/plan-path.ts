/** Which clusters the requests of one path go to, and how they are told apart before. */
import { createHash } from "node:crypto";
import type { RequestMatch } from "../model/annotations.js";
import type { PathRoute } from "../model/routing-table.js";
import { type Share, UPSTREAM_PROTOCOLS } from "../model/shares.js";
import type { Pool } from "./compile-cluster.js";
import { clusterName, shareClusterName } from "./names.js";

export interface PathPlan {
  /** In the order in which they are tried; the last takes whatever comes. */
  readonly branches: readonly PlannedBranch[];
  /** Get copies of requests. */
  readonly copies: readonly WeightedPool[];
}

export interface PlannedBranch {
  /** undefined: all requests. */
  readonly match: RequestCondition | undefined;
  /** At least one. */
  readonly pools: readonly WeightedPool[];
}

export type RequestCondition = Pick<RequestMatch, "kind" | "name" | "value">;

export interface WeightedPool extends Pool {
  /** Relative to the other pools of its branch. */
  readonly weight: number;
  /** Value of the cookie by which a client stays with this pool; undefined where clients are not kept. */
  readonly cohort: string | undefined;
}

/** @param owner  as in clusterName */
export function planPath(host: string, route: PathRoute, owner = ""): PathPlan {
  const { path, balancing, shares, split } = route;
  if (!split) return { branches: [{ match: undefined, pools: poolsOf(host, route, owner) }], copies: [] };

  const poolOf = (share: Share): WeightedPool => ({
    name: shareClusterName(host, path, share, owner),
    protocol: share.protocol,
    balancing,
    // Envoy takes no weight of 0, and this one is alone in its cluster.
    shares: share.endpoints.length > 0 ? [{ ...share, weight: 1 }] : [],
    weight: share.weight,
    cohort: split.cohort && cohortOf(share),
  });
  const everyone = servingOf(shares.map(poolOf));
  const cohorts = split.cohort && everyone.length > 1 ? everyone : [];
  return {
    branches: [
      ...split.branches.map(({ match, shares: matched }) => ({ match, pools: servingOf(matched.map(poolOf)) })),
      ...cohorts.map((pool) => ({
        match: { kind: "cookie" as const, name: split.cohort?.name ?? "", value: pool.cohort },
        pools: [pool],
      })),
      // A part of a route may have apps alone that get no other requests.
      ...(everyone.length > 0 ? [{ match: undefined, pools: everyone }] : []),
    ],
    copies: split.copies ? split.copies.shares.map(poolOf) : [],
  };
}

/** Short, and tells a client nothing. */
function cohortOf({ protocol, name }: Share): string {
  return createHash("sha256").update(`${protocol}|${name}`).digest("hex").slice(0, 8);
}

/**
 * A share with nothing running sends nobody to a 503: the others take its part. A pool of such shares is left out where
 * another serves, and not told that it is empty: requests go to it until Envoy has the routes that leave it out.
 */
function servingOf<P extends WeightedPool>(pools: readonly P[]): readonly P[] {
  const serving = pools.filter(({ shares }) => shares.length > 0);
  return serving.length > 0 ? serving : pools;
}

/** One for each protocol: within it, Envoy goes by the weights of the shares. */
function poolsOf(host: string, { path, balancing, shares }: PathRoute, owner: string): readonly WeightedPool[] {
  const pools = UPSTREAM_PROTOCOLS.flatMap((protocol) => {
    const members = shares.filter((share) => share.protocol === protocol);
    if (members.length === 0) return [];
    const serving = members.filter(({ endpoints }) => endpoints.length > 0);
    const weight = serving.reduce((sum, share) => sum + share.weight, 0);
    const name = clusterName(host, path, protocol, owner);
    return { name, protocol, balancing, shares: serving, weight, cohort: undefined };
  });
  return servingOf(pools);
}
