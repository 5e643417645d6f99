/** Routes of the Cloud Controller as entries: read whole at the start and now and then, and by hints in between. */
import { Backoff } from "../../lib/backoff.js";
import { type Clock, systemClock } from "../../lib/clock.js";
import { asError } from "../../lib/errors.js";
import type { Logger } from "../../lib/logger.js";
import type { KeySpaceWriter, Want } from "../../log/key-space-writer.js";
import type { Source, SourceStatus } from "../source.js";
import { buildRoutes } from "./build-routes.js";
import { CcClient, type Query } from "./cc-client.js";
import { Directory, sameApp } from "./directory.js";
import { RateLimited } from "./faults.js";
import { openAgent } from "./http.js";
import { readWholeList } from "./list.js";
import { batches, readApps, takeApp, takeProcess, takeSpaces } from "./lookups.js";
import { Refusals } from "./refusals.js";
import { check, EventSchema, guidOf, type Page } from "./resources.js";
import { RouteIndex } from "./route-index.js";

export interface CloudControllerSourceOptions {
  readonly apiUrl: string;
  /** From the links of the API's root where left out. */
  readonly uaaUrl?: string;
  readonly clientId: string;
  readonly clientSecret: string;
  /** PEM; the system's CAs where left out. */
  readonly ca?: string;
  readonly clientCertificate?: { readonly certificate: string; readonly key: string };
  /** Pause between looks for changes. */
  readonly pollIntervalMs?: number;
  /** Pause between full reads. */
  readonly resyncIntervalMs?: number;
  readonly pageSize?: number;
  readonly requestTimeoutMs?: number;
  readonly logger: Logger;
  readonly clock?: Clock;
}

const CONCURRENCY = 4;
/** Times have whole seconds, and a transaction may commit some after the time that it bears. */
const OVERLAP_MS = 5_000;
const EVENT_TYPES = [
  "audit.route.create",
  "audit.route.update",
  "audit.route.delete-request",
  "audit.route.transfer-owner",
  "audit.app.map-route",
  "audit.app.unmap-route",
  "audit.app.create",
  "audit.app.update",
  "audit.app.delete-request",
  "audit.app.process.create",
  "audit.app.process.delete",
].join(",");

export function cloudControllerSource(options: CloudControllerSourceOptions): Source {
  return new CloudControllerSource(options);
}

class CloudControllerSource implements Source {
  readonly name = "cloud-controller";
  readonly #options: CloudControllerSourceOptions;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #refusals: Refusals;
  readonly #backoff = new Backoff(250, 10_000);
  readonly #index = new RouteIndex();
  #directory = new Directory();
  /** Guids of audit events within the overlap: they come up again and again. */
  #heard = new Set<string>();
  #sinceMs = 0;
  #status: SourceStatus = { state: "starting", lastSyncMs: undefined, lastError: undefined };

  constructor(options: CloudControllerSourceOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#logger = options.logger;
    this.#refusals = new Refusals(options.logger);
  }

  get status(): SourceStatus {
    return this.#status;
  }

  async run(writer: KeySpaceWriter, signal: AbortSignal): Promise<void> {
    const { apiUrl, uaaUrl, clientId, clientSecret, ca, clientCertificate } = this.#options;
    const { pollIntervalMs = 500, resyncIntervalMs = 60_000, requestTimeoutMs = 30_000 } = this.#options;
    const agent = openAgent({
      requestTimeoutMs,
      ...(ca !== undefined && { ca }),
      ...(clientCertificate && { clientCertificate }),
    });
    const client = new CcClient({
      apiUrl,
      ...(uaaUrl !== undefined && { uaaUrl }),
      uaaClient: { clientId, clientSecret },
      agent,
      clock: this.#clock,
    });
    let resyncAtMs = 0;
    while (!signal.aborted) {
      let pauseMs = pollIntervalMs;
      try {
        if (this.#clock.now() >= resyncAtMs) {
          await this.#readAll(client, writer, signal);
          resyncAtMs = this.#clock.now() + resyncIntervalMs;
        } else {
          await this.#readChanges(client, writer, signal);
        }
        this.#follows();
      } catch (thrown) {
        if (signal.aborted) break;
        pauseMs = this.#failed(asError(thrown));
      }
      await this.#clock.sleep(pauseMs, signal);
    }
    await agent.destroy();
  }

