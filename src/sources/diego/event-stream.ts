/** The BBS's event stream: one POST whose answer never ends, read from a bare TLS connection (see http-response.ts). */
import { once } from "node:events";
import { connect, type TLSSocket } from "node:tls";
import { isIP } from "node:net";
import { ProtocolViolation } from "../protocol-violation.js";
import { SseDecoder, type SseFrame } from "../sse.js";
import type { BbsEndpoint } from "./endpoint.js";
import { badStatus, bbsFault, routerError, streamEnded } from "./faults.js";
import { ChunkedDecoder, HeadDecoder, type ResponseHead } from "./http-response.js";

const PATH = "/v1/events/lrp_instances.r1";
const MAX_FRAME_BYTES = 16 * 1024 * 1024;
const KEEP_ALIVE_DELAY_MS = 10_000;

export interface EventStream {
  /**
   * Frames as they come; those that arrive together come together. Never ends by itself: throws MESH_SOURCE_* when the
   * BBS ends it, the connection breaks, or bytes come that break the protocol.
   */
  readonly frames: AsyncIterable<readonly SseFrame[]>;
  close(): void;
}

/**
 * Subscribes to the events of all cells.
 *
 * Returns  once the BBS has answered: whatever happens from now on comes as an event.
 * Throws   MESH_SOURCE_*; also when no answer comes within `timeoutMs`.
 * Source   handlers/events_handlers.go of cloudfoundry/bbs.
 */
export async function openEventStream(
  endpoint: BbsEndpoint,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<EventStream> {
  const { url, host, port, secureContext } = endpoint;
  const doing = "subscribing to events";
  const servername = isIP(host) === 0 ? { servername: host } : {};
  const socket = connect({ host, port, secureContext, ALPNProtocols: ["http/1.1"], ...servername });
  // Errors reach whoever reads; one that comes while nobody does must not end the process.
  socket.on("error", () => undefined);
  const close = () => socket.destroy();
  signal.addEventListener("abort", close, { once: true });
  const timer = setTimeout(() => socket.destroy(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
  try {
    await once(socket, "secureConnect", { signal });
    socket.setKeepAlive(true, KEEP_ALIVE_DELAY_MS);
    socket.setNoDelay(true);
    // The message that would narrow the subscription to one cell is empty, hence the empty body.
    socket.write(
      `POST ${PATH} HTTP/1.1\r\nHost: ${host.includes(":") ? `[${host}]` : host}:${port}\r\n` +
        "Content-Type: application/x-protobuf\r\nAccept: text/event-stream\r\nContent-Length: 0\r\n\r\n",
    );
    const bytes = (socket as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
    const { head, rest } = await readHead(bytes);
    checkHead(url, doing, head);
    return { frames: readFrames(url, bytes, rest, head), close };
  } catch (thrown) {
    close();
    throw bbsFault(url, doing, thrown);
  } finally {
    clearTimeout(timer);
    forgetWhenClosed(socket, signal, close);
  }
}

/** The signal outlives many streams. */
function forgetWhenClosed(socket: TLSSocket, signal: AbortSignal, listener: () => void): void {
  if (socket.closed) signal.removeEventListener("abort", listener);
  else socket.once("close", () => signal.removeEventListener("abort", listener));
}

async function readHead(bytes: AsyncIterator<Buffer>): Promise<{ head: ResponseHead; rest: Buffer }> {
  const decoder = new HeadDecoder();
  for (;;) {
    const next = await bytes.next();
    if (next.done === true) throw Object.assign(new Error("it hung up before it answered"), { code: "ECONNRESET" });
    const decoded = decoder.feed(next.value);
    if (decoded) return decoded;
  }
}

function checkHead(url: string, doing: string, { status, headers }: ResponseHead): void {
  const refusal = headers.get("x-cf-routererror");
  if (refusal !== undefined) throw routerError(url, doing, refusal);
  if (status !== 200) throw badStatus(url, doing, status);
  const contentType = headers.get("content-type") ?? "none";
  if (!contentType.startsWith("text/event-stream")) throw new ProtocolViolation(`its content type is ${contentType}`);
}

async function* readFrames(
  url: string,
  bytes: AsyncIterator<Buffer>,
  rest: Buffer,
  head: ResponseHead,
): AsyncGenerator<readonly SseFrame[]> {
  const chunked = head.headers.get("transfer-encoding")?.toLowerCase() === "chunked" ? new ChunkedDecoder() : undefined;
  const events = new SseDecoder(MAX_FRAME_BYTES);
  let received = rest;
  try {
    for (;;) {
      const frames = (chunked ? chunked.feed(received) : [received]).flatMap((data) => events.feed(data));
      yield frames;
      if (chunked?.ended === true) throw streamEnded(url);
      const next = await bytes.next();
      if (next.done === true) throw streamEnded(url);
      received = next.value;
    }
  } catch (thrown) {
    throw bbsFault(url, "reading events", thrown);
  }
}
