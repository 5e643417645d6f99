/** Diego's BBS as a source: one entry per process, with the instances that take its requests. */
import { decodeProcess } from "../../entries/entries.js";
import { Backoff } from "../../lib/backoff.js";
import { type Clock, systemClock } from "../../lib/clock.js";
import { MeshError } from "../../lib/errors.js";
import type { Logger } from "../../lib/logger.js";
import type { KeySpaceWriter } from "../../log/key-space-writer.js";
import type { LogEntry } from "../../log/log.js";
import type { Source, SourceStatus } from "../source.js";
import { BbsClient } from "./bbs-client.js";
import { decodeEvent, type Sighting } from "./bbs-events.js";
import { APPS_DOMAIN } from "./description.js";
import { type BbsEndpoint, bbsEndpoints } from "./endpoint.js";
import { EntryPublisher } from "./entry-publisher.js";
import { type EventStream, openEventStream } from "./event-stream.js";
import { streamDeaf } from "./faults.js";
import { Instances } from "./instances.js";
import type { SseFrame } from "./sse.js";

const RETRY_INITIAL_MS = 100;
const RETRY_MAX_MS = 5_000;
/** A connection that broke sooner does not count as a success: its retries go on slowing down. */
const STABLE_MS = 10_000;
/** At most so often is a list read because events were broken. */
const REPAIR_PAUSE_MS = 1_000;

