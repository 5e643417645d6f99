/**
 * The routes of a path whose requests come by mutual TLS alone, or whose domain enforces route policies, or both. Envoy
 * itself decides: a request reaches an app only by a route that says which connection it has to come by, and which callers
 * it is for; others are refused by the routes after it. Routes of other hosts have nothing of this.
 *
 * What is refused, and in which order, is Gorouter's (RFC-0055 of Cloud Foundry).
 */
import { create } from "@bufbuild/protobuf";
import { MetadataSchema } from "../gen/envoy/config/core/v3/base_pb.js";
import {
  type HeaderMatcher,
  HeaderMatcherSchema,
  type Route,
} from "../gen/envoy/config/route/v3/route_components_pb.js";
import { FilterStateMatcherSchema } from "../gen/envoy/type/matcher/v3/filter_state_pb.js";
import type { PolicyPart, RoutePolicy } from "../model/route-policy.js";
import type { PathRoute } from "../model/routing-table.js";
import { IS_NO_APP, IS_SEVERAL, isOf, isOfNone, isOneOf } from "./caller.js";
import { guardsOf } from "./client-domains.js";
import { pathSpecifierOf, routeName } from "./compile-path.js";
import { type DirectReply, directReply } from "./direct-reply.js";
import { regexMatcher } from "./header-matcher.js";
import { CONNECTION_DOMAIN, POLICY_METADATA } from "./names.js";

/** To a request that came by a connection which is not for its host's domain. */
export const MISDIRECTED: DirectReply = {
  status: 421,
  message: "The connection is not for this host's domain.",
  routerError: "misdirected_request",
};

/** Routes to the app of what serves all requests of a path, or those of some callers; new ones at each call. */
export type CompileServed = (served: PathRoute, owner: string) => readonly Route[];

/** `compile` makes routes for all callers alike. */
export function guardedRoutes(
  host: string,
  path: PathRoute,
  domains: readonly string[],
  compile: CompileServed,
): readonly Route[] {
  return guardsOf(host, domains).flatMap(({ domain, authority }) => {
    const routes = domain === undefined ? openRoutes(path, compile) : domainRoutes(domain, path, compile);
    return authority === undefined ? routes : routes.map((route) => onlyWhere(route, [isAuthority(authority)]));
  });
}

/** Of a host without a domain of that kind: nobody's certificate is asked for, so no caller is known. */
function openRoutes(path: PathRoute, compile: CompileServed): readonly Route[] {
  if (path.policy === undefined) return compile(path, "");
  return [refusal(path, "domain:no_caller_identity", "The router asks for no certificates on this host's domain.")];
}

function domainRoutes(domain: string, path: PathRoute, compile: CompileServed): readonly Route[] {
  const routes = path.policy === undefined ? compile(path, "") : policedRoutes(path, path.policy, compile);
  const misdirected = directReply(routeName(path.path), matchOf(path), MISDIRECTED);
  return [...routes.map((route) => byConnectionOf(route, domain)), misdirected];
}

function policedRoutes(path: PathRoute, policy: RoutePolicy, compile: CompileServed): readonly Route[] {
  const refuse = (rule: string, reason: string, conditions: readonly HeaderMatcher[] = []) =>
    onlyWhere(refusal(path, rule, reason), conditions);
  const noIdentity = "The certificate does not tell one app, space and organization in its OU fields.";
  return [
    refuse("identity_extraction", noIdentity, [IS_NO_APP]),
    refuse("identity_extraction", noIdentity, [IS_SEVERAL]),
    ...outsiders(policy).map(({ rule, reason, conditions }) => refuse(rule, reason, conditions)),
    ...allowed(path, policy, compile),
    policy.sources.length === 0
      ? refuse("route:no_route_policies", "The route has no route policies.")
      : refuse("route:route_policies", "No route policy of the route allows the caller."),
  ];
}

/** The kind of source that lets a caller in, the narrowest first: access logs tell it. */
const KINDS = ["app", "space", "org", "any"] as const;

function allowed(path: PathRoute, policy: RoutePolicy, compile: CompileServed): readonly Route[] {
  const { scope, sources, parts } = policy;
  if (scope === undefined) return [];
  return parts.flatMap(({ owner, shares, split }) =>
    KINDS.flatMap((kind) => {
      const own = sources.filter((source) => source.kind === kind);
      return inGroups(own, MAX_SOURCES_OF_ROUTE).flatMap((some) => {
        const isShared = scope !== "any" && parts.length > 1;
        const conditions = [isOneOf(some), ...(isShared ? [isOf(scope, owner)] : [])];
        const routes = compile({ ...path, shares, split }, isShared ? `${scope}:${owner}` : "");
        return routes.map((route) => letInBy(onlyWhere(route, conditions), kind));
      });
    }),
  );
}

/** Envoy refuses a whole host for one regular expression that takes RE2 more than 8 MB. */
const MAX_SOURCES_OF_ROUTE = 250;

function inGroups<T>(items: readonly T[], size: number): readonly (readonly T[])[] {
  const starts = Array.from({ length: Math.ceil(items.length / size) }, (_, index) => index * size);
  return starts.map((start) => items.slice(start, start + size));
}

function letInBy(route: Route, source: string): Route {
  route.metadata ??= create(MetadataSchema);
  route.metadata.filterMetadata[POLICY_METADATA] = { source };
  return route;
}

interface Refused {
  readonly rule: string;
  readonly reason: string;
  readonly conditions: readonly HeaderMatcher[];
}

/** Callers that the domain's scope keeps out. */
function outsiders({ scope, parts }: RoutePolicy): readonly Refused[] {
  if (scope === "any") return [];
  if (scope === undefined) {
    return [{ rule: "domain:scope=unknown", reason: "The scope of the host's domain is not known.", conditions: [] }];
  }
  const reason = `The caller is of another ${scope === "org" ? "organization" : "space"} than the app.`;
  const conditions = parts.length === 0 ? [] : [isOfNone(scope, ownersOf(parts))];
  return [{ rule: `domain:scope=${scope}`, reason, conditions }];
}

const ownersOf = (parts: readonly PolicyPart[]) => parts.map(({ owner }) => owner);

function refusal(path: PathRoute, rule: string, reason: string): Route {
  return directReply(routeName(path.path), matchOf(path), {
    status: 403,
    message: reason,
    routerError: `route_policy (${rule})`,
  });
}

const matchOf = ({ path }: PathRoute) => ({ pathSpecifier: pathSpecifierOf(path), caseSensitive: false });

function onlyWhere(route: Route, conditions: readonly HeaderMatcher[]): Route {
  route.match?.headers.push(...conditions);
  return route;
}

/** The mark is the connection's own, from its handshake on: no client can write it. */
function byConnectionOf(route: Route, domain: string): Route {
  route.match?.filterState.push(
    create(FilterStateMatcherSchema, {
      key: CONNECTION_DOMAIN,
      matcher: { case: "stringMatch", value: { matchPattern: { case: "exact", value: domain } } },
    }),
  );
  return route;
}

function isAuthority(regex: string): HeaderMatcher {
  return create(HeaderMatcherSchema, regexMatcher(":authority", regex));
}
