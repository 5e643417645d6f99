/** Diego's BBS as a source: one entry per process, with the instances that take its requests. */
import { decodeProcess, encodeProcess } from "../../entries/entries.js";
import { KEY_SPACES } from "../../entries/keys.js";
import { Backoff } from "../../lib/backoff.js";
import { type Clock, systemClock } from "../../lib/clock.js";
import { MeshError } from "../../lib/errors.js";
import type { Logger } from "../../lib/logger.js";
import type { KeySpaceWriter, Want } from "../../log/key-space-writer.js";
import type { LogEntry } from "../../log/log.js";
import type { Source, SourceStatus } from "../source.js";
import {
  type BbsConnection,
  type BbsConnectionOptions,
  followBbs,
  RETRY_INITIAL_MS,
  RETRY_MAX_MS,
} from "./bbs-follower.js";
import { type BbsEvent, decodeEvent, type Sighting } from "./bbs-events.js";
import { APPS_DOMAIN } from "./description.js";
import { type BbsEndpoint, bbsEndpoints } from "./endpoint.js";
import { Cells } from "./cells.js";
import { EntryPublisher } from "../entry-publisher.js";
import { streamDeaf } from "./faults.js";
import { Instances } from "./instances.js";

/** At most so often is a list read because events were broken. */
const REPAIR_PAUSE_MS = 1_000;

export interface DiegoSourceOptions extends BbsConnectionOptions {
  /** Pause between full reads, 30 s when not said. */
  readonly resyncIntervalMs?: number;
  /**
   * The entries of the key space as an earlier run left them. Read only when the domain is not fresh at the start: then
   * an instance that the list lacks is kept. Left out, a process's entry then holds what the list says.
   */
  readonly readStored?: () => AsyncIterable<readonly LogEntry[]>;
  readonly logger: Logger;
  readonly clock?: Clock;
}

/** Since the source was made. */
export interface DiegoCounts {
  /** Event streams opened. */
  readonly subscriptions: number;
  /** Complete lists read. */
  readonly lists: number;
  /** Processes that a list corrected, the first list left out: events that were missed. */
  readonly repairedProcesses: number;
  readonly events: number;
  /** Events of types that this version does not know. */
  readonly unknownEvents: number;
  /** Events that could not be decoded. */
  readonly brokenEvents: number;
  /** Instances known now, those included that take no requests. */
  readonly instances: number;
}

export interface DiegoSource extends Source {
  readonly counts: DiegoCounts;
}

/** Throws MESH_CONFIG_INVALID for URLs and certificates that can never work. */
export function diegoSource(options: DiegoSourceOptions): DiegoSource {
  return new BbsSource(bbsEndpoints(options.urls, options.credentials), options);
}

