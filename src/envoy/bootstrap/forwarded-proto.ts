/** X-Forwarded-Proto: what apps are told of the scheme that a client used. */
import type { Entrance } from "./entrance.js";
import { append, headerMutation } from "./header-mutations.js";
import { filterUnless, type Predicate } from "./matchers.js";

/** What becomes of a client's X-Forwarded-Proto: kept, replaced by how it came, or "https" whatever it says. */
export type ForwardedProto = "keep" | "sanitize" | "https";

/**
 * With one hop a client's X-Forwarded-Proto is kept, with none it is replaced.
 *
 * @param signed  requests that may come from a route service: undefined where there are none
 */
export function trustedHops(mode: ForwardedProto, signed: Predicate | undefined): 0 | 1 {
  return mode === "sanitize" && !signed ? 0 : 1;
}

/** Of a router with route services, which may say how the client came: the agent looks at those that say they are one. */
export function forwardedProtoFilters(mode: ForwardedProto, { isTls }: Entrance, signed: Predicate | undefined) {
  if (mode === "keep" || !signed) return [];
  const proto = isTls || mode === "https" ? "https" : "http";
  const mutations = headerMutation({ request_mutations: [append("x-forwarded-proto", proto)] });
  return [filterUnless("cf-mesh.forwarded-proto", mutations, [signed])];
}

/** For each attempt; where a filter has not done it. */
export function forwardedProtoMutations(mode: ForwardedProto, signed: Predicate | undefined) {
  return mode === "https" && !signed ? [append("x-forwarded-proto", "https")] : [];
}
