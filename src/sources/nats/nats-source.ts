/** NATS as a source: one entry per endpoint and URI that router.register messages name, as Gorouter would route them. */
import { hash } from "node:crypto";
import { errors, type Msg, type NatsConnection } from "@nats-io/transport-node";
import { Backoff } from "../../lib/backoff.js";
import { type Clock, systemClock } from "../../lib/clock.js";
import { asError, MeshError } from "../../lib/errors.js";
import { isIpAddress } from "../../lib/ip-address.js";
import type { Logger } from "../../lib/logger.js";
import type { KeySpaceWriter } from "../../log/key-space-writer.js";
import type { LogEntry } from "../../log/log.js";
import { Refusals } from "../refusals.js";
import type { Source, SourceStatus } from "../source.js";
import { connectNats, type NatsAccess, type NatsEndpoint, natsEndpoints } from "./connection.js";
import { connectionLost, natsFault } from "./faults.js";
import { BadMessage, parseRegistryMessage } from "./message.js";
import { RegistrationWriter } from "./registration-writer.js";
import { Registrations } from "./registrations.js";

const REGISTER = "router.register";
const UNREGISTER = "router.unregister";
const GREET = "router.greet";
const START = "router.start";

const RETRY_INITIAL_MS = 100;
const RETRY_MAX_MS = 5_000;
/** A connection that broke sooner does not count as a success: its retries go on slowing down. */
const STABLE_MS = 10_000;
/** A look for stale endpoints that comes later than this was held up: by a server that hung, or by a suspended machine. */
const LATE_MS = 5_000;
const MS_PER_SECOND = 1_000;
/** Within so many intervals everybody has registered again, those included that missed router.start. */
const COMPLETE_AFTER_INTERVALS = 1.5;

export interface NatsSourceOptions extends Omit<NatsAccess, "clientName" | "pingIntervalMs"> {
  /** Sent with router.start and greetings, and shown in the server's monitoring. */
  readonly nodeId: string;
  /** Sent with router.start and greetings: where this router can be reached. */
  readonly hosts: readonly string[];
  /** How long an endpoint without TLS stands that is not registered again; 120 s when not said. Messages may ask for less. */
  readonly staleThresholdMs?: number;
  /** Pause between looks for such endpoints; 30 s when not said. */
  readonly pruneIntervalMs?: number;
  /** How often publishers are asked to register again; 20 s when not said. */
  readonly registerIntervalMs?: number;
  /** Pause between pings; after two without an answer the connection counts as lost. 10 s when not said. */
  readonly pingIntervalMs?: number;
  /** Endpoints of URIs that are taken at most; 1,000,000 when not said. */
  readonly maxRegistrations?: number;
  /** The entries of the key space as an earlier run left them. */
  readonly readStored: () => AsyncIterable<readonly LogEntry[]>;
  readonly logger: Logger;
  readonly clock?: Clock;
}

/** Since the source was made. */
export interface NatsCounts {
  /** Connections that a server took. */
  readonly connections: number;
  /** router.register messages, those included that were refused. */
  readonly registerMessages: number;
  readonly unregisterMessages: number;
  /** Of the register messages: those that came again byte by byte, and changed nothing. */
  readonly refreshes: number;
  readonly greetings: number;
  /** Messages that could not be taken at all. */
  readonly refusedMessages: number;
  /** URIs of other messages that are no host and path. */
  readonly refusedUris: number;
  /** Endpoints of URIs that were not taken, because something newer stands. */
  readonly outdated: number;
  /** Endpoints of URIs that were not taken, because there are too many. */
  readonly surplus: number;
  /** Endpoints of URIs that were not registered again in time. */
  readonly pruned: number;
  /** Endpoints of URIs that are known now. */
  readonly registrations: number;
}

export interface NatsSource extends Source {
  readonly counts: NatsCounts;
}