class BbsSource implements DiegoSource {
  readonly name = "diego";
  readonly #endpoints: readonly BbsEndpoint[];
  readonly #resyncIntervalMs: number;
  readonly #readTimeoutMs: number;
  readonly #readStored: DiegoSourceOptions["readStored"];
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #counts = {
    subscriptions: 0,
    lists: 0,
    repairedProcesses: 0,
    events: 0,
    unknownEvents: 0,
    brokenEvents: 0,
  };
  /** What was said once already. */
  readonly #reported = new Set<string>();
  readonly #cells: Cells;
  readonly #instances: Instances;
  #lastSyncMs: number | undefined;
  #platformFault: string | undefined;
  #logFault: string | undefined;
  /** Faults logged since the source last followed: each is logged once. */
  readonly #loggedFaults = new Set<string>();
  /** True once a list was read whose domain was fresh: entries of processes that it lacks are nobody's. */
  #ownsAllEntries = false;

  constructor(endpoints: readonly BbsEndpoint[], options: DiegoSourceOptions) {
    this.#endpoints = endpoints;
    this.#resyncIntervalMs = options.resyncIntervalMs ?? 30_000;
    this.#readTimeoutMs = options.readTimeoutMs ?? 10_000;
    this.#readStored = options.readStored;
    this.#logger = options.logger;
    this.#clock = options.clock ?? systemClock;
    this.#cells = new Cells(this.#logger);
    this.#instances = new Instances(
      (cellId) => this.#cells.isolationSegmentOf(cellId),
      (sighting) => this.#reportLeftOut(sighting),
    );
  }

  get status(): SourceStatus {
    const lastError = this.#platformFault ?? this.#logFault;
    const healthy = this.#lastSyncMs === undefined ? "starting" : "following";
    return { state: lastError === undefined ? healthy : "retrying", lastSyncMs: this.#lastSyncMs, lastError };
  }

  get counts(): DiegoCounts {
    return { ...this.#counts, instances: this.#instances.instanceCount };
  }

  async run(writer: KeySpaceWriter, signal: AbortSignal): Promise<void> {
    const entries = { want: (guid: string) => this.#want(guid), wants: () => this.#wants() };
    const publisher = new EntryPublisher(writer, entries, this.#clock, signal, (fault) => {
      this.#reportWrite(fault);
    });
    await followBbs(
      {
        endpoints: this.#endpoints,
        readTimeoutMs: this.#readTimeoutMs,
        clock: this.#clock,
        onFault: (fault) => this.#reportFault(fault),
      },
      (connection) => {
        this.#counts.subscriptions += 1;
        const session = new Session(connection);
        return [this.#readEvents(session, publisher), this.#readLists(session, publisher)];
      },
      signal,
    );
    await publisher.idle();
  }

  #want(processGuid: string): Want {
    const entry = this.#instances.entry(processGuid);
    return { key: KEY_SPACES.diegoProcesses + processGuid, value: entry && encodeProcess(entry) };
  }

  *#wants(): Generator<Want> {
    for (const guid of this.#instances.processGuids()) {
      const want = this.#want(guid);
      if (want.value) yield want;
    }
  }

  async #readEvents(session: Session, publisher: EntryPublisher): Promise<void> {
    const { client, signal } = session.connection;
    for await (const frames of session.connection.frames()) {
      session.receivedSinceList ||= frames.length > 0;
      const events = frames.map((frame) => ({ name: frame.event, event: decodeEvent(frame) }));
      const cellIds = events.map(({ event }) =>
        event.kind === "seen" ? (event.sighting.instanceKey?.cellId ?? "") : "",
      );
      if (await this.#cells.learn(cellIds, client, signal)) this.#instances.forgetFingerprints();
      const moved = events.flatMap(({ name, event }) => this.#applyEvent(name, event, session) ?? []);
      // Before the first list an entry would hold a part of its instances only.
      if (this.#lastSyncMs !== undefined) publisher.publish(moved);
    }
  }

  /** Returns the guid of the process that moved, if one did. */
  #applyEvent(name: string, event: BbsEvent, session: Session): string | undefined {
    this.#counts.events += 1;
    switch (event.kind) {
      case "other":
        return undefined;
      case "unknown":
        this.#counts.unknownEvents += 1;
        if (this.#isNews(`event ${name}`)) {
          this.#logger.info(
            { event: name },
            "the BBS sends a type of event that this version does not know: passed over",
          );
        }
        return undefined;
      case "broken":
        this.#counts.brokenEvents += 1;
        this.#logger.warn(
          { event: name, reason: event.reason },
          "an event of the BBS could not be decoded: reading all instances instead",
        );
        session.requestList();
        return undefined;
      case "seen":
      case "removed":
      case "crashed":
        return this.#instances.apply(event);
    }
  }

  async #readLists(session: Session, publisher: EntryPublisher): Promise<void> {
    const { connection } = session;
    const { signal, url } = connection;
    const backoff = new Backoff(RETRY_INITIAL_MS, RETRY_MAX_MS);
    let isFirst = true;
    let hasRepaired = false;
    while (!signal.aborted) {
      // What a list repaired should have come as an event, or come soon after.
      if (hasRepaired && !session.receivedSinceList) throw streamDeaf(url);
      const isRequested = session.beginList();
      try {
        const movedCount = await this.#readList(connection, publisher);
        hasRepaired = !isFirst && !isRequested && movedCount > 0;
      } catch (thrown) {
        // With a BBS that answers, the events are worth keeping: only the list is tried again.
        const isAnswer = thrown instanceof MeshError && thrown.code !== "MESH_SOURCE_UNREACHABLE";
        if (isFirst || !isAnswer) throw thrown;
        this.#reportFault(thrown);
        await this.#clock.sleep(backoff.next(), signal);
        continue;
      }
      isFirst = false;
      connection.isGood = true;
      backoff.reset();
      this.#reportFollowing(url);
      const pauseMs = Math.min(REPAIR_PAUSE_MS, this.#resyncIntervalMs);
      await this.#clock.sleep(pauseMs, signal);
      await this.#clock.sleep(this.#resyncIntervalMs - pauseMs, session.listRequested);
    }
  }

  /** Reads all instances, and publishes what moved. Returns how many processes did. */
  async #readList({ client, signal }: BbsConnection, publisher: EntryPublisher): Promise<number> {
    // Asked for before the list: a domain that becomes fresh later says nothing about what was listed.
    const isFresh = (await client.freshDomains(signal)).has(APPS_DOMAIN);
    if (await this.#cells.read(client, signal)) this.#instances.forgetFingerprints();
    const list = this.#instances.beginList();
    await client.listActualLrps(
      APPS_DOMAIN,
      ({ fingerprint, decode }) => {
        if (!list.isUnchanged(fingerprint)) list.take(decode(), fingerprint);
      },
      signal,
    );
    const isFirstOfAll = this.#lastSyncMs === undefined;
    if (isFirstOfAll && !isFresh) await this.#recallStored();
    const moved = list.finish(isFresh);
    this.#counts.lists += 1;
    this.#lastSyncMs = this.#clock.now();
    if (isFresh && !this.#ownsAllEntries) {
      this.#ownsAllEntries = true;
      publisher.publishAll();
    } else {
      publisher.publish(isFirstOfAll ? this.#instances.processGuids() : moved);
    }
    if (isFirstOfAll) return 0;
    this.#counts.repairedProcesses += moved.size;
    return moved.size;
  }

  async #recallStored(): Promise<void> {
    if (this.#readStored === undefined) return;
    for await (const entries of this.#readStored()) {
      for (const { value } of entries) if (value) this.#instances.recall(decodeProcess(value));
    }
  }

  #reportFollowing(url: string): void {
    if (this.#platformFault !== undefined || this.#counts.lists === 1) {
      const { instances } = this.counts;
      this.#logger.info({ url, instances }, "following Diego's instances");
    }
    this.#platformFault = undefined;
    this.#loggedFaults.clear();
  }

  #reportFault({ message }: MeshError): void {
    this.#platformFault = message;
    this.#logFaultOnce(message);
  }

  #reportWrite(fault: Error | undefined): void {
    this.#logFault = fault?.message;
    if (fault) this.#logFaultOnce(fault.message);
    else this.#logger.info({}, "Diego's instances are written to the log again");
  }

  #logFaultOnce(message: string): void {
    if (this.#loggedFaults.has(message)) return;
    this.#loggedFaults.add(message);
    this.#logger.warn({ source: this.name }, message);
  }

  #reportLeftOut({ key }: Sighting): void {
    const isOther = key?.domain !== APPS_DOMAIN;
    if (!this.#isNews(isOther ? `domain ${key?.domain ?? ""}` : "process guid")) return;
    this.#logger.debug(
      { domain: key?.domain, lrpProcessGuid: key?.processGuid },
      isOther
        ? "actual LRPs of this domain are none of an app's: left out"
        : "an actual LRP's process guid is not Cloud Controller's process guid and version: left out",
    );
  }

  #isNews(subject: string): boolean {
    if (this.#reported.has(subject)) return false;
    this.#reported.add(subject);
    return true;
  }
}

/** One connection to one BBS, and when to read a list over it. */
class Session {
  readonly connection: BbsConnection;
  receivedSinceList = false;
  #request = new AbortController();

  constructor(connection: BbsConnection) {
    this.connection = connection;
  }

  /** Aborts when the session ends, or a list is wanted before its time. */
  get listRequested(): AbortSignal {
    return AbortSignal.any([this.connection.signal, this.#request.signal]);
  }

  requestList(): void {
    this.#request.abort();
  }

  /** Returns whether the list that begins was requested. */
  beginList(): boolean {
    const isRequested = this.#request.signal.aborted;
    this.#request = new AbortController();
    this.receivedSinceList = false;
    return isRequested;
  }
}
