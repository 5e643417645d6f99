/**
 * Conditions on who calls, by the subject of the client's certificate. Diego says whose an instance is in its units: "app:",
 * "space:" and "organization:" with a guid each. Envoy writes a subject as RFC 2253 has it: parts joined by "," and "+",
 * with a backslash before these where they belong to a value. So a unit is compared as a whole, wherever it stands.
 */
import { create } from "@bufbuild/protobuf";
import { type HeaderMatcher, HeaderMatcherSchema } from "../gen/envoy/config/route/v3/route_components_pb.js";
import type { PolicySource } from "../entries/route-policies.js";
import { escaped, regexMatcher } from "./header-matcher.js";
import { CALLER_HEADER } from "./names.js";

const CHARACTER = "(?:[^\\\\,+]|\\\\.)";
const PART = `${CHARACTER}*`;
const PARTS_BEFORE = `(?:${PART}[,+])*`;
const MORE = "(?:[,+].*)?";

/** A unit of the certificate is one of these; texts of regular expressions. */
const hasUnit = (units: readonly string[]) => `${PARTS_BEFORE}OU=(?:${units.join("|")})${MORE}`;
const hasTwo = (kind: string) => `OU=${kind}:${PART}[,+]${PARTS_BEFORE}OU=${kind}:`;

const KINDS = { app: "app", space: "space", org: "organization" } as const;

const SOME_APP = hasUnit([`${KINDS.app}:${CHARACTER}+`]);
const SEVERAL = `${PARTS_BEFORE}(?:${Object.values(KINDS).map(hasTwo).join("|")}).*`;

/** It names no app: the certificate is none of an instance. */
export const IS_NO_APP = subject(SOME_APP, { invert: true });

/** It names two apps, spaces or organizations, of which nobody knows which counts. */
export const IS_SEVERAL = subject(SEVERAL);

export function isOneOf(sources: readonly PolicySource[]): HeaderMatcher {
  const units = sources.flatMap((source) => (source.kind === "any" ? [] : [unitOf(source.kind, source.guid)]));
  return subject(units.length < sources.length ? SOME_APP : hasUnit(units));
}

export function isOf(kind: "org" | "space", guid: string): HeaderMatcher {
  return subject(hasUnit([unitOf(kind, guid)]));
}

export function isOfNone(kind: "org" | "space", guids: readonly string[]): HeaderMatcher {
  return subject(hasUnit(guids.map((guid) => unitOf(kind, guid))), { invert: true });
}

function unitOf(kind: keyof typeof KINDS, guid: string): string {
  return `${KINDS[kind]}:${escaped(guid)}`;
}

/** The whole subject. A request without one has the empty one: a refusal by what it lacks must not pass it over. */
function subject(regex: string, { invert = false } = {}): HeaderMatcher {
  return create(HeaderMatcherSchema, {
    ...regexMatcher(CALLER_HEADER, regex),
    invertMatch: invert,
    treatMissingHeaderAsEmpty: true,
  });
}
