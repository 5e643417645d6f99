/**
 * An HTTP route of the routing API: one endpoint of one host and path. Checked here, once.
 *
 * Source   RouteEntity in models/route.go of cloudfoundry/routing-api.
 */
import { hash } from "node:crypto";
import { z } from "zod";
import { encodeRegistration } from "../../entries/entries.js";
import { placeOfUri } from "../uri.js";

const MAX_TEXT = 1_024;
const MAX_TTL_SECONDS = 2 ** 31 - 1;
const MAX_SHOWN = 60;
/** 128 bits of SHA-256, 22 characters of base64url. */
const ID_BYTES = 16;

/** An IP address, or a name that can be resolved. */
const ADDRESS = /^(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})|[0-9A-Fa-f:.]{2,45})$/;

const text = z.string("is no text").max(MAX_TEXT, `is longer than ${MAX_TEXT}`).nullish();

const RouteSchema = z.object(
  {
    route: z.string("is no host and path"),
    ip: z.string("is no address").regex(ADDRESS, "is neither an IP address nor a host name"),
    port: z.int("is no port").min(1, "is no port").max(65_535, "is no port"),
    ttl: z.int("is no whole number").min(0, "is below 0").max(MAX_TTL_SECONDS, "is too large").nullish(),
    log_guid: text,
    route_service_url: text.refine(
      (url) => (url ?? "") === "" || url?.startsWith("https://") === true,
      "is no https:// URL",
    ),
    modification_tag: z
      .object({ guid: text, index: z.int("is no whole number").min(0, "is below 0").nullish() }, "is no tag")
      .nullish(),
  },
  "is no route",
);

/** Newer is what has another guid, or the same guid and a larger index. */
export interface ModificationTag {
  /** "" where the API says none: then whatever comes later is newer. */
  readonly guid: string;
  readonly index: number;
}

export interface ApiRoute {
  /** Of its row: the API tells rows apart by route, address, port and route service. The end of its entry's key. */
  readonly id: string;
  readonly tag: ModificationTag;
  /** IP address or name. */
  readonly address: string;
  readonly ttlMs: number;
  /** The same bytes for the same route, whatever its tag. */
  readonly encode: () => Uint8Array;
}

/** What is wrong with a route, by field and value. */
export class BadRoute extends Error {
  override readonly name = "BadRoute";
  /** Of its row; undefined where that can't be told either. */
  readonly id: string | undefined;

  constructor(message: string, id: string | undefined) {
    super(message);
    this.id = id;
  }
}

/** What the API tells rows apart by. */
const RowSchema = z.object({
  route: z.string(),
  ip: z.string(),
  port: z.number(),
  route_service_url: z.string().nullish(),
});

/** What stands for a time to live that is not said: the API's own default. */
const DEFAULT_TTL_SECONDS = 120;
const MS_PER_SECOND = 1_000;

/** Throws BadRoute. */
export function parseRoute(json: unknown): ApiRoute {
  const parsed = RouteSchema.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const at = issue?.path.map(String) ?? [];
    throw bad(json, at, issue?.message ?? "is refused");
  }
  const { route, ip: address, port, ttl, log_guid: guid, route_service_url: url, modification_tag: tag } = parsed.data;
  const place = placeOfUri(route);
  if (!place) throw bad(json, ["route"], "is no host and path");
  const appGuid = guid ?? "";
  const routeServiceUrl = url ?? "";
  const staleThresholdSeconds = ttl ?? 0;
  return {
    id: idOf(route, address, port, routeServiceUrl),
    tag: { guid: tag?.guid ?? "", index: tag?.index ?? 0 },
    address,
    ttlMs: ttlMsOf(staleThresholdSeconds),
    encode: () =>
      encodeRegistration({
        ...place,
        ...{ address, port, protocol: "http1", appGuid, routeServiceUrl, staleThresholdSeconds },
      }),
  };
}

/** @param seconds  0 where it is not said */
export function ttlMsOf(seconds: number): number {
  return (seconds || DEFAULT_TTL_SECONDS) * MS_PER_SECOND;
}

function idOf(route: string, address: string, port: number, routeServiceUrl: string): string {
  const row = JSON.stringify([route, address, port, routeServiceUrl]);
  return hash("sha256", row, "buffer").toString("base64url", 0, ID_BYTES);
}

function bad(json: unknown, path: readonly string[], problem: string): BadRoute {
  const value = path.reduce<unknown>((inner, name) => fieldOf(inner, name), json);
  const route: unknown = fieldOf(json, "route");
  const of = typeof route === "string" && path[0] !== "route" ? ` (route ${shown(route)})` : "";
  const row = RowSchema.safeParse(json).data;
  return new BadRoute(
    `${path.length > 0 ? `${path.join(".")}: ` : ""}${shown(value)} ${problem}${of}`,
    row && idOf(row.route, row.ip, row.port, row.route_service_url ?? ""),
  );
}

function fieldOf(json: unknown, name: string): unknown {
  return typeof json === "object" && json !== null ? (json as Readonly<Record<string, unknown>>)[name] : undefined;
}

/** Short, whatever it is. */
function shown(value: unknown): string {
  if (typeof value === "object" && value !== null) return Array.isArray(value) ? "a list" : "an object";
  if (value === undefined) return "what is not there";
  return JSON.stringify(typeof value === "string" ? value.slice(0, MAX_SHOWN) : value);
}
