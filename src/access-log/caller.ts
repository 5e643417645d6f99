/** Who called, and by which rule the caller was let in or kept out: Gorouter's fields of identity-aware domains. */
import type { RequestRecord } from "./record.js";

export interface Caller {
  readonly app: string;
  readonly space: string;
  readonly org: string;
}

/** By the units of an instance's certificate. */
const KINDS: Readonly<Record<string, keyof Caller>> = { app: "app", space: "space", organization: "org" };
/** Of a subject in RFC 2253: parts are joined by "," and "+", which have a backslash before them within a part. */
const PARTS = /(?:[^\\,+]|\\.)+/gs;
const UNIT = /^OU=(app|space|organization):(.+)$/s;

/** undefined where a certificate was not asked for, or names no app, or several. */
export function callerOf({ connectionDomain, callerSubject }: Subject): Caller | undefined {
  if (connectionDomain === "") return undefined;
  const found: Partial<Record<keyof Caller, string>> = {};
  for (const part of callerSubject.match(PARTS) ?? []) {
    const [, kind = "", guid = ""] = UNIT.exec(part) ?? [];
    const name = KINDS[kind];
    if (name === undefined) continue;
    if (found[name] !== undefined) return undefined;
    found[name] = guid;
  }
  return found.app === undefined ? undefined : { app: found.app, space: found.space ?? "", org: found.org ?? "" };
}

type Subject = Pick<RequestRecord, "callerSubject" | "connectionDomain">;

/** In Gorouter's words: "route:cf:app:GUID", or what kept the caller out; "" where no policies decide. */
export function policyRuleOf(record: Subject & Pick<RequestRecord, "policySource" | "routerError">): string {
  const { policySource, routerError } = record;
  const [, refused = ""] = /^route_policy \((.*)\)$/.exec(routerError) ?? [];
  if (refused === "route:no_route_policies") return "";
  if (refused !== "") return refused.startsWith("domain:scope=") ? `${refused}:post-selection` : refused;
  if (policySource === "") return "";
  if (policySource === "any") return "route:cf:any";
  const caller = callerOf(record);
  return `route:cf:${policySource}:${caller?.[policySource as keyof Caller] ?? ""}`;
}