/**
 * Registrations as Gorouter takes them; `Registrations` tells the rules, `parseRegistryMessage` the messages.
 *
 * Each connection begins with router.start, so that publishers register anew at once. While there is none, nothing is
 * removed; when there is one again, everything counts as just seen. The key space is said to be complete when a connection
 * has lasted for one and a half times the interval of registrations, and there were some.
 *
 * Throws   MESH_CONFIG_INVALID for certificates that can never work.
 * Source   cloudfoundry/gorouter, mbus/subscriber.go and registry/registry.go.
 */
export function natsSource(options: NatsSourceOptions): NatsSource {
  const { nodeId, pingIntervalMs = 10_000 } = options;
  return new RegistrationSource(natsEndpoints({ ...options, clientName: nodeId, pingIntervalMs }), options);
}

class RegistrationSource implements NatsSource {
  readonly name = "nats";
  readonly #endpoints: readonly NatsEndpoint[];
  readonly #pruneIntervalMs: number;
  readonly #completeAfterMs: number;
  readonly #readStored: NatsSourceOptions["readStored"];
  readonly #logger: Logger;
  readonly #clock: Clock;
  /** What router.start and the answer to a greeting say. */
  readonly #start: string;
  readonly #refusals: Refusals;
  readonly #registrations: Registrations;
  readonly #counts = {
    connections: 0,
    registerMessages: 0,
    unregisterMessages: 0,
    refreshes: 0,
    greetings: 0,
    refusedMessages: 0,
    refusedUris: 0,
    outdated: 0,
    surplus: 0,
    pruned: 0,
  };
  #writer: RegistrationWriter | undefined;
  #lastSyncMs: number | undefined;
  #platformFault: string | undefined;
  #logFault: string | undefined;
  /** Faults logged since the source last followed: each is logged once. */
  readonly #loggedFaults = new Set<string>();

  constructor(endpoints: readonly NatsEndpoint[], options: NatsSourceOptions) {
    const { staleThresholdMs = 120_000, registerIntervalMs = 20_000, maxRegistrations = 1_000_000 } = options;
    this.#endpoints = endpoints;
    this.#pruneIntervalMs = options.pruneIntervalMs ?? 30_000;
    this.#completeAfterMs = COMPLETE_AFTER_INTERVALS * registerIntervalMs;
    this.#readStored = options.readStored;
    this.#logger = options.logger;
    this.#clock = options.clock ?? systemClock;
    this.#refusals = new Refusals("a registration over NATS", this.#logger, this.#clock);
    this.#start = JSON.stringify({
      id: options.nodeId,
      hosts: options.hosts,
      minimumRegisterIntervalInSeconds: Math.ceil(registerIntervalMs / MS_PER_SECOND),
      pruneThresholdInSeconds: Math.ceil(staleThresholdMs / MS_PER_SECOND),
    });
    this.#registrations = new Registrations({
      staleThresholdMs,
      maxCount: maxRegistrations,
      onWant: (want) => this.#writer?.want(want),
    });
  }

  get status(): SourceStatus {
    const lastError = this.#platformFault ?? this.#logFault;
    const healthy = this.#lastSyncMs === undefined ? "starting" : "following";
    const { registerMessages: registered, unregisterMessages: unregistered, pruned, surplus: dropped } = this.#counts;
    const waiting = this.#writer?.waitingCount ?? 0;
    const refused = this.#counts.refusedMessages;
    return {
      state: lastError === undefined ? healthy : "retrying",
      lastSyncMs: this.#lastSyncMs,
      lastError,
      messages: { registered, unregistered, pruned, waiting, dropped, refused },
    };
  }

  get counts(): NatsCounts {
    return { ...this.#counts, registrations: this.#registrations.count };
  }

  async run(writer: KeySpaceWriter, signal: AbortSignal): Promise<void> {
    const registrationWriter = new RegistrationWriter(writer, this.#clock, signal, (fault) => this.#reportWrite(fault));
    this.#writer = registrationWriter;
    for await (const entries of this.#readStored()) {
      for (const { key, value } of entries) if (value) this.#registrations.takeOver(key, value, this.#clock.now());
    }
    const backoff = new Backoff(RETRY_INITIAL_MS, RETRY_MAX_MS);
    for (let attempt = 0; !signal.aborted; attempt += 1) {
      const endpoint = this.#endpoints[attempt % this.#endpoints.length];
      if (endpoint === undefined) throw new Error("a NATS source without a server");
      const startedMs = this.#clock.now();
      const connections = this.#counts.connections;
      try {
        await this.#follow(endpoint, signal);
      } catch (thrown) {
        if (!(thrown instanceof MeshError)) throw thrown;
        this.#reportFault(thrown, signal);
        const wasStable = this.#counts.connections > connections && this.#clock.now() - startedMs >= STABLE_MS;
        if (wasStable) backoff.reset();
        // After a connection that was worth something, and with other servers to try, there is nothing to wait for.
        else if ((attempt + 1) % this.#endpoints.length === 0) await this.#clock.sleep(backoff.next(), signal);
      }
    }
    await registrationWriter.finish();
  }

  /** Follows one server until the signal aborts. Throws MESH_SOURCE_* when it can't be followed any longer. */
  async #follow(endpoint: NatsEndpoint, signal: AbortSignal): Promise<void> {
    const connection = await connectNats(endpoint, signal);
    const ending = new AbortController();
    const either = AbortSignal.any([signal, ending.signal]);
    this.#counts.connections += 1;
    const parts = [
      this.#takeMessages(endpoint, connection, either),
      this.#watch(endpoint, connection),
      this.#prunePeriodically(endpoint, connection, either),
    ];
    try {
      await Promise.race(parts);
    } finally {
      ending.abort();
      await connection.close();
      await Promise.allSettled(parts);
    }
  }

  /** Subscribes, asks everybody to register, and takes what comes, until the signal aborts. */
  async #takeMessages(endpoint: NatsEndpoint, connection: NatsConnection, signal: AbortSignal): Promise<void> {
    const { url } = endpoint;
    this.#registrations.freshen(this.#clock.now());
    const failed = this.#subscribe(endpoint, connection);
    connection.publish(START, this.#start);
    // The server has taken all of it by then, or said why not.
    await Promise.race([failed, flush(url, connection)]);
    this.#reportFollowing(url);
    const aborted = new Promise<void>((resolve) => {
      signal.addEventListener("abort", () => resolve(), { once: true });
      if (signal.aborted) resolve();
    });
    await Promise.race([failed, aborted]);
  }

  /** Never resolves; rejects when a subscription is refused, or a message can't be handled. */
  #subscribe({ url }: NatsEndpoint, connection: NatsConnection): Promise<never> {
    return new Promise<never>((_, reject) => {
      const subscribe = (subject: string, take: (message: Msg) => void) =>
        connection.subscribe(subject, {
          callback: (error, message) => {
            try {
              if (error) throw natsFault(url, `subscribing to ${subject}`, error);
              take(message);
            } catch (thrown) {
              // The library must not see it: it would stop reading, and say nothing.
              reject(asError(thrown));
            }
          },
        });
      subscribe(REGISTER, ({ data }) => this.#register(data));
      subscribe(UNREGISTER, ({ data }) => this.#unregister(data));
      subscribe(GREET, (message) => {
        this.#counts.greetings += 1;
        message.respond(this.#start);
      });
    });
  }

  #register(data: Uint8Array): void {
    this.#counts.registerMessages += 1;
    const nowMs = this.#clock.now();
    this.#lastSyncMs = nowMs;
    const digest = hash("sha256", data, "base64");
    if (this.#registrations.refresh(digest, nowMs)) {
      this.#counts.refreshes += 1;
      return;
    }
    const message = this.#parse(REGISTER, data);
    if (!message) return;
    const { address } = message.endpoint;
    if (!isIpAddress(address)) {
      this.#refusals.refuse(
        REGISTER,
        `host: ${address} is a name; it is kept, but routers dial nothing but IP addresses`,
      );
    }
    const { outdated, surplus } = this.#registrations.register(message, digest, nowMs);
    this.#counts.outdated += outdated;
    this.#counts.surplus += surplus;
    if (surplus > 0) this.#refusals.refuse(REGISTER, "there are too many registrations already: nats.maxRegistrations");
  }

  #unregister(data: Uint8Array): void {
    this.#counts.unregisterMessages += 1;
    this.#lastSyncMs = this.#clock.now();
    const message = this.#parse(UNREGISTER, data);
    if (message) this.#registrations.unregister(message);
  }

  #parse(subject: string, data: Uint8Array) {
    try {
      const message = parseRegistryMessage(data);
      this.#counts.refusedUris += message.badUris.length;
      const [bad] = message.badUris;
      if (bad !== undefined) this.#refusals.refuse(subject, `uris: ${JSON.stringify(bad)} is no host and path`);
      const [problem] = message.problems;
      if (problem !== undefined) this.#refusals.refuse(subject, `options.${problem}`);
      return message;
    } catch (thrown) {
      if (!(thrown instanceof BadMessage)) throw thrown;
      this.#counts.refusedMessages += 1;
      this.#refusals.refuse(subject, thrown.message);
      return undefined;
    }
  }

  /** Ends with the connection: throws why. */
  async #watch({ url }: NatsEndpoint, connection: NatsConnection): Promise<void> {
    const reported = (async () => {
      for await (const status of connection.status()) {
        if (status.type !== "error" || !(status.error instanceof errors.PermissionViolationError)) continue;
        // Registrations still come by themselves, only later. A subscription that is refused ends the connection.
        if (status.error.operation === "publish")
          this.#logFaultOnce(natsFault(url, "publishing", status.error).message);
      }
    })();
    const reason = await connection.closed();
    await reported;
    throw connectionLost(url, reason instanceof Error ? reason : undefined);
  }

  /** Looks for what was not registered again, each time after the server has shown that it still speaks to us. */
  async #prunePeriodically({ url }: NatsEndpoint, connection: NatsConnection, signal: AbortSignal): Promise<void> {
    let lookedMs = this.#clock.now();
    let listeningSinceMs = lookedMs;
    for (;;) {
      await this.#clock.sleep(this.#pruneIntervalMs, signal);
      if (signal.aborted) return;
      // What was published before was taken by then.
      await flush(url, connection);
      const nowMs = this.#clock.now();
      this.#lastSyncMs = nowMs;
      if (nowMs - lookedMs > this.#pruneIntervalMs + LATE_MS) {
        this.#registrations.freshen(nowMs);
        listeningSinceMs = nowMs;
      } else this.#prune(nowMs);
      // Silence of all is a fault of the platform's: nothing is known to be complete by it.
      if (nowMs - listeningSinceMs >= this.#completeAfterMs && this.#registrations.isHeard) this.#writer?.complete();
      lookedMs = nowMs;
    }
  }

  #prune(nowMs: number): void {
    const pruned = this.#registrations.prune(nowMs);
    this.#counts.pruned += pruned;
    if (pruned > 0) this.#logger.info({ pruned }, "registrations that were not renewed in time are removed");
  }

  #reportFollowing(url: string): void {
    const { registrations } = this.counts;
    this.#logger.info({ url, registrations }, "following registrations over NATS");
    this.#lastSyncMs = this.#clock.now();
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
    else this.#logger.info({}, "registrations are written to the log again");
  }

  #logFaultOnce(message: string): void {
    if (this.#loggedFaults.has(message)) return;
    this.#loggedFaults.add(message);
    this.#logger.warn({ source: this.name }, message);
  }
}

/** Resolves when the server has taken all that was sent to it. Throws MESH_SOURCE_UNREACHABLE when the connection ends. */
async function flush(url: string, connection: NatsConnection): Promise<void> {
  try {
    await connection.flush();
  } catch (thrown) {
    throw connectionLost(url, asError(thrown));
  }
}
