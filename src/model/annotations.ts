/** What developers ask of a route by annotations in Cloud Controller: `cf-mesh.local/timeout`, and so on (docs/routes.md). */
import type { Tag } from "../entries/entries.js";

/** What the annotations of one route say; each part is undefined, or empty, where none does. */
export interface RouteWishes {
  readonly timeoutMs: number | undefined;
  /** Of one request, the first included. */
  readonly attempts: number | undefined;
  /** When requests that may be sent twice are, beyond those that no app has seen. */
  readonly retryOn: readonly RetryCondition[] | undefined;
  /** The first match that holds decides. */
  readonly matches: readonly RequestMatch[];
  /** Guids of apps that get the requests of their matches and no others. */
  readonly matchOnly: readonly string[];
  readonly cohort: CohortCookie | undefined;
  readonly mirror: Mirror | undefined;
}

/** "reset": the connection ended without an answer; else an HTTP status, or "5xx" for each of those. */
export type RetryCondition = "reset" | "5xx" | number;

export interface RequestMatch {
  readonly kind: "cookie" | "header";
  readonly name: string;
  /** undefined: whatever it holds. */
  readonly value: string | undefined;
  /** The guid of the app that gets the request. */
  readonly app: string;
}

/** The cookie that keeps a client with one of a route's shares. */
export interface CohortCookie {
  readonly name: string;
  /** 0: until the browser is closed. */
  readonly ttlSeconds: number;
}

export interface Mirror {
  /** The guid of the app that gets copies, and no other requests. */
  readonly app: string;
  /** Of the route's requests: above 0, at most 100. */
  readonly percent: number;
}

/** An annotation that can't be followed. The others of its route are. */
export interface AnnotationProblem {
  readonly name: string;
  readonly value: string;
  readonly reason: string;
}

export interface ReadAnnotations {
  readonly wishes: RouteWishes;
  readonly problems: readonly AnnotationProblem[];
}

export const NO_WISHES: RouteWishes = {
  timeoutMs: undefined,
  attempts: undefined,
  retryOn: undefined,
  matches: [],
  matchOnly: [],
  cohort: undefined,
  mirror: undefined,
};

/** Cloud Controller takes no prefix without a dot, so developers write "cf-mesh.local/timeout"; any domain will do. */
const NAME = /^cf-mesh(?:\.[^/]+)?\/(.+)$/;
const USUAL_PREFIX = "cf-mesh.local/";
const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
const DURATION = /^(\d{1,9})(ms|s|m|h)$/;
const MAX_TIMEOUT_MS = 86_400_000;
const MAX_ATTEMPTS = 10;
const MAX_MATCHES = 20;
/** RFC 9110's token: names of headers and cookies. */
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/;
/** What a header or a cookie may hold here: printable ASCII without what separates. */
const PLAIN_VALUE = /^[\x21-\x3a\x3c-\x7e]{1,256}$/;
const PERCENT = /^(\d{1,3}(?:\.\d{1,2})?)%$/;
/** Headers that the router itself decides by; a match on them would be met or missed for other reasons. */
const RESERVED_HEADER = /^(host|connection|x-envoy-.*|x-cf-mesh-.*)$/i;

/** An app that a route leads to. */
export interface RouteApp {
  readonly guid: string;
  /** "" where it is not known. */
  readonly name: string;
}

/** A reason why a value can't be followed. */
class Unusable extends Error {}

type Reader = (value: string) => Partial<RouteWishes>;

const READERS: Readonly<Record<string, Reader>> = {
  timeout: (value) => ({ timeoutMs: durationMs(value, MAX_TIMEOUT_MS) }),
  attempts: (value) => ({ attempts: wholeNumber(value, 1, MAX_ATTEMPTS) }),
  "retry-on": (value) => ({ retryOn: listOf(value, ",").map(retryCondition) }),
  match: (value) => ({ matches: requestMatches(value) }),
  "match-only": (value) => ({ matchOnly: listOf(value, ",") }),
  "cohort-cookie": (value) => ({ cohort: cohortCookie(value) }),
  mirror: (value) => ({ mirror: mirror(value) }),
};

/**
 * @param annotations  those that speak to the mesh
 * @param apps         those that the route leads to; annotations name them by name or guid
 */
export function readAnnotations(annotations: readonly Tag[], apps: readonly RouteApp[]): ReadAnnotations {
  let wishes = NO_WISHES;
  const problems: AnnotationProblem[] = [];
  const given = new Set<string>();
  for (const { name, value } of annotations) {
    try {
      const word = NAME.exec(name)?.[1] ?? "";
      const read = READERS[word];
      if (given.has(word)) throw new Unusable("is given twice, under two prefixes");
      given.add(word);
      if (!read) throw new Unusable(`there is no such annotation; there are ${known()}`);
      const wish = withGuids(read(value.trim()), apps);
      const next = { ...wishes, ...wish };
      const isServed = apps.some(({ guid }) => !next.matchOnly.includes(guid) && next.mirror?.app !== guid);
      if (!isServed && apps.length > 0) throw new Unusable("would leave no app for the route's other requests");
      wishes = next;
    } catch (error) {
      if (!(error instanceof Unusable)) throw error;
      problems.push({ name, value, reason: error.message });
    }
  }
  return { wishes, problems };
}

