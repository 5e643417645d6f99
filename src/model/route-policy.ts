/** Who may send requests to a route whose domain enforces route policies, and what of the route serves whom. */
import {
  type Policies,
  type PolicyScope,
  policyScope,
  type PolicySource,
  policySource,
} from "../entries/route-policies.js";
import { compareText } from "../lib/compare-text.js";
import type { Share } from "./shares.js";
import type { Split } from "./split.js";

export interface RoutePolicy {
  /** undefined: one that is not known, which nobody is within. */
  readonly scope: PolicyScope | undefined;
  /** Callers who may; with none, nobody. */
  readonly sources: readonly PolicySource[];
  /** In the order of their owners; none where nobody may. */
  readonly parts: readonly PolicyPart[];
}

/** What callers of one organization, or of one space, reach of a route: the apps of their own, as the scope demands. */
export interface PolicyPart extends Served {
  /** The guid; "" by the scope "any", where all callers reach all. */
  readonly owner: string;
}

export interface Served {
  readonly shares: readonly Share[];
  readonly split: Split | undefined;
}

/** Whose an app is; "" for what is not known. */
export interface Owner {
  readonly organizationGuid: string;
  readonly spaceGuid: string;
}

/** @param serve  what serves requests of callers who reach these */
export function routePolicy<T>(
  { routePolicyScope, routePolicySources }: Policies,
  items: readonly T[],
  ownerOf: (item: T) => Owner,
  serve: (items: readonly T[]) => Served,
): RoutePolicy {
  const scope = policyScope(routePolicyScope);
  const sources = routePolicySources.flatMap((text) => policySource(text) ?? []);
  const byOwner = new Map<string, T[]>();
  for (const item of items) {
    const owner = scope === undefined ? undefined : guidWithin(scope, ownerOf(item));
    if (owner === undefined) continue;
    const others = byOwner.get(owner);
    if (others) others.push(item);
    else byOwner.set(owner, [item]);
  }
  const parts = [...byOwner].sort(([a], [b]) => compareText(a, b)).map(([owner, own]) => ({ owner, ...serve(own) }));
  return { scope, sources, parts };
}

/** undefined for an app whose owner is not known: no caller is of the same. */
function guidWithin(scope: PolicyScope, { organizationGuid, spaceGuid }: Owner): string | undefined {
  if (scope === "any") return "";
  return (scope === "org" ? organizationGuid : spaceGuid) || undefined;
}
