/**
 * What Diego is told to run, watched for its routes: each change is a hint to look at Cloud Controller, and while that
 * can't be read, a second opinion on routes (docs/decisions/0008-second-opinion-from-diego.md).
 */
import { decodeRoute, encodeRoute } from "../../entries/entries.js";
import { KEY_SPACES } from "../../entries/keys.js";
import { type Clock, systemClock } from "../../lib/clock.js";
import { asError, type MeshError } from "../../lib/errors.js";
import type { Logger } from "../../lib/logger.js";
import type { KeySpaceWriter, Want } from "../../log/key-space-writer.js";
import type { LogEntry } from "../../log/log.js";
import type { Source, SourceStatus } from "../source.js";
import { type BbsConnection, type BbsConnectionOptions, followBbs } from "./bbs-follower.js";
import { APPS_DOMAIN, isLrpProcessGuid, PROCESS_GUID_LENGTH } from "./description.js";
import { decodeDesiredEvent, type DesiredEvent } from "./desired-events.js";
import { DesiredRoutes, placeOf, routeGuid } from "./desired-routes.js";
import { bbsEndpoints } from "./endpoint.js";
import { EntryPublisher } from "../entry-publisher.js";
import { type RoutingInfo, routingInfoOf, sameRoutes } from "./routing-info.js";
import type { SseFrame } from "../sse.js";

/** Something about these processes of Cloud Controller may have changed. */
export interface ProcessHint {
  readonly processGuids: readonly string[];
  /** Their routes did change. */
  readonly isCertain: boolean;
}

export interface DesiredWatchOptions extends BbsConnectionOptions {
  readonly onHint: (hint: ProcessHint) => void;
  /** The entries of all routes that need no second opinion, as they are when it is asked for. */
  readonly readKnown: () => AsyncIterable<readonly LogEntry[]>;
  readonly logger: Logger;
  readonly clock?: Clock;
}

export interface DesiredWatch extends Source {
  /**
   * True: entries are written for what Diego is told of hosts and paths that no known route has, and follow its events.
   * False: all entries are removed. Until it is called, those of an earlier run stay.
   */
  giveOpinion(isWanted: boolean): void;
}

const READ_TIMEOUT_MS = 10_000;
const KEY_SPACE = KEY_SPACES.diegoRoutes;

/** Throws MESH_CONFIG_INVALID for URLs and certificates that can never work. */
export function desiredWatch(options: DesiredWatchOptions): DesiredWatch {
  return new Watch(options);
}

class Watch implements DesiredWatch {
  readonly name = "diego-routes";
  readonly #options: DesiredWatchOptions;
  readonly #endpoints: ReturnType<typeof bbsEndpoints>;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #routes = new DesiredRoutes();
  /** Places that a known route has. */
  #known: ReadonlySet<string> = new Set();
  /** undefined until somebody said. */
  #isWanted: boolean | undefined;
  /** A list was read since it was wanted: events alone would tell of a part of the routes. */
  #isComplete = false;
  #wantedChanged = new AbortController();
  #publisher: EntryPublisher | undefined;
  #lastSyncMs: number | undefined;
  #platformFault: string | undefined;
  #logFault: string | undefined;
  readonly #reported = new Set<string>();

  constructor(options: DesiredWatchOptions) {
    this.#options = options;
    this.#endpoints = bbsEndpoints(options.urls, options.credentials);
    this.#clock = options.clock ?? systemClock;
    this.#logger = options.logger.child({ source: this.name });
  }