function known(): string {
  return Object.keys(READERS)
    .map((name) => USUAL_PREFIX + name)
    .join(", ");
}

function withGuids(wish: Partial<RouteWishes>, apps: readonly RouteApp[]): Partial<RouteWishes> {
  const guidOf = (wanted: string) => {
    const [found, ...more] = apps.filter(({ guid, name }) => guid === wanted || name === wanted);
    if (!found) throw new Unusable(`the route does not lead to an app of the name or guid "${wanted}"`);
    if (more.length > 0) throw new Unusable(`the route leads to several apps named "${wanted}": give the guid`);
    return found.guid;
  };
  return {
    ...wish,
    ...(wish.matches && { matches: wish.matches.map((match) => ({ ...match, app: guidOf(match.app) })) }),
    ...(wish.matchOnly && { matchOnly: wish.matchOnly.map(guidOf) }),
    ...(wish.mirror && { mirror: { ...wish.mirror, app: guidOf(wish.mirror.app) } }),
  };
}

function durationMs(value: string, most: number): number {
  const [, count = "", unit = ""] = DURATION.exec(value) ?? [];
  const ms = Number(count) * (UNIT_MS[unit] ?? 0);
  if (ms === 0 || ms > most) {
    throw new Unusable("must be a duration above 0, such as 500ms, 30s, 2m or 1h; 24h at most");
  }
  return ms;
}

function wholeNumber(value: string, least: number, most: number): number {
  const number = /^\d{1,4}$/.test(value) ? Number(value) : NaN;
  if (!(number >= least && number <= most)) throw new Unusable(`must be a whole number, ${least} to ${most}`);
  return number;
}

function retryCondition(word: string): RetryCondition {
  if (word === "reset" || word === "5xx") return word;
  const status = Number(word);
  if (!/^[45]\d\d$/.test(word)) throw new Unusable("must be a list of reset, 5xx, and statuses from 400 to 599");
  return status;
}

/** "header X-Canary=yes -> shop-v2; cookie beta -> shop-v2". */
function requestMatches(value: string): readonly RequestMatch[] {
  const matches = listOf(value, ";").map(requestMatch);
  if (matches.length > MAX_MATCHES) throw new Unusable(`must be ${MAX_MATCHES} matches at most`);
  return matches;
}

function requestMatch(text: string): RequestMatch {
  const [, kind = "", name = "", value, app = ""] =
    /^(header|cookie)\s+([^=\s]+)(?:=(\S*))?\s*->\s*(\S(?:.*\S)?)$/.exec(text) ?? [];
  if (kind !== "header" && kind !== "cookie") {
    throw new Unusable('must be like "header X-Canary=yes -> shop-v2; cookie beta -> shop-v2"');
  }
  if (!TOKEN.test(name)) throw new Unusable(`"${name}" can't be the name of a ${kind}`);
  if (kind === "header" && RESERVED_HEADER.test(name)) throw new Unusable(`the header ${name} can't be matched`);
  if (value !== undefined && !PLAIN_VALUE.test(value)) {
    throw new Unusable(`what ${name} is to hold must be printable ASCII without spaces, 256 characters at most`);
  }
  return { kind, name, value, app };
}

/** "shop-cohort" or "shop-cohort 24h". */
function cohortCookie(value: string): CohortCookie {
  const [name = "", ttl, ...more] = value.split(/\s+/);
  if (!TOKEN.test(name) || more.length > 0) {
    throw new Unusable('must be the name of a cookie, and how long it is kept: "shop-cohort 24h"');
  }
  if (ttl === undefined) return { name, ttlSeconds: 0 };
  return { name, ttlSeconds: Math.ceil(durationMs(ttl, MAX_TIMEOUT_MS) / 1_000) };
}

/** "shop-v3 5%". */
function mirror(value: string): Mirror {
  const [, app = "", share = ""] = /^(\S(?:.*\S)?)\s+(\S+)$/.exec(value) ?? [];
  const percent = Number(PERCENT.exec(share)?.[1] ?? NaN);
  if (!(percent > 0 && percent <= 100)) {
    throw new Unusable('must be an app and a part of the requests, above 0% and at most 100%: "shop-v3 5%"');
  }
  return { app, percent };
}

function listOf(value: string, separator: string): readonly string[] {
  const words = value.split(separator).map((word) => word.trim());
  if (words.includes("")) throw new Unusable(`must not be empty, nor have an empty part between two "${separator}"`);
  return words;
}
