/** Calls to the routing API, with a token of the UAA. */
import { type Agent, request } from "undici";
import type { Clock } from "../../lib/clock.js";
import { asError, MeshError } from "../../lib/errors.js";
import { followed } from "../../lib/followed-signal.js";
import { exchange, type HttpCredentials, openAgent } from "../http.js";
import { malformedAnswer, requestRefused, serverFailed, unreachable } from "../http-faults.js";
import { ProtocolViolation } from "../protocol-violation.js";
import { Servers } from "../servers.js";
import { SseDecoder, type SseFrame } from "../sse.js";
import { TokenSource } from "../uaa.js";
import { READ_ROUTES, REMEDIES, StreamEnded } from "./faults.js";

export interface RoutingApiCredentials extends HttpCredentials {
  readonly clientSecret: string;
}

export interface RoutingApiAccess {
  /** One or more that stand in for each other: when one fails, the next is asked. */
  readonly apiUrls: readonly string[];
  /** Likewise. */
  readonly uaaUrls: readonly string[];
  /** A UAA client with the authority routing.routes.read. */
  readonly clientId: string;
  /** Asked for each token and at each connection, so that new ones need no restart; another object where they changed. */
  readonly credentials: () => RoutingApiCredentials;
  /** For the head of an answer, and between two pieces of its body. */
  readonly requestTimeoutMs: number;
  readonly clock: Clock;
}

export interface EventStream {
  /** For messages. */
  readonly server: string;
  /**
   * Frames as they come; those that arrive together come together. Never ends by itself: throws StreamEnded when the API
   * ends it, MESH_SOURCE_* when the connection breaks, or bytes come that break the protocol.
   */
  readonly frames: AsyncIterable<readonly SseFrame[]>;
}

const LIST_PATH = "/routing/v1/routes";
const EVENTS_PATH = "/routing/v1/events";
/** 100,000 routes have about 30 MB. */
const MAX_LIST_BYTES = 128 * 1024 * 1024;
/** A list that trickles takes no longer than so many times the timeout between its pieces. */
const MAX_LIST_TIMEOUTS = 4;
const MAX_FRAME_BYTES = 256 * 1024;
const MAX_REFUSAL_BYTES = 64 * 1024;
/** Of answers without an end. */
const NO_LIMIT = -1;

/** What an attempt with a token came to. */
type Asked<T> =
  | { readonly value: T }
  | { readonly refusal: { readonly server: string; readonly status: number; readonly detail: string } };

export class RoutingApiClient {
  readonly #servers: Servers;
  readonly #uaa: Servers;
  readonly #tokens: TokenSource;
  readonly #agent: Agent;
  readonly #streamAgent: Agent;
  readonly #requestTimeoutMs: number;

  constructor({ apiUrls, uaaUrls, clientId, credentials, requestTimeoutMs, clock }: RoutingApiAccess) {
    this.#servers = new Servers(apiUrls);
    this.#uaa = new Servers(uaaUrls);
    this.#agent = openAgent({ credentials, requestTimeoutMs, maxAnswerBytes: MAX_LIST_BYTES });
    this.#streamAgent = openAgent({ credentials, requestTimeoutMs, maxAnswerBytes: NO_LIMIT });
    this.#requestTimeoutMs = requestTimeoutMs;
    const client = { clientId, credentials, needs: READ_ROUTES, remedies: REMEDIES };
    this.#tokens = new TokenSource(this.#agent, client, clock);
  }

