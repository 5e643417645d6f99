/** What the sample app answers, over HTTP/1.1 and HTTP/2 alike. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import { Readable, type Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as delay } from "node:timers/promises";

export type Request = IncomingMessage | Http2ServerRequest;
export type Response = ServerResponse | Http2ServerResponse;

export interface Identity {
  /** The app's name. */
  readonly app: string;
  readonly greeting: string;
  /** Index of the instance, from 0. */
  readonly index: number;
  /** Instance guid. */
  readonly guid: string;
}

/** The JSON answer: who answered, and the request as it arrived. */
export interface Answer extends Identity {
  readonly method: string | undefined;
  readonly url: string | undefined;
  /** "1.1" or "2.0". */
  readonly httpVersion: string;
  /** By lower-case name; on HTTP/2 with the pseudo headers, such as ":authority". */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** Bytes in the request's body. */
  readonly body: number;
}

const BLOCK = Buffer.alloc(64 * 1_024, "x");
const MAX_DELAY_MS = 2 ** 31 - 1;

/**
 * Answers one request:
 *   any gRPC request (application/grpc over HTTP/2)  its messages back as they come, grpc-status 0
 *   POST /echo           the body back as it comes
 *   /bytes?count=N       N bytes
 *   /slow?ms=N           the JSON answer, after N milliseconds
 *   /status/NNN          the JSON answer, with that status (200 to 599)
 *   anything else        the JSON answer
 * A parameter that is no such number is answered with 400. Throws when the client goes away.
 */
export async function answer(identity: Identity, request: Request, response: Response): Promise<void> {
  const [path = "", query = ""] = (request.url ?? "").split("?", 2);
  const parameters = new URLSearchParams(query);
  if (isGrpc(request)) {
    await echoGrpc(request, response as Http2ServerResponse);
  } else if (path === "/echo" && request.method === "POST") {
    response.setHeader("content-type", request.headers["content-type"] ?? "application/octet-stream");
    await pipeline(request, response as Writable);
  } else if (path === "/bytes") {
    const count = integer(parameters.get("count"), 0, Number.MAX_SAFE_INTEGER);
    if (count === undefined) badRequest(response, "count is the number of bytes to send");
    else await sendBytes(response, count);
  } else if (path === "/slow") {
    const durationMs = integer(parameters.get("ms"), 0, MAX_DELAY_MS);
    if (durationMs === undefined) badRequest(response, "ms is the time to wait, in milliseconds");
    else {
      await delay(durationMs);
      await tell(identity, request, response, 200);
    }
  } else if (path.startsWith("/status/")) {
    const status = integer(path.slice("/status/".length), 200, 599);
    if (status === undefined) badRequest(response, "a status is 200 to 599");
    else await tell(identity, request, response, status);
  } else {
    await tell(identity, request, response, 200);
  }
}

async function tell(identity: Identity, request: Request, response: Response, status: number): Promise<void> {
  const { method, url, httpVersion, headers } = request;
  json(response, status, { ...identity, method, url, httpVersion, headers, body: await byteCount(request) });
}

async function sendBytes(response: Response, count: number): Promise<void> {
  response.setHeader("content-type", "application/octet-stream");
  response.setHeader("content-length", count);
  await pipeline(Readable.from(bytes(count)), response as Writable);
}

function isGrpc(request: Request): boolean {
  return request.httpVersionMajor === 2 && (request.headers["content-type"] ?? "").startsWith("application/grpc");
}

/** A message is framed alike in both directions, so the bytes of the requests are a valid answer. */
async function echoGrpc(request: Request, response: Http2ServerResponse): Promise<void> {
  response.writeHead(200, { "content-type": request.headers["content-type"] ?? "application/grpc" });
  response.addTrailers({ "grpc-status": "0" });
  await pipeline(request, response);
}

function json(response: Response, status: number, value: Answer | { error: string }): void {
  response.statusCode = status;
  response.setHeader("content-type", "application/json");
  response.end(`${JSON.stringify(value)}\n`);
}

function badRequest(response: Response, error: string): void {
  json(response, 400, { error });
}

async function byteCount(request: Request): Promise<number> {
  let count = 0;
  for await (const chunk of request) count += (chunk as Buffer).length;
  return count;
}

function* bytes(count: number): Generator<Buffer> {
  for (let left = count; left > 0; left -= BLOCK.length) yield BLOCK.subarray(0, Math.min(left, BLOCK.length));
}

function integer(text: string | null, min: number, max: number): number | undefined {
  if (text === null || !/^\d+$/.test(text)) return undefined;
  const value = Number(text);
  return value >= min && value <= max ? value : undefined;
}
