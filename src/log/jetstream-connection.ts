import { jetstreamManager, type JetStreamManager } from "@nats-io/jetstream";
import { connect, errors, type NatsConnection, type NodeConnectionOptions } from "@nats-io/transport-node";
import { asError } from "../lib/errors.js";
import type { Logger } from "../lib/logger.js";
import { natsTooOld, natsUnreachable, rightsMissing, streamLogClosed } from "./jetstream-faults.js";

export interface LogCredentials {
  /** PEM texts. {}: TLS with the system's CAs; left out: as the server wants it. */
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string };
  readonly password?: string;
  readonly token?: string;
}

export interface NatsOptions {
  /** As in "nats://10.0.0.1:4222"; any of them will do, and another is taken when one fails. */
  readonly servers: readonly string[];
  readonly user?: string | undefined;
  /** Asked at each connection, so that new ones need no restart; none when left out. */
  readonly credentials?: () => LogCredentials;
}

export interface Connected {
  readonly nats: NatsConnection;
  readonly manager: JetStreamManager;
}

const CONNECT_TIMEOUT_MS = 2_000;
/** How long an answer may take: longer than a healthy cluster ever needs, shorter than a lease should be unsure. */
export const REQUEST_TIMEOUT_MS = 2_000;
const PING_INTERVAL_MS = 1_000;
const MAX_PINGS_OUT = 2;

/** Atomic batches came with 2.12. */
const LEAST_VERSION = [2, 12] as const;

/**
 * One connection at a time, made when it is needed. It is never mended, but replaced: the client's own reconnecting
 * would send what was written before the break, when nobody waits for it any more.
 */
export class NatsConnector {
  readonly #stream: string;
  readonly #options: NatsOptions;
  readonly #logger: Logger;
  #current: Promise<Connected> | undefined;
  #isClosed = false;

  constructor(stream: string, options: NatsOptions, logger: Logger) {
    this.#stream = stream;
    this.#options = options;
    this.#logger = logger;
  }

  /** Throws MESH_LOG_UNAVAILABLE. */
  async connected(): Promise<Connected> {
    if (this.#isClosed) throw streamLogClosed(this.#stream);
    const current = this.#current;
    if (current) {
      const { nats } = await current;
      if (!nats.isClosed()) return current;
      if (this.#current === current) this.#current = undefined;
    }
    this.#current ??= this.#connect();
    return this.#current;
  }

  async #connect(): Promise<Connected> {
    try {
      return await this.#open();
    } catch (error) {
      this.#current = undefined;
      throw error;
    }
  }

  async #open(): Promise<Connected> {
    const { servers, user, credentials } = this.#options;
    const { tls, password, token } = credentials?.() ?? {};
    const options: NodeConnectionOptions = {
      servers: [...servers],
      name: `cf-mesh log ${this.#stream}`,
      reconnect: false,
      timeout: CONNECT_TIMEOUT_MS,
      pingInterval: PING_INTERVAL_MS,
      maxPingOut: MAX_PINGS_OUT,
      noAsyncTraces: true,
      ...(tls && { tls: { ...tls } }),
      ...(user !== undefined && { user }),
      ...(password !== undefined && { pass: password }),
      ...(token !== undefined && { token }),
    };
    const nats = await connect(options).catch((error: unknown) => {
      throw natsUnreachable(this.#stream, servers, asError(error));
    });
    const server = nats.getServer();
    const version = nats.info?.version ?? "0.0";
    if (this.#isClosed || isOlder(version)) {
      await nats.close();
      throw this.#isClosed ? streamLogClosed(this.#stream) : natsTooOld(this.#stream, server, version);
    }
    this.#logger.info({ stream: this.#stream, server, version }, "connected to NATS for the mesh log");
    void nats.closed().then((reason) => {
      if (this.#isClosed) return;
      const why = reason instanceof Error ? reason.message : "no answer";
      this.#logger.warn({ stream: this.#stream, server, reason: why }, "the connection to NATS is gone");
    });
    void this.#tellRefusals(nats);
    const manager = await jetstreamManager(nats, { checkAPI: false, timeout: REQUEST_TIMEOUT_MS });
    return { nats, manager };
  }

  /** A refused request looks like one that is never answered, so the reason is logged; once for each subject. */
  async #tellRefusals(nats: NatsConnection): Promise<void> {
    const told = new Set<string>();
    for await (const status of nats.status()) {
      if (status.type !== "error" || !(status.error instanceof errors.PermissionViolationError)) continue;
      if (told.has(status.error.subject)) continue;
      told.add(status.error.subject);
      this.#logger.error({ stream: this.#stream }, rightsMissing(this.#stream, status.error).message);
    }
  }

  /** For a server that does not answer: the next who asks gets another connection. */
  drop({ nats }: Connected): void {
    void nats.close();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const current = await this.#current?.catch(() => undefined);
    await current?.nats.close();
  }
}

function isOlder(version: string): boolean {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const [leastMajor, leastMinor] = LEAST_VERSION;
  return major < leastMajor || (major === leastMajor && minor < leastMinor);
}