  /**
   * All HTTP routes, as the API says them.
   *
   * Request  GET /routing/v1/routes. Its answer is a list, or null for none.
   * Throws   as exchange(); MESH_SOURCE_REFUSED when a fresh token is refused too; MESH_SOURCE_MALFORMED for what is no
   *          list.
   */
  async list(signal: AbortSignal): Promise<readonly unknown[]> {
    return this.#withToken(`GET ${LIST_PATH}`, signal, async (apiUrl, authorization) => {
      const server = nameOf(apiUrl);
      const asked = { server, url: new URL(apiUrl + LIST_PATH), headers: { authorization }, remedies: REMEDIES };
      const answer = await this.#inTime(signal, (inTime) => exchange(this.#agent, asked, inTime));
      if (!answer.ok) return { refusal: { server, ...answer } };
      const { body } = answer;
      if (body === null) return { value: [] };
      if (Array.isArray(body)) return { value: body as readonly unknown[] };
      throw malformedAnswer(server, `GET ${LIST_PATH}`, "no list");
    });
  }

  /**
   * Subscribes to changes.
   *
   * Returns  once the API has answered: whatever happens from now on comes as an event.
   * Throws   MESH_SOURCE_*; also when no answer comes in time.
   */
  async subscribe(signal: AbortSignal): Promise<EventStream> {
    return this.#withToken(`GET ${EVENTS_PATH}`, signal, (apiUrl, authorization) =>
      this.#open(apiUrl, authorization, signal),
    );
  }

  async close(): Promise<void> {
    await Promise.all([this.#agent.destroy(), this.#streamAgent.destroy()]);
  }

  async #inTime<T>(signal: AbortSignal, read: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const timeoutMs = MAX_LIST_TIMEOUTS * this.#requestTimeoutMs;
    const inTime = followed(signal);
    const timer = setTimeout(() => inTime.abort(new Error(`it took more than ${timeoutMs} ms`)), timeoutMs);
    try {
      return await read(inTime.signal);
    } finally {
      clearTimeout(timer);
      inTime.letGo();
    }
  }

  async #open(apiUrl: string, authorization: string, signal: AbortSignal): Promise<Asked<EventStream>> {
    const server = nameOf(apiUrl);
    const what = `GET ${EVENTS_PATH}`;
    const answer = await request(apiUrl + EVENTS_PATH, {
      dispatcher: this.#streamAgent,
      headers: { accept: "text/event-stream", authorization },
      // It has no heartbeat: silence says nothing.
      bodyTimeout: 0,
      signal,
    }).catch((thrown: unknown) => {
      throw unreachable(server, what, asError(thrown));
    });
    const { statusCode: status, headers, body } = answer;
    const contentType = String(headers["content-type"] ?? "none");
    if (status === 200 && contentType.startsWith("text/event-stream")) {
      return { value: { server, frames: readFrames(server, body) } };
    }
    await body.dump({ limit: MAX_REFUSAL_BYTES }).catch(() => undefined);
    if (status === 200) throw malformedAnswer(server, what, `its content type is ${contentType}`);
    if (status >= 500) throw serverFailed(server, what, status, "");
    return { refusal: { server, status, detail: "" } };
  }

  /** A token may have been revoked, or its key replaced: a fresh one tells. */
  async #withToken<T>(
    what: string,
    signal: AbortSignal,
    ask: (apiUrl: string, authorization: string) => Promise<Asked<T>>,
  ): Promise<T> {
    for (let isFresh = false; ; isFresh = true) {
      const token = await this.#tokens.token(this.#uaa, signal);
      const asked = await this.#servers.call((apiUrl) => ask(apiUrl, `bearer ${token}`), signal);
      if ("value" in asked) return asked.value;
      const { server, status, detail } = asked.refusal;
      if (status === 401) this.#tokens.refused(token);
      if (status !== 401 || isFresh) throw requestRefused(server, what, status, detail, REMEDIES);
    }
  }
}

async function* readFrames(server: string, body: AsyncIterable<unknown>): AsyncGenerator<readonly SseFrame[]> {
  const events = new SseDecoder(MAX_FRAME_BYTES);
  try {
    for await (const bytes of body) yield events.feed(bytes as Buffer);
  } catch (thrown) {
    if (thrown instanceof MeshError) throw thrown;
    const cause = asError(thrown);
    if (cause instanceof ProtocolViolation) throw malformedAnswer(server, `GET ${EVENTS_PATH}`, cause.message);
    throw unreachable(server, `GET ${EVENTS_PATH}`, cause);
  }
  throw new StreamEnded(server);
}

function nameOf(apiUrl: string): string {
  return `Routing API at ${apiUrl}`;
}
