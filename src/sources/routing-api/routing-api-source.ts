/** The routing API as a source: one entry per HTTP route of it, which is one endpoint of one host and path. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { KEY_SPACES } from "../../entries/keys.js";
import { Backoff } from "../../lib/backoff.js";
import { type Clock, systemClock } from "../../lib/clock.js";
import { MeshError } from "../../lib/errors.js";
import { followed, type Followed } from "../../lib/followed-signal.js";
import { isIpAddress } from "../../lib/ip-address.js";
import type { Logger } from "../../lib/logger.js";
import type { KeySpaceWriter, Want } from "../../log/key-space-writer.js";
import type { LogEntry } from "../../log/log.js";
import { Alarm } from "../alarm.js";
import { EntryPublisher } from "../entry-publisher.js";
import { RateLimited } from "../http-faults.js";
import { Refusals } from "../refusals.js";
import type { Source, SourceStatus } from "../source.js";
import type { SseFrame } from "../sse.js";
import { type EventStream, type RoutingApiAccess, RoutingApiClient } from "./api-client.js";
import { nothingReadable, streamDeaf, StreamEnded } from "./faults.js";
import { type ApiRoute, BadRoute, parseRoute } from "./route.js";
import { type Outcome, RouteBook } from "./route-book.js";

const RETRY_INITIAL_MS = 100;
const RETRY_MAX_MS = 5_000;
/** A stream that broke sooner does not count as a success: its retries go on slowing down. */
const STABLE_MS = 10_000;
/** After so many routes of a list, others get their turn. */
const ROUTES_PER_TURN = 1_000;
/** Bad routes of a list that are remembered, so that each is told and counted once. */
const MAX_REFUSALS_REMEMBERED = 10_000;

export interface RoutingApiSourceOptions extends Omit<RoutingApiAccess, "requestTimeoutMs" | "clock"> {
  /** Pause between full lists; 15 s when not said, as Gorouter's. */
  readonly listIntervalMs?: number;
  /** Routes that are taken at most; 100,000 when not said. */
  readonly maxRoutes?: number;
  /** For the head of an answer, and between two pieces of its body; 30 s when not said. */
  readonly requestTimeoutMs?: number;
  /**
   * The entries of the key space as an earlier run left them. Read only when the API can't be read at the start: what was
   * there then is not gone because nobody could say it again.
   */
  readonly readStored: () => AsyncIterable<readonly LogEntry[]>;
  readonly logger: Logger;
  readonly clock?: Clock;
}

/** Since the source was made. */
export interface RoutingApiCounts {
  /** Event streams opened. */
  readonly subscriptions: number;
  /** Complete lists read, and routes that they told of. */
  readonly lists: number;
  readonly listedRoutes: number;
  /** Events that say a route, and that take one back; those included that changed nothing. */
  readonly upserts: number;
  readonly deletes: number;
  /** Events of types that this version does not know. */
  readonly unknownEvents: number;
  /** Routes of lists and events that could not be taken; the same one of several lists counts once. */
  readonly refused: number;
  /** Events that were older than what is known. */
  readonly outdated: number;
  /** Routes that were not taken, because there are too many. */
  readonly surplus: number;
  /** Routes that a list lacked. */
  readonly gone: number;
  /** Routes that are known now. */
  readonly routes: number;
}

export interface RoutingApiSource extends Source {
  readonly counts: RoutingApiCounts;
}

/** The parts of it that fail one without the other. */
type Activity = "list" | "events";

/** What an event says. */
interface Change {
  readonly kind: "upsert" | "delete";
  readonly route: ApiRoute;
}

/**
 * HTTP routes as Gorouter takes them; `RouteBook` tells the rules, `parseRoute` the routes. A full list at the start, at
 * each subscription and every `listIntervalMs`; events in between. Neither waits for the other: where one fails, the other
 * goes on.
 *
 * Source   route_fetcher/route_fetcher.go of cloudfoundry/gorouter, handlers of cloudfoundry/routing-api.
 */
export function routingApiSource(options: RoutingApiSourceOptions): RoutingApiSource {
  return new RouteSource(options);
}