  get status(): SourceStatus {
    const lastError = this.#platformFault ?? this.#logFault;
    const healthy = this.#lastSyncMs === undefined ? "starting" : "following";
    return { state: lastError === undefined ? healthy : "retrying", lastSyncMs: this.#lastSyncMs, lastError };
  }

  giveOpinion(isWanted: boolean): void {
    if (this.#isWanted === isWanted) return;
    this.#isWanted = isWanted;
    if (!isWanted) {
      this.#isComplete = false;
      this.#routes.clear();
      this.#known = new Set();
      this.#publisher?.publishAll();
    }
    this.#wantedChanged.abort();
    this.#wantedChanged = new AbortController();
  }

  async run(writer: KeySpaceWriter, signal: AbortSignal): Promise<void> {
    if (writer.keySpace !== KEY_SPACE) throw new Error(`not its to write: ${writer.keySpace}`);
    const entries = { want: (place: string) => this.#want(place), wants: () => this.#wants() };
    const publisher = new EntryPublisher(writer, entries, this.#clock, signal, (fault) => this.#reportWrite(fault));
    this.#publisher = publisher;
    if (this.#isWanted === false) publisher.publishAll();
    await followBbs(
      {
        endpoints: this.#endpoints,
        readTimeoutMs: this.#options.readTimeoutMs ?? READ_TIMEOUT_MS,
        clock: this.#clock,
        onFault: (fault) => this.#reportFault(fault),
      },
      (connection) => {
        this.#reportFollowing(connection);
        return [this.#readEvents(connection, publisher), this.#keepComplete(connection, publisher)];
      },
      signal,
    );
    await publisher.idle();
  }

  async #readEvents(connection: BbsConnection, publisher: EntryPublisher): Promise<void> {
    for await (const frames of connection.frames()) {
      const events = frames.flatMap((frame) => this.#decode(frame) ?? []);
      this.#hint(events);
      if (this.#isWanted !== true) continue;
      const moved = events.flatMap((event) => [...this.#apply(event)]);
      if (this.#isComplete) publisher.publish(moved);
    }
  }

  /** Reads a list when an opinion is wanted, once over each connection: what came before was not heard. */
  async #keepComplete(connection: BbsConnection, publisher: EntryPublisher): Promise<void> {
    const { signal } = connection;
    let isRead = false;
    while (!signal.aborted) {
      const changed = this.#wantedChanged.signal;
      if (this.#isWanted === true && !isRead) await this.#readList(connection, publisher, changed);
      isRead = this.#isWanted === true;
      if (!changed.aborted) await aborted(AbortSignal.any([signal, changed]));
    }
  }

  async #readList({ client, signal }: BbsConnection, publisher: EntryPublisher, changed: AbortSignal): Promise<void> {
    const isFresh = (await client.freshDomains(signal)).has(APPS_DOMAIN);
    const list = this.#routes.beginList();
    await client.listRoutingInfos(
      APPS_DOMAIN,
      (lrp) => {
        const info = this.#noted(routingInfoOf(lrp));
        if (info) list.take(info);
      },
      signal,
    );
    const known = new Set<string>();
    for await (const entries of this.#options.readKnown()) {
      for (const { value } of entries) if (value) known.add(placeOf(decodeRoute(value)));
    }
    if (changed.aborted) return;
    list.finish(isFresh);
    this.#known = known;
    this.#isComplete = true;
    publisher.publishAll();
    const routeCount = [...this.#wants()].length;
    this.#logger.info({ routeCount }, "routes that nobody else tells of are taken from Diego for now");
  }

  #decode(frame: SseFrame): DesiredEvent | undefined {
    try {
      return decodeDesiredEvent(frame);
    } catch (thrown) {
      this.#report(asError(thrown).message, "an event of the BBS could not be decoded: passed over");
      return undefined;
    }
  }

  /** An instance count that changed alone says nothing of routes. */
  #hint(events: readonly DesiredEvent[]): void {
    const certain = new Set<string>();
    const uncertain = new Set<string>();
    for (const event of events) {
      const { processGuid: lrpProcessGuid, domain, instances } = event.lrp;
      if (domain !== APPS_DOMAIN || !isLrpProcessGuid(lrpProcessGuid)) continue;
      const isOther = event.kind === "changed" && !sameRoutes(event.before, event.lrp);
      if (event.kind === "changed" && !isOther && event.before.instances !== instances) continue;
      (isOther ? certain : uncertain).add(lrpProcessGuid.slice(0, PROCESS_GUID_LENGTH));
    }
    for (const guid of certain) uncertain.delete(guid);
    if (certain.size > 0) this.#options.onHint({ processGuids: [...certain], isCertain: true });
    if (uncertain.size > 0) this.#options.onHint({ processGuids: [...uncertain], isCertain: false });
  }

  #apply(event: DesiredEvent): ReadonlySet<string> {
    if (event.kind === "removed") return this.#routes.remove(event.lrp.processGuid);
    const info = this.#noted(routingInfoOf(event.lrp));
    return info ? this.#routes.put(info) : new Set();
  }

  #want(place: string): Want {
    const route = this.#isWanted === true && !this.#known.has(place) ? this.#routes.route(place) : undefined;
    return { key: KEY_SPACE + routeGuid(place), value: route && encodeRoute(route) };
  }

  *#wants(): Generator<Want> {
    for (const place of this.#routes.places()) {
      const want = this.#want(place);
      if (want.value) yield want;
    }
  }

  /** Tells of what could not be read. */
  #noted(info: RoutingInfo | undefined): RoutingInfo | undefined {
    for (const problem of info?.problems ?? []) {
      this.#report(`${info?.processGuid ?? ""}: ${problem}`, "a route of a desired LRP can't be read: passed over");
    }
    return info;
  }

  #reportFollowing(connection: BbsConnection): void {
    connection.isGood = true;
    if (this.#platformFault !== undefined || this.#lastSyncMs === undefined) {
      this.#logger.info({ url: connection.url }, "following what Diego is told to run");
    }
    this.#platformFault = undefined;
    this.#lastSyncMs = this.#clock.now();
  }

  #reportFault({ code, message }: MeshError): void {
    const isTold = this.#platformFault !== undefined;
    this.#platformFault = message;
    if (!isTold) this.#logger.warn({ code }, message);
  }

  #reportWrite(fault: Error | undefined): void {
    const isTold = this.#logFault !== undefined;
    this.#logFault = fault?.message;
    if (fault && !isTold) this.#logger.warn({}, fault.message);
    if (!fault) this.#logger.info({}, "Diego's routes are written to the log again");
  }

  #report(subject: string, message: string): void {
    if (this.#reported.has(subject) || this.#reported.size >= MAX_REPORTED) return;
    this.#reported.add(subject);
    this.#logger.warn({ subject }, message);
  }
}

/** So many different complaints are logged, then no more. */
const MAX_REPORTED = 1_000;

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
