/**
 * Who may call a route whose domain enforces route policies (RFC-0055 of Cloud Foundry): the scope of the domain, within
 * it the sources of the route. What is not understood here lets nobody in.
 */
import { compareText } from "../lib/compare-text.js";

/** Callers of any app; of the organization, or the space, of the app that they reach. */
export const POLICY_SCOPES = ["any", "org", "space"] as const;
export type PolicyScope = (typeof POLICY_SCOPES)[number];

export type PolicySource = { readonly kind: "any" } | { readonly kind: "app" | "org" | "space"; readonly guid: string };

/** "cf:any", "cf:app:GUID", "cf:space:GUID" or "cf:org:GUID", as a whole. */
const SOURCE = /^cf:(?:(any)|(app|org|space):([\w-]{1,200}))$/;

/** undefined for a text that is no source. */
export function policySource(text: string): PolicySource | undefined {
  const [, any, kind, guid] = SOURCE.exec(text) ?? [];
  if (any !== undefined) return { kind: "any" };
  if ((kind !== "app" && kind !== "org" && kind !== "space") || guid === undefined) return undefined;
  return { kind, guid };
}

/** undefined for a scope that is not known. */
export function policyScope(text: string): PolicyScope | undefined {
  return POLICY_SCOPES.find((scope) => scope === text);
}

export interface ReadSources {
  /** Each once, in the order of the alphabet. */
  readonly sources: string[];
  /** What lets nobody in, and why. */
  readonly problems: readonly string[];
}

/** About 1,500 guids. They are repeated for each URI of a registration, and take memory in each router. */
const MAX_SOURCES_LENGTH = 64 * 1_024;

/** An empty text says nothing, as to Gorouter. */
export function readPolicySources(texts: Iterable<string>): ReadSources {
  const words = [...new Set([...texts].map((text) => text.trim()))].filter((word) => word !== "").sort(compareText);
  const known = words.filter((word) => policySource(word) !== undefined);
  const unknown = words.filter((word) => policySource(word) === undefined);
  const problems = unknown.map((word) => `${shown(word)} is no source: it lets nobody in`);
  const sources = fitting(known);
  const leftOut = known.length - sources.length;
  if (leftOut > 0) {
    problems.push(`${leftOut} of ${known.length} are over ${MAX_SOURCES_LENGTH} characters: they let nobody in`);
  }
  return { sources, problems };
}

function fitting(sources: string[]): string[] {
  let length = 0;
  const end = sources.findIndex((source) => (length += source.length + 1) > MAX_SOURCES_LENGTH);
  return end === -1 ? sources : sources.slice(0, end);
}

/** The options `route_policy_scope` and `route_policy_sources` (separated by commas), as Diego and NATS tell them. */
export function readPolicyOptions(options: PolicyOptions | null | undefined) {
  const routePolicyScope = options?.route_policy_scope ?? "";
  const { sources, problems: unread } = readPolicySources((options?.route_policy_sources ?? "").split(","));
  const problems = unread.map((problem) => `route_policy_sources: ${problem}`);
  if (routePolicyScope !== "" && policyScope(routePolicyScope) === undefined) {
    problems.push(`route_policy_scope: ${shown(routePolicyScope)} is not known: the route lets nobody in`);
  }
  // Without a scope nothing is enforced, as on Gorouter.
  return { routePolicyScope, routePolicySources: routePolicyScope === "" ? [] : sources, problems };
}

/** What entries say. */
export interface Policies {
  /** "" where the domain enforces none; it may be one that is not known. */
  readonly routePolicyScope: string;
  readonly routePolicySources: string[];
}

/**
 * What all that tell of one route let in: while a policy changes, some tell of it later than others. Those that tell of no
 * scope do not count, so that a source that does not know opens nothing.
 *
 * Returns  undefined where none tells of a scope.
 */
export function strictestPolicies(all: Iterable<Policies | undefined>): Policies | undefined {
  const scoped = [...all].filter((one) => one !== undefined).filter(({ routePolicyScope }) => routePolicyScope !== "");
  const [first] = scoped.map(({ routePolicyScope }) => routePolicyScope).sort(compareScopes);
  if (first === undefined) return undefined;
  const narrowing = scoped
    .map(({ routePolicySources }) => routePolicySources)
    .filter((sources) => !sources.includes(EVERYBODY));
  const [some, ...others] = narrowing;
  const common = some?.filter((source) => others.every((sources) => sources.includes(source)));
  return { routePolicyScope: first, routePolicySources: common ?? [EVERYBODY] };
}

const EVERYBODY = "cf:any";

/** The narrowest first; one that is not known is narrower than all. */
function compareScopes(one: string, other: string): number {
  const width = (scope: string) => ["space", "org", "any"].indexOf(scope);
  return width(one) - width(other) || compareText(one, other);
}

export interface PolicyOptions {
  readonly route_policy_scope?: string | null | undefined;
  readonly route_policy_sources?: string | null | undefined;
}

const SHOWN = 100;

function shown(text: string): string {
  return JSON.stringify(text.slice(0, SHOWN));
}