class RouteSource implements RoutingApiSource {
  readonly name = "routing-api";
  readonly #options: RoutingApiSourceOptions;
  readonly #listIntervalMs: number;
  readonly #maxRoutes: number;
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #refusals: Refusals;
  readonly #book: RouteBook;
  readonly #counts = {
    subscriptions: 0,
    lists: 0,
    listedRoutes: 0,
    upserts: 0,
    deletes: 0,
    unknownEvents: 0,
    refused: 0,
    outdated: 0,
    surplus: 0,
    gone: 0,
  };
  /** What came by events since the list began that is under way; undefined while none is. */
  #held: Change[] | undefined;
  /** What was wrong with the latest list's routes. */
  #refusedBefore: ReadonlySet<string> = new Set();
  /** Rings when a list is wanted. */
  readonly #listAlarm: Alarm;
  #session: Session | undefined;
  #publisher: EntryPublisher | undefined;
  #lastSyncMs: number | undefined;
  readonly #faults = new Map<Activity, MeshError>();
  #logFault: string | undefined;
  /** Faults logged since all was well: each is logged once. */
  readonly #loggedFaults = new Set<string>();

  constructor(options: RoutingApiSourceOptions) {
    this.#options = options;
    this.#listIntervalMs = options.listIntervalMs ?? 15_000;
    this.#maxRoutes = options.maxRoutes ?? 100_000;
    this.#logger = options.logger;
    this.#clock = options.clock ?? systemClock;
    this.#refusals = new Refusals("a route of the routing API", this.#logger, this.#clock);
    this.#book = new RouteBook(this.#maxRoutes);
    this.#listAlarm = new Alarm(this.#clock);
  }

  get status(): SourceStatus {
    const [fault] = this.#faults.values();
    const lastError = fault?.message ?? this.#logFault;
    const healthy = this.#lastSyncMs === undefined ? "starting" : "following";
    const { upserts, listedRoutes, deletes, gone, refused, surplus } = this.#counts;
    return {
      state: lastError === undefined ? healthy : "retrying",
      lastSyncMs: this.#lastSyncMs,
      lastError,
      // As Gorouter counts: each list registers all that it has, and unregisters what it lacks.
      messages: {
        registered: upserts + listedRoutes,
        unregistered: deletes + gone,
        pruned: 0,
        waiting: this.#publisher?.waitingCount ?? 0,
        dropped: surplus,
        refused,
      },
    };
  }

  get counts(): RoutingApiCounts {
    return { ...this.#counts, routes: this.#book.count };
  }

  async run(writer: KeySpaceWriter, signal: AbortSignal): Promise<void> {
    const running = followed(signal);
    running.signal.addEventListener("abort", () => this.#listAlarm.wake());
    const entries = { want: (id: string) => this.#want(id), wants: () => this.#wants() };
    const publisher = new EntryPublisher(writer, entries, this.#clock, running.signal, (fault) =>
      this.#reportWrite(fault),
    );
    const { requestTimeoutMs = 30_000 } = this.#options;
    this.#publisher = publisher;
    const client = new RoutingApiClient({ ...this.#options, requestTimeoutMs, clock: this.#clock });
    // Neither goes on when the other meets a broken invariant.
    const end = () => running.abort();
    try {
      await Promise.all([
        this.#readLists(client, publisher, running.signal).finally(end),
        this.#readEvents(client, publisher, running.signal).finally(end),
      ]);
      await publisher.idle();
    } finally {
      running.letGo();
      await client.close();
    }
  }

  #want(id: string): Want {
    return { key: KEY_SPACES.routingApiRegistrations + id, value: this.#book.value(id) };
  }

  *#wants(): Generator<Want> {
    for (const id of this.#book.ids()) yield this.#want(id);
  }

  async #readLists(client: RoutingApiClient, publisher: EntryPublisher, signal: AbortSignal): Promise<void> {
    const backoff = new Backoff(RETRY_INITIAL_MS, RETRY_MAX_MS);
    const isOver = () => signal.aborted;
    while (!isOver()) {
      try {
        await this.#readList(client, publisher, signal);
        backoff.reset();
        this.#reportWorks("list");
        await this.#listAlarm.sleep(this.#listIntervalMs);
      } catch (thrown) {
        if (!(thrown instanceof MeshError)) throw thrown;
        // Whatever fails at the end fails because of it.
        if (isOver()) return;
        this.#book.goesAway();
        this.#reportFault("list", thrown);
        const retryAfterMs = thrown instanceof RateLimited ? thrown.retryAfterMs : 0;
        await this.#clock.sleep(Math.max(backoff.next(), retryAfterMs), signal);
      }
    }
  }

  async #readList(client: RoutingApiClient, publisher: EntryPublisher, signal: AbortSignal): Promise<void> {
    const session = this.#session;
    session?.listBegins();
    const held: Change[] = [];
    this.#held = held;
    try {
      const listed = await client.list(signal);
      if (this.#book.isAway && this.#lastSyncMs === undefined) await this.#recallStored();
      const { moved, hasNews } = await this.#takeList(listed);
      session?.listEnded(hasNews);
      // One that ends as soon as it began is none.
      if (session && session === this.#session) this.#reportWorks("events");
      const isFirst = this.#lastSyncMs === undefined;
      this.#counts.lists += 1;
      this.#lastSyncMs = this.#clock.now();
      // What an earlier run left, and nobody says any more, goes too.
      if (isFirst) publisher.publishAll();
      else publisher.publish(moved);
      if (isFirst) this.#logger.info({ routes: this.#book.count }, "following the HTTP routes of the routing API");
    } finally {
      this.#held = undefined;
      for (const change of held) this.#apply(change, publisher);
    }
  }

  async #takeList(listed: readonly unknown[]) {
    const list = this.#book.beginList();
    const refused = new Set<string>();
    let takenCount = 0;
    let unknownCount = 0;
    for (const [index, json] of listed.entries()) {
      if (index % ROUTES_PER_TURN === ROUTES_PER_TURN - 1) await nextTurn();
      const route = this.#parse("list", json, refused);
      // What is known of a row that can't be read stays.
      if (route instanceof BadRoute) {
        if (route.id === undefined) unknownCount += 1;
        else list.keep(route.id);
        continue;
      }
      takenCount += 1;
      if (list.take(route) === "moved") this.#tellOfName(route);
    }
    this.#refusedBefore = refused;
    const [problem = ""] = refused;
    // Not a list of routes, whatever it is: what is known is not gone by it.
    if (unknownCount > 0 && unknownCount === listed.length) throw nothingReadable(unknownCount, problem);
    this.#counts.listedRoutes += takenCount;
    const outcome = list.finish(this.#clock.now());
    this.#counts.gone += outcome.goneCount;
    this.#countSurplus(outcome.surplusCount);
    if (outcome.keptCount > 0) {
      this.#logger.info(
        { routes: outcome.keptCount },
        "the routing API was away, and lacks routes that nobody could say again meanwhile: they are waited for",
      );
    }
    return outcome;
  }

  async #recallStored(): Promise<void> {
    const { length } = KEY_SPACES.routingApiRegistrations;
    for await (const entries of this.#options.readStored()) {
      for (const { key, value } of entries) if (value) this.#book.recall(key.slice(length), value);
    }
  }

  async #readEvents(client: RoutingApiClient, publisher: EntryPublisher, signal: AbortSignal): Promise<void> {
    const backoff = new Backoff(RETRY_INITIAL_MS, RETRY_MAX_MS);
    const isOver = () => signal.aborted;
    while (!isOver()) {
      const ending = followed(signal);
      const startedMs = this.#clock.now();
      try {
        const stream = await client.subscribe(ending.signal);
        this.#counts.subscriptions += 1;
        this.#session = new Session(stream, ending);
        // What happened before is in a list that is asked for now.
        this.#listAlarm.wake();
        await this.#follow(this.#session, publisher);
      } catch (thrown) {
        const fault = this.#session?.deafness ?? thrown;
        if (!(fault instanceof MeshError)) throw fault;
        if (isOver()) return;
        // Is it away? A list tells.
        if (this.#session) this.#listAlarm.wake();
        const wasStable = this.#session !== undefined && this.#clock.now() - startedMs >= STABLE_MS;
        if (wasStable) backoff.reset();
        if (wasStable && fault instanceof StreamEnded) this.#logger.debug({ source: this.name }, fault.message);
        else this.#reportFault("events", fault);
      } finally {
        this.#session = undefined;
        ending.abort();
        ending.letGo();
      }
      await this.#clock.sleep(backoff.next(), signal);
    }
  }

  async #follow(session: Session, publisher: EntryPublisher): Promise<void> {
    for await (const frames of session.stream.frames) {
      session.isHeard ||= frames.length > 0;
      for (const frame of frames) {
        const change = this.#changeOf(frame);
        if (!change) continue;
        if (!this.#held) this.#apply(change, publisher);
        else if (this.#held.length < this.#maxRoutes) this.#held.push(change);
        // Too many to remember: another list tells.
        else this.#listAlarm.wake();
      }
    }
  }

  #changeOf({ event, data }: SseFrame): Change | undefined {
    if (event === "Upsert") this.#counts.upserts += 1;
    else if (event === "Delete") this.#counts.deletes += 1;
    else {
      this.#counts.unknownEvents += 1;
      this.#refusals.refuse("events", `events of type ${JSON.stringify(event.slice(0, 60))} are not known here`);
      return undefined;
    }
    const route = this.#parse("events", jsonOf(data));
    return route instanceof BadRoute ? undefined : { kind: event === "Upsert" ? "upsert" : "delete", route };
  }

  /** @param refused  takes what is wrong with the routes of a list; an event is told of in any case. */
  #parse(activity: Activity, json: unknown, refused?: Set<string>): ApiRoute | BadRoute {
    try {
      return parseRoute(json);
    } catch (thrown) {
      if (!(thrown instanceof BadRoute)) throw thrown;
      const { message } = thrown;
      if (refused && refused.size < MAX_REFUSALS_REMEMBERED) refused.add(message);
      if (!refused || !this.#refusedBefore.has(message)) {
        this.#counts.refused += 1;
        this.#refusals.refuse(activity, message);
      }
      return thrown;
    }
  }

  #apply({ kind, route }: Change, publisher: EntryPublisher): void {
    const nowMs = this.#clock.now();
    const outcome: Outcome = kind === "upsert" ? this.#book.upsert(route, nowMs) : this.#book.remove(route, nowMs);
    if (outcome === "outdated") this.#counts.outdated += 1;
    if (outcome === "surplus") this.#countSurplus(1);
    if (outcome !== "moved") return;
    if (kind === "upsert") this.#tellOfName(route);
    // Before the first list, what an earlier run left stands.
    if (this.#lastSyncMs !== undefined) publisher.publish([route.id]);
  }

  #tellOfName({ address }: ApiRoute): void {
    if (isIpAddress(address)) return;
    this.#refusals.refuse("routes", `ip: ${address} is a name; it is kept, but routers dial nothing but IP addresses`);
  }

  #countSurplus(count: number): void {
    this.#counts.surplus += count;
    if (count > 0) this.#refusals.refuse("routes", "there are too many routes already: routingApi.maxRoutes");
  }

  #reportWorks(activity: Activity): void {
    if (this.#faults.delete(activity) && this.#faults.size === 0) {
      this.#loggedFaults.clear();
      this.#logger.info({ source: this.name }, "the routing API can be followed again");
    }
  }

  #reportFault(activity: Activity, fault: MeshError): void {
    this.#faults.set(activity, fault);
    this.#logFaultOnce(fault.message);
  }

  #reportWrite(fault: Error | undefined): void {
    this.#logFault = fault?.message;
    if (fault) this.#logFaultOnce(fault.message);
    else this.#logger.info({}, "routes of the routing API are written to the log again");
  }

  #logFaultOnce(message: string): void {
    if (this.#loggedFaults.has(message)) return;
    this.#loggedFaults.add(message);
    this.#logger.warn({ source: this.name }, message);
  }
}

/** One subscription, and whether it can still be believed. */
class Session {
  readonly stream: EventStream;
  readonly #ending: Pick<Followed, "abort">;
  /** A list is under way, or was, whose news the stream has to tell of. */
  #listCount = 0;
  #owesNews = false;
  /** Whether anything came since the latest list began. */
  isHeard = false;
  /** Why it was ended, where it said nothing of what lists told. */
  deafness: MeshError | undefined;

  constructor(stream: EventStream, ending: Pick<Followed, "abort">) {
    this.stream = stream;
    this.#ending = ending;
  }

  /** What the list before told should have come as an event, or come soon after. */
  listBegins(): void {
    if (this.#owesNews && !this.isHeard) {
      this.deafness = streamDeaf(this.stream.server);
      this.#ending.abort();
    }
    this.isHeard = false;
  }

  /** The first list tells of what was before. */
  listEnded(hasNews: boolean): void {
    this.#owesNews = hasNews && this.#listCount > 0;
    this.#listCount += 1;
  }
}

/** undefined for what is no JSON, which is no route. */
function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