export interface DiegoSourceOptions {
  /** https:// URLs of the BBS. One of several is active: when one fails, the next is tried. */
  readonly urls: readonly string[];
  /** PEM texts: the CA that issued the BBS's certificate; the client certificate and its key. */
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
  /** Pause between full reads, 30 s when not said. */
  readonly resyncIntervalMs?: number;
  /** How long the BBS may be silent before it is asked whether it is there, and may take to answer; 10 s when not said. */
  readonly readTimeoutMs?: number;
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
  return new BbsSource(bbsEndpoints(options.urls, options), options);
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
  readonly #instances = new Instances((sighting) => this.#reportLeftOut(sighting));
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
    const publisher = new EntryPublisher(writer, this.#instances, this.#clock, signal, (fault) => {
      this.#reportWrite(fault);
    });
    const backoff = new Backoff(RETRY_INITIAL_MS, RETRY_MAX_MS);
    for (let attempt = 0; !signal.aborted; attempt += 1) {
      const endpoint = this.#endpoints[attempt % this.#endpoints.length];
      if (endpoint === undefined) throw new Error("a Diego source without an endpoint");
      const startedMs = this.#clock.now();
      const lists = this.#counts.lists;
      try {
        await this.#follow(endpoint, publisher, signal);
      } catch (thrown) {
        if (!(thrown instanceof MeshError)) throw thrown;
        this.#reportFault(thrown, signal);
        const wasStable = this.#counts.lists > lists && this.#clock.now() - startedMs >= STABLE_MS;
        if (wasStable) backoff.reset();
        // The others of the group are tried at once: one of them is active.
        if ((attempt + 1) % this.#endpoints.length === 0) await this.#clock.sleep(backoff.next(), signal);
      }
    }
    await publisher.idle();
  }

  /** Follows one BBS until the signal aborts. Throws MESH_SOURCE_* when it can't be followed any longer. */
  async #follow(endpoint: BbsEndpoint, publisher: EntryPublisher, signal: AbortSignal): Promise<void> {
    const ending = new AbortController();
    const either = AbortSignal.any([signal, ending.signal]);
    const stream = await openEventStream(endpoint, this.#readTimeoutMs, either);
    const client = new BbsClient(endpoint, this.#readTimeoutMs);
    this.#counts.subscriptions += 1;
    const session = new Session(client, stream, publisher, either);
    const parts = [this.#readEvents(session), this.#readLists(session, endpoint.url), this.#watch(session)];
    try {
      await Promise.race(parts);
    } finally {
      ending.abort();
      stream.close();
      client.close();
      await Promise.allSettled(parts);
    }
  }

  async #readEvents(session: Session): Promise<void> {
    for await (const frames of session.stream.frames) {
      session.lastReceivedMs = this.#clock.now();
      session.receivedSinceList ||= frames.length > 0;
      const moved = frames.flatMap((frame) => this.#applyFrame(frame, session) ?? []);
      // Before the first list an entry would hold a part of its instances only.
      if (this.#lastSyncMs !== undefined) session.publisher.publish(moved);
    }
  }

  /** Returns the guid of the process that moved, if one did. */
  #applyFrame(frame: SseFrame, session: Session): string | undefined {
    const event = decodeEvent(frame);
    this.#counts.events += 1;
    switch (event.kind) {
      case "other":
        return undefined;
      case "unknown":
        this.#counts.unknownEvents += 1;
        if (this.#isNews(`event ${frame.event}`)) {
          this.#logger.info(
            { event: frame.event },
            "the BBS sends a type of event that this version does not know: passed over",
          );
        }
        return undefined;
      case "broken":
        this.#counts.brokenEvents += 1;
        this.#logger.warn(
          { event: frame.event, reason: event.reason },
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

  async #readLists(session: Session, url: string): Promise<void> {
    const { signal } = session;
    const backoff = new Backoff(RETRY_INITIAL_MS, RETRY_MAX_MS);
    let isFirst = true;
    let hasRepaired = false;
    while (!signal.aborted) {
      // What a list repaired should have come as an event, or come soon after.
      if (hasRepaired && !session.receivedSinceList) throw streamDeaf(url);
      const isRequested = session.beginList();
      try {
        const movedCount = await this.#readList(session);
        hasRepaired = !isFirst && !isRequested && movedCount > 0;
      } catch (thrown) {
        // With a BBS that answers, the events are worth keeping: only the list is tried again.
        const isAnswer = thrown instanceof MeshError && thrown.code !== "MESH_SOURCE_UNREACHABLE";
        if (isFirst || !isAnswer) throw thrown;
        this.#reportFault(thrown, signal);
        await this.#clock.sleep(backoff.next(), signal);
        continue;
      }
      isFirst = false;
      backoff.reset();
      this.#reportFollowing(url);
      const pauseMs = Math.min(REPAIR_PAUSE_MS, this.#resyncIntervalMs);
      await this.#clock.sleep(pauseMs, signal);
      await this.#clock.sleep(this.#resyncIntervalMs - pauseMs, session.listRequested);
    }
  }

  /** Reads all instances, and publishes what moved. Returns how many processes did. */
  async #readList(session: Session): Promise<number> {
    const { client, publisher, signal } = session;
    // Asked for before the list: a domain that becomes fresh later says nothing about what was listed.
    const isFresh = (await client.freshDomains(signal)).has(APPS_DOMAIN);
    const list = this.#instances.beginList();
    await client.listActualLrps(APPS_DOMAIN, (lrp) => list.take(lrp), signal);
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

  /** The stream has no heartbeat: when it is silent, asks the BBS whether it is there. */
  async #watch(session: Session): Promise<void> {
    const { client, signal } = session;
    let lastSignOfLifeMs = this.#clock.now();
    while (!signal.aborted) {
      lastSignOfLifeMs = Math.max(lastSignOfLifeMs, session.lastReceivedMs);
      const silentMs = this.#clock.now() - lastSignOfLifeMs;
      if (silentMs < this.#readTimeoutMs) {
        await this.#clock.sleep(this.#readTimeoutMs - silentMs, signal);
      } else {
        await client.ping(signal);
        lastSignOfLifeMs = this.#clock.now();
      }
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

  #reportFault({ message }: MeshError, signal: AbortSignal): void {
    // Whatever fails at the end fails because of it.
    if (signal.aborted) return;
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

/** One connection to one BBS. */
class Session {
  readonly client: BbsClient;
  readonly stream: EventStream;
  readonly publisher: EntryPublisher;
  readonly signal: AbortSignal;
  lastReceivedMs = 0;
  receivedSinceList = false;
  #request = new AbortController();

  constructor(client: BbsClient, stream: EventStream, publisher: EntryPublisher, signal: AbortSignal) {
    this.client = client;
    this.stream = stream;
    this.publisher = publisher;
    this.signal = signal;
  }

  /** Aborts when the session ends, or a list is wanted before its time. */
  get listRequested(): AbortSignal {
    return AbortSignal.any([this.signal, this.#request.signal]);
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
