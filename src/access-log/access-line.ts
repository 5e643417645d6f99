/** A request as a line of Gorouter's access log, or as JSON with the same values. */
import { createHash } from "node:crypto";
import { callerOf, policyRuleOf } from "./caller.js";
import { cutTo, HEADERS_CUT, LARGE_BYTES, SMALL_BYTES } from "./cut.js";
import { goQuote, textOfBytes } from "./go-quote.js";
import type { RequestRecord } from "./record.js";

/** Of them, those of identity-aware domains. */
export const CALLER_FIELDS = ["caller_cf_app", "caller_cf_org", "caller_cf_space", "route_policy", "tls_sni"] as const;
type CallerField = (typeof CALLER_FIELDS)[number];

/** What Gorouter's extra_access_log_fields may name. */
export type ExtraField =
  | "backend_time"
  | "dial_time"
  | "dns_time"
  | "failed_attempts"
  | "failed_attempts_time"
  | "local_address"
  | "tls_time"
  | CallerField;

export interface LineOptions {
  readonly format: "gorouter" | "json";
  /** What becomes of the query of GET requests: it stays, goes, or is told by its SHA-1 alone. */
  readonly redactQueryParameters: "none" | "all" | "hash";
  readonly hideForwardedFor: boolean;
  readonly hideSourceIp: boolean;
  readonly extraFields: readonly ExtraField[];
  /** Names of request headers, in the order of the record's. */
  readonly extraHeaders: readonly string[];
}

const CLIENT_LEFT = 499;

/** Without the end of the line. */
export type LineWriter = (record: RequestRecord) => string;

export function lineWriter(options: LineOptions): LineWriter {
  return options.format === "json" ? (record) => jsonLine(record, options) : (record) => gorouterLine(record, options);
}

/** As Gorouter has it; with `isCut`, values that may be long are cut, as in the lines that it sends to loggregator. */
export function gorouterLine(record: RequestRecord, options: LineOptions, isCut = false): string {
  const values = valuesOf(record, options);
  const small = (value: string, name: string) => quoted(isCut ? cutTo(value, name, SMALL_BYTES) : value);
  const uri = isCut ? cutTo(values.uri, "REQUEST-URI", LARGE_BYTES) : values.uri;
  const extra = options.extraFields.map((field) => `${field}:${extraField(record, field, quoted)} `).join("");
  return (
    `${textOfBytes(values.host)} - [${values.timestamp}] ` +
    `${goQuote(`${values.method} ${uri} ${values.protocol}`)} ${values.status === 0 ? '"-"' : values.status} ` +
    `${values.requestBytes} ${values.responseBytes} ${small(record.referer, "REFERER")} ` +
    `${small(record.userAgent, "USER-AGENT")} ${quoted(values.client)} ${quoted(values.backend)} ` +
    `x_forwarded_for:${small(values.forwardedFor, "X-FORWARDED-FOR")} ` +
    `x_forwarded_proto:${small(record.forwardedProto, "X-FORWARDED-PROTO")} ` +
    `vcap_request_id:${quoted(record.requestId)} response_time:${seconds(values.responseUs)} ` +
    `gorouter_time:${seconds(values.gorouterUs)} app_id:${quoted(record.appId)} ` +
    `app_index:${quoted(record.appIndex)} instance_id:${quoted(record.instanceId)} ${extra}` +
    `x_cf_routererror:${quoted(values.routerError)}${extraHeaders(record, options, isCut)}`
  );
}

function extraHeaders({ headers }: RequestRecord, { extraHeaders: names }: LineOptions, isCut: boolean): string {
  let fields = "";
  for (const [place, name] of names.entries()) {
    const value = headers[place] ?? "";
    // As Gorouter foresees it: the value without what quoting adds, but for quotes, colon and space.
    const foreseen = Buffer.byteLength(fields) + name.length + (value === "" ? ABSENT.length : value.length) + 4;
    if (isCut && foreseen >= LARGE_BYTES) return `${fields} ${HEADERS_CUT}`;
    fields += ` ${fieldName(name)}:${quoted(value)}`;
  }
  return fields;
}

