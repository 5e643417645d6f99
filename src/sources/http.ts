/** One HTTP exchange that ends in a JSON answer or a MeshError. */
import { Agent, buildConnector, request } from "undici";
import { asError } from "../lib/errors.js";
import {
  malformedAnswer,
  RateLimited,
  type Remedies,
  requestRefused,
  serverFailed,
  unreachable,
} from "./http-faults.js";

/** PEM texts. */
export interface HttpCredentials {
  /** Of the CA that issued the servers' certificates; the system's CAs where left out. */
  readonly ca?: string;
  /** For servers that want mutual TLS. */
  readonly clientCertificate?: { readonly certificate: string; readonly key: string };
}

/** What the Cloud Controller's X-RateLimit headers say; it tells `remaining` in steps of a tenth, rounded down. */
export interface RateLimit {
  readonly limit: number;
  readonly remaining: number;
  /** Milliseconds from the answer until `remaining` starts over. */
  readonly resetsInMs: number;
}

export interface HttpOptions {
  /** Asked at each connection; another object where they changed. */
  readonly credentials: () => HttpCredentials;
  /** For the head of an answer, and between two pieces of its body. */
  readonly requestTimeoutMs: number;
  /** Answers that are larger fail. */
  readonly maxAnswerBytes: number;
}

export interface HttpRequest {
  /** For messages: "Cloud Controller at https://api.example.com". */
  readonly server: string;
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  /** Sent by POST as a form; GET where left out. */
  readonly form?: Readonly<Record<string, string>>;
  readonly remedies: Remedies;
}

export type HttpAnswer =
  | {
      readonly ok: true;
      readonly body: unknown;
      readonly dateMs: number | undefined;
      /** undefined where the server doesn't limit us. */
      readonly rateLimit: RateLimit | undefined;
    }
  | { readonly ok: false; readonly status: 400 | 401 | 403; readonly detail: string };

const CONNECT_TIMEOUT_MS = 5_000;
const MAX_CONNECTIONS = 8;
/** Where a 429 doesn't say how long to wait. */
const DEFAULT_RETRY_AFTER_MS = 5_000;
/** The longest that Cloud Controllers count requests for; one that says more has a broken clock, or is none. */
const MAX_LIMIT_MS = 3_600_000;

export function openAgent({ credentials, requestTimeoutMs, maxAnswerBytes }: HttpOptions): Agent {
  let made = { of: credentials(), connect: connector(credentials()) };
  return new Agent({
    connections: MAX_CONNECTIONS,
    headersTimeout: requestTimeoutMs,
    bodyTimeout: requestTimeoutMs,
    maxResponseSize: maxAnswerBytes,
    connect(options, callback) {
      const of = credentials();
      if (of !== made.of) made = { of, connect: connector(of) };
      made.connect(options, callback);
    },
  });
}

/** One for each set of credentials: it keeps TLS sessions, which would go on showing an old certificate. */
function connector({ ca, clientCertificate }: HttpCredentials): buildConnector.connector {
  return buildConnector({
    timeout: CONNECT_TIMEOUT_MS,
    ...(ca !== undefined && { ca }),
    ...(clientCertificate && { cert: clientCertificate.certificate, key: clientCertificate.key }),
  });
}

/**
 * Returns  the decoded body of a 200 with the server's time (Date header, Unix ms); 400, 401 and 403 as values, their
 *          meaning depends on the request.
 * Throws   RateLimited for 429; MESH_SOURCE_UNREACHABLE for connections that fail, time out or end early, and for 5xx;
 *          MESH_SOURCE_MALFORMED for a 200 that is no JSON; MESH_SOURCE_REFUSED for all others.
 */
export async function exchange(agent: Agent, asked: HttpRequest, signal: AbortSignal): Promise<HttpAnswer> {
  const what = `${asked.form ? "POST" : "GET"} ${asked.url.pathname}`;
  const { status, headers, text } = await send(agent, asked, signal).catch((thrown: unknown) => {
    throw unreachable(asked.server, what, asError(thrown));
  });
  if (status === 200) {
    const date = Date.parse(textOf(headers["date"]));
    const dateMs = Number.isNaN(date) ? undefined : date;
    return { ok: true, body: parseJson(text, asked.server, what), dateMs, rateLimit: rateLimitOf(headers) };
  }
  if (status === 429) throw new RateLimited(asked.server, what, retryAfterMs(headers), asked.remedies);
  const detail = detailOf(text);
  if (status >= 500) throw serverFailed(asked.server, what, status, detail);
  if (status === 400 || status === 401 || status === 403) return { ok: false, status, detail };
  throw requestRefused(asked.server, what, status, detail, asked.remedies);
}

type Headers = Readonly<Record<string, string | string[] | undefined>>;

async function send(agent: Agent, { url, headers, form }: HttpRequest, signal: AbortSignal) {
  const answer = await request(url, {
    dispatcher: agent,
    method: form ? "POST" : "GET",
    headers: {
      accept: "application/json",
      ...(form && { "content-type": "application/x-www-form-urlencoded" }),
      ...headers,
    },
    body: form ? new URLSearchParams(form).toString() : null,
    signal,
  });
  return { status: answer.statusCode, headers: answer.headers as Headers, text: await answer.body.text() };
}

function parseJson(text: string, server: string, what: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw malformedAnswer(server, what, text === "" ? "empty body" : "no JSON");
  }
}

/** Retry-After in seconds, or the Cloud Controller's X-RateLimit-Reset: Unix seconds by the clock of the Date header. */
function retryAfterMs(headers: Headers): number {
  const seconds = Number.parseInt(textOf(headers["retry-after"]), 10);
  if (seconds >= 0) return Math.min(seconds * 1000, MAX_LIMIT_MS);
  return resetsInMs(headers) ?? DEFAULT_RETRY_AFTER_MS;
}

function rateLimitOf(headers: Headers): RateLimit | undefined {
  const limit = Number.parseInt(textOf(headers["x-ratelimit-limit"]), 10);
  const remaining = Number.parseInt(textOf(headers["x-ratelimit-remaining"]), 10);
  const resetMs = resetsInMs(headers);
  if (!(limit > 0) || !(remaining >= 0) || resetMs === undefined) return undefined;
  return { limit, remaining, resetsInMs: resetMs };
}

/** undefined where it is not said. */
function resetsInMs(headers: Headers): number | undefined {
  const resetMs = Number.parseInt(textOf(headers["x-ratelimit-reset"]), 10) * 1000;
  const waitMs = resetMs - Date.parse(textOf(headers["date"]));
  return Number.isNaN(waitMs) ? undefined : Math.min(Math.max(0, waitMs), MAX_LIMIT_MS);
}

/**
 * What the Cloud Controller ({errors:[{title,detail}]}), the UAA ({error,error_description}) or the routing API
 * ({name,message}) says about a refusal.
 */
function detailOf(text: string): string {
  try {
    const body = JSON.parse(text) as {
      errors?: { title?: unknown; detail?: unknown }[];
      error?: unknown;
      error_description?: unknown;
      name?: unknown;
      message?: unknown;
    } | null;
    const { title, detail } = body?.errors?.[0] ?? {
      title: body?.error ?? body?.name,
      detail: body?.error_description ?? body?.message,
    };
    const parts = [title, detail].filter((part) => typeof part === "string");
    return parts.length === 0 ? "" : ` (${parts.join(": ").slice(0, 300)})`;
  } catch {
    return "";
  }
}

function textOf(header: string | string[] | undefined): string {
  return (Array.isArray(header) ? header[0] : header) ?? "";
}