  async #readAll(client: CcClient, writer: KeySpaceWriter, signal: AbortSignal): Promise<void> {
    const startedMs = this.#clock.now();
    await client.discover(signal);
    const sinceMs = (client.newestDateMs ?? startedMs) - OVERLAP_MS;
    const directory = new Directory();
    const read = this.#reader(client, signal);
    await Promise.all([
      read("/v3/apps", {}, (page) => page.resources.forEach((app) => takeApp(app, directory, this.#refusals))),
      read("/v3/processes", {}, (page) => page.resources.forEach((one) => takeProcess(one, directory, this.#refusals))),
      read("/v3/spaces", { include: "organization" }, (page) => takeSpaces(page, directory, this.#refusals)),
    ]);
    this.#directory = directory;
    const wants = new Map<string, Want>();
    const kept = new Set<string>();
    const take = async (page: Page) => {
      const built = await this.#build(client, page, signal, false);
      for (const { guid, value } of built.routes) wants.set(this.#key(writer, guid), { key: this.#key(writer, guid), value });
      for (const guid of built.refused) kept.add(this.#key(writer, guid));
    };
    await read("/v3/routes", { include: "domain" }, take);
    // What a page did not show is gone only when asking for it by name says so.
    const missing = [...writer.keys()].filter((key) => !wants.has(key) && !kept.has(key));
    for (const keys of batches(missing)) {
      const guids = keys.map((key) => key.slice(writer.keySpace.length));
      await read("/v3/routes", { include: "domain", guids: guids.join(",") }, take);
    }
    const gone = missing.filter((key) => !wants.has(key) && !kept.has(key));
    for (const key of gone) this.#index.delete(key.slice(writer.keySpace.length));
    const counts = await writer.apply([...wants.values(), ...gone.map((key) => ({ key, value: undefined }))]);
    this.#sinceMs = sinceMs;
    this.#status = { ...this.#status, lastSyncMs: this.#clock.now() };
    this.#logger.info(
      { source: this.name, routeCount: wants.size, ...counts, tookMs: this.#clock.now() - startedMs },
      "read all routes",
    );
  }

  async #readChanges(client: CcClient, writer: KeySpaceWriter, signal: AbortSignal): Promise<void> {
    const since = new Date(this.#sinceMs).toISOString().replace(/\.\d+Z$/, "Z");
    const sinceMs = (client.newestDateMs ?? this.#sinceMs + OVERLAP_MS) - OVERLAP_MS;
    const read = this.#reader(client, signal);
    const routeGuids = new Set<string>();
    const appGuids = new Set<string>();
    const heard = new Set<string>();
    await read("/v3/audit_events", { types: EVENT_TYPES, "created_ats[gte]": since }, (page) => {
      for (const resource of page.resources) {
        const event = this.#refusals.accept("audit event", check(EventSchema, resource), guidOf(resource));
        if (!event) continue;
        heard.add(event.guid);
        if (this.#heard.has(event.guid)) continue;
        const target = event.target?.guid;
        if (event.data?.route_guid != null) routeGuids.add(event.data.route_guid);
        if (target === undefined) continue;
        (event.type.startsWith("audit.route.") ? routeGuids : appGuids).add(target);
      }
    });
    await read("/v3/routes", { "updated_ats[gte]": since }, (page) => {
      for (const resource of page.resources) {
        const guid = guidOf(resource);
        if (guid !== undefined) routeGuids.add(guid);
      }
    });
    for (const [guid, facts] of await readApps((path, query) => client.page(path, query, signal), appGuids, this.#refusals)) {
      if (!sameApp(facts, this.#directory.apps.get(guid))) for (const route of this.#index.routesOf(new Set([guid]))) routeGuids.add(route);
      this.#directory.setApp(guid, facts);
    }
    for (const guids of batches(routeGuids)) {
      const wants = new Map<string, Want>(guids.map((guid) => [guid, { key: this.#key(writer, guid), value: undefined }]));
      await read("/v3/routes", { include: "domain", guids: guids.join(",") }, async (page) => {
        const built = await this.#build(client, page, signal, true);
        for (const { guid, value } of built.routes) wants.set(guid, { key: this.#key(writer, guid), value });
        for (const guid of built.refused) wants.delete(guid);
        if (built.someUnnamed) for (const [guid, { value }] of wants) if (!value) wants.delete(guid);
      });
      for (const [guid, { value }] of wants) if (!value) this.#index.delete(guid);
      await writer.apply([...wants.values()]);
    }
    this.#heard = heard;
    this.#sinceMs = Math.max(this.#sinceMs, sinceMs);
  }

  async #build(client: CcClient, page: Page, signal: AbortSignal, lookUpProcesses: boolean) {
    const fetch = (path: string, query: Query) => client.page(path, query, signal);
    const built = await buildRoutes(page, { fetch, directory: this.#directory, refusals: this.#refusals }, { lookUpProcesses });
    for (const { guid, appGuids } of built.routes) this.#index.set(guid, appGuids);
    return built;
  }

  #reader(client: CcClient, signal: AbortSignal) {
    const pageSize = this.#options.pageSize ?? 5_000;
    return (path: string, query: Query, take: (page: Page) => Promise<void> | void) =>
      readWholeList((more) => client.page(path, more, signal), { query, pageSize, concurrency: CONCURRENCY }, take);
  }

  #key(writer: KeySpaceWriter, guid: string): string {
    return writer.keySpace + guid;
  }

  #follows(): void {
    if (this.#status.state === "retrying") this.#logger.info({ source: this.name }, "Cloud Controller can be read again");
    this.#backoff.reset();
    this.#status = { ...this.#status, state: "following", lastError: undefined };
  }

  /** Returns how long to wait. */
  #failed(error: Error): number {
    if (this.#status.state !== "retrying") this.#logger.error({ source: this.name, error: error.message }, "Cloud Controller can't be read");
    this.#status = { ...this.#status, state: "retrying", lastError: error.message };
    const pauseMs = this.#backoff.next();
    return error instanceof RateLimited ? Math.max(pauseMs, error.retryAfterMs) : pauseMs;
  }
}