function jsonLine(record: RequestRecord, options: LineOptions): string {
  const values = valuesOf(record, options);
  const text = (value: string) => (value === "" ? undefined : textOfBytes(value));
  const extra = options.extraFields.map((field) => {
    const value = extraField(record, field, (bytes) => textOfBytes(bytes));
    return [field, value === ABSENT ? undefined : isText(field) ? value : Number(value)];
  });
  return JSON.stringify({
    timestamp: values.timestamp,
    host: text(values.host),
    method: text(values.method),
    uri: text(values.uri),
    protocol: values.protocol,
    status: values.status === 0 ? undefined : values.status,
    request_bytes: values.requestBytes,
    response_bytes: values.responseBytes,
    referer: text(record.referer),
    user_agent: text(record.userAgent),
    client: text(values.client),
    backend: text(values.backend),
    x_forwarded_for: text(values.forwardedFor),
    x_forwarded_proto: text(record.forwardedProto),
    vcap_request_id: text(record.requestId),
    response_time: secondsNumber(values.responseUs),
    gorouter_time: secondsNumber(values.gorouterUs),
    app_id: text(record.appId),
    app_index: text(record.appIndex),
    instance_id: text(record.instanceId),
    ...Object.fromEntries(extra),
    x_cf_routererror: text(values.routerError),
    // Why Envoy answered itself, or what went wrong on the way: Gorouter has no word for it.
    response_flags: text(record.flags),
    ...Object.fromEntries(
      options.extraHeaders.map((name, place) => [fieldName(name), text(record.headers[place] ?? "")]),
    ),
  });
}

function isText(field: ExtraField): boolean {
  return field === "local_address" || CALLER_FIELDS.some((name) => name === field);
}

/** What both kinds of lines say. */
function valuesOf(record: RequestRecord, options: LineOptions) {
  const responseUs = responseTimeUs(record);
  const hasLeft = hasClientLeft(record);
  return {
    host: record.host,
    // The way to a route service begins at a socket of the router's own.
    backend: record.backend.startsWith("/") ? "" : record.backend,
    timestamp: timestamp(record.startNs),
    method: record.method,
    uri: redacted(record, options.redactQueryParameters),
    protocol: record.protocol === "HTTP/2" ? "HTTP/2.0" : record.protocol,
    status: hasLeft ? CLIENT_LEFT : (record.status ?? 0),
    requestBytes: record.requestBytes ?? 0,
    responseBytes: record.responseBytes ?? 0,
    client: options.hideSourceIp ? "" : clientOf(record),
    forwardedFor: options.hideForwardedFor ? "" : receivedForwardedFor(record),
    responseUs,
    gorouterUs: record.appUs === undefined ? undefined : Math.max(0, responseUs - record.appUs),
    routerError: record.routerError === "" && hasLeft ? "endpoint_failure (context canceled)" : record.routerError,
  };
}

/** In microseconds; an answer that was broken off has milliseconds alone. */
export function responseTimeUs({ responseUs, durationMs = 0 }: RequestRecord): number {
  return responseUs ?? durationMs * 1_000;
}

/** Before it got an answer: what Gorouter logs as 499. */
export function hasClientLeft({ status, flags }: RequestRecord): boolean {
  return (status ?? 0) === 0 && flags.split(",").includes("DC");
}

/**
 * Behind PROXY protocol, Envoy tells what a client says in X-Forwarded-For instead of its address, and no port. What Envoy
 * has added to that header is the address.
 */
function clientOf({ client, forwardedFor }: RequestRecord): string {
  const added = forwardedFor.slice(forwardedFor.lastIndexOf(",") + 1).trim();
  if (!client.endsWith(":0") || added === "") return client;
  return added.includes(":") ? `[${added}]:0` : `${added}:0`;
}

