/** What the parts of the emulated Cloud Controller work with. */
import { randomUUID } from "node:crypto";
import type { Clock } from "../../lib/clock.js";
import type { Logger } from "../../lib/logger.js";
import type { AppLogs } from "../logs.js";
import type { Stager } from "../staging/stager.js";
import type { Bits } from "./bits.js";
import type { Launcher } from "./launcher.js";
import type { Metadata, Resource } from "./records.js";
import type { Store } from "./store.js";

/** Someone whom UAA knows. */
export interface User {
  readonly guid: string;
  readonly name: string;
}

/** Who sent a request, as its token says. */
export interface Caller {
  readonly guid: string;
  readonly name: string;
  readonly scopes: ReadonlySet<string>;
}

/** Called before each page but the first is read, so that a test can change a list while a client reads it. */
export type BetweenPages = (page: { readonly path: string; readonly page: number }) => void | Promise<void>;

export interface Api {
  readonly store: Store;
  readonly launcher: Launcher;
  readonly bits: Bits;
  readonly stager: Stager;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Where staging and the API write about an app. */
  readonly logs: AppLogs;
  /** Where the client of this request reaches the API, as in "http://127.0.0.1:8080": the beginning of every href. */
  readonly url: () => string;
  readonly uaaUrl: () => string;
  readonly loginUrl: () => string;
  readonly logCacheUrl: () => string;
  readonly betweenPages: BetweenPages;
  /** Those whom UAA knows. */
  readonly users: () => readonly User[];
}

/** Unix time in seconds. */
export function now(api: Pick<Api, "clock">): number {
  return Math.floor(api.clock.now() / 1000);
}

/** "2026-01-31T12:00:00Z". */
export function timestamp(seconds: number): string {
  return new Date(seconds * 1000).toISOString().replace(".000Z", "Z");
}

export function link(api: Api, path: string): { href: string } {
  return { href: `${api.url()}${path}` };
}

/** The fields that every new resource begins with. */
export function newResource(api: Pick<Api, "clock">, guid: string = randomUUID()): Resource {
  const createdAt = now(api);
  return { guid, createdAt, updatedAt: createdAt, metadata: emptyMetadata() };
}

export function emptyMetadata(): Metadata {
  return { labels: {}, annotations: {} };
}

/** The fields that every presented resource begins with. */
export function presentTimes(resource: Pick<Resource, "guid" | "createdAt" | "updatedAt">) {
  return {
    guid: resource.guid,
    created_at: timestamp(resource.createdAt),
    updated_at: timestamp(resource.updatedAt),
  };
}

export function toOne(guid: string | null): { data: { guid: string } | null } {
  return { data: guid === null ? null : { guid } };
}