/** Gorouter logs the headers as the app gets them; where no app got any, as the client sent them: without its address. */
function receivedForwardedFor({ forwardedFor, backend, client }: RequestRecord): string {
  if (backend !== "") return forwardedFor;
  const place = forwardedFor.lastIndexOf(",");
  const last = forwardedFor.slice(place + 1).trim();
  if (last !== client.slice(0, client.lastIndexOf(":")).replace(/^\[|\]$/g, "")) return forwardedFor;
  return place < 0 ? "" : forwardedFor.slice(0, place);
}

function redacted({ method, uri }: RequestRecord, redact: LineOptions["redactQueryParameters"]): string {
  if (redact === "none" || method !== "GET") return uri;
  const place = uri.indexOf("?");
  if (place < 0 || place === uri.length - 1) return uri;
  if (redact === "all") return uri.slice(0, place);
  const hash = createHash("sha1").update(Buffer.from(uri.slice(place + 1), "latin1"));
  return `${uri.slice(0, place)}?hash=${hash.digest("hex")}`;
}

/** Bytes as text, or a dash, in quotes: `write` is asked for what is neither number nor dash. */
function extraField(record: RequestRecord, field: ExtraField, write: (bytes: string) => string): string {
  const failed = failedAttempts(record);
  const text = (bytes: string) => (bytes === "" ? ABSENT : write(bytes));
  switch (field) {
    case "backend_time":
      return seconds(isAnswered(record) ? record.appUs : undefined);
    case "dial_time":
      return seconds(isDialled(record) ? record.dialUs : undefined);
    case "dns_time":
      // Endpoints have addresses, no names.
      return ABSENT;
    case "failed_attempts":
      return String(failed);
    case "failed_attempts_time":
      return seconds(failed === 0 ? undefined : isAnswered(record) ? record.untilSentUs : responseTimeUs(record));
    case "local_address":
      return text(record.localAddress);
    case "tls_time":
      return seconds(isDialled(record) ? record.tlsUs : undefined);
    case "tls_sni":
      return text(record.serverName);
    case "caller_cf_app":
      return text(callerOf(record)?.app ?? "");
    case "caller_cf_space":
      return text(callerOf(record)?.space ?? "");
    case "caller_cf_org":
      return text(callerOf(record)?.org ?? "");
    case "route_policy":
      return text(policyRuleOf(record));
  }
}

/** Whether the answer is an app's. */
function isAnswered({ appUs }: RequestRecord): boolean {
  return appUs !== undefined;
}

/** Whether the request waited for a new connection: Envoy tells of those that were there before, too. */
function isDialled({ untilDialUs }: RequestRecord): boolean {
  return untilDialUs !== undefined;
}

function failedAttempts(record: RequestRecord): number {
  const attempts = record.attempts ?? 0;
  return isAnswered(record) ? Math.max(0, attempts - 1) : attempts;
}

const ABSENT = '"-"';

function quoted(bytes: string): string {
  return bytes === "" ? ABSENT : goQuote(bytes);
}

function seconds(us: number | undefined): string {
  return us === undefined ? ABSENT : (us / 1e6).toFixed(6);
}

function secondsNumber(us: number | undefined): number | undefined {
  return us === undefined ? undefined : us / 1e6;
}

function fieldName(header: string): string {
  return header.toLowerCase().replaceAll("-", "_");
}

const NS_PER_S = 1_000_000_000n;
let known = { second: -1n, text: "" };

/** "2006-01-02T15:04:05.000000000Z" */
function timestamp(ns: bigint): string {
  const second = ns / NS_PER_S;
  if (known.second !== second) known = { second, text: new Date(Number(second) * 1_000).toISOString().slice(0, 19) };
  return `${known.text}.${String(ns % NS_PER_S).padStart(9, "0")}Z`;
}
