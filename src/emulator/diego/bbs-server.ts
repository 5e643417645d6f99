import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { fromBinary } from "@bufbuild/protobuf";
import { EventsByCellIdSchema } from "../../gen/bbs/v1/bbs_pb.js";
import { asError, MeshError } from "../../lib/errors.js";
import type { Certificates } from "../certificates.js";
import { type Answer, answerTo, errorAnswer } from "./bbs-api.js";
import type { BbsRecords } from "./bbs-records.js";
import { EventHub } from "./event-stream.js";

export const EVENTS_PATH = "/v1/events/lrp_instances.r1";

/**
 * How calls go wrong. status 500: an answer of HTTP. error: HTTP 200, with an error of the BBS in the message.
 * garbage: HTTP 200, and no protobuf. truncated: the connection ends in the middle of the answer.
 */
export type BadAnswer = "status 500" | "error" | "garbage" | "truncated";

/** An end-group tag without its group, which no decoder takes. */
const GARBAGE = Buffer.from([0x0c, 0xff, 0xff, 0xff]);
const WRITE_BYTES = 64 * 1_024;
const UNKNOWN_ERROR = 0;

/** The BBS over HTTP/1.1 and mTLS; its address stays the same when it refuses connections for a while. */
export class BbsServer {
  readonly hub = new EventHub();
  readonly #server: Server;
  readonly #records: BbsRecords;
  readonly #host: string;
  readonly #sockets = new Set<Socket>();
  readonly #badAnswers = new Map<string, BadAnswer>();
  readonly #stalled: (() => void)[] = [];
  #isStalled = false;
  #port: number;

  constructor(host: string, port: number, { ca, server }: Certificates, records: BbsRecords) {
    this.#host = host;
    this.#port = port;
    this.#records = records;
    this.#server = createServer(
      {
        ca,
        cert: server.certificate,
        key: server.key,
        requestCert: true,
        rejectUnauthorized: true,
        minVersion: "TLSv1.2",
        ALPNProtocols: ["http/1.1"],
        requestTimeout: 0,
      },
      (request, response) => void this.#serve(request, response).catch(() => response.destroy()),
    );
    // Before TLS: a client that can't shake hands has a socket here, too.
    this.#server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
    });
  }

  get url(): string {
    return `https://${this.#host}:${this.#port}`;
  }

  /** Throws MESH_PORT_TAKEN when the address can't be listened on. */
  async listen(): Promise<void> {
    if (this.#server.listening) return;
    const listening = once(this.#server, "listening");
    this.#server.listen({ host: this.#host, port: this.#port });
    try {
      await listening;
    } catch (error) {
      throw new MeshError(
        "MESH_PORT_TAKEN",
        `the emulated BBS can't listen on ${this.#host}:${this.#port}: ${asError(error).message}`,
        "stop the process that listens there, or give the BBS another port (0: any free one)",
        { cause: error },
      );
    }
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  /** Ends the listener and every connection. */
  async close(): Promise<void> {
    const closed = this.#server.listening ? once(this.#server, "close") : undefined;
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  /** Calls to a path, or to every one ("*"), go wrong until `undefined` is set. */
  setBadAnswer(path: string, bad: BadAnswer | undefined): void {
    if (bad === undefined) this.#badAnswers.delete(path);
    else this.#badAnswers.set(path, bad);
  }

  /** Answers nothing, with connections open, until it is false again; then it answers all that waits. */
  stallCalls(isStalled: boolean): void {
    this.#isStalled = isStalled;
    if (!isStalled) for (const resume of this.#stalled.splice(0)) resume();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? "";
    const body = await buffer(request);
    if (this.#isStalled) await new Promise<void>((resume) => this.#stalled.push(resume));
    if (request.method !== "POST") {
      response.writeHead(405).end();
    } else if (path === EVENTS_PATH) {
      this.hub.subscribe(request.socket, fromBinary(EventsByCellIdSchema, body).cellId);
    } else {
      const bad = this.#badAnswers.get(path) ?? this.#badAnswers.get("*");
      await send(response, answerTo(path, body, this.#records), bad);
    }
  }
}

async function send(response: ServerResponse, answer: Answer | undefined, bad: BadAnswer | undefined): Promise<void> {
  if (answer === undefined) {
    response.writeHead(404).end();
    return;
  }
  switch (bad) {
    case undefined:
      await sendWhole(response, answer);
      return;
    case "status 500":
      response.writeHead(500).end();
      return;
    case "error":
      await sendWhole(response, errorAnswer(UNKNOWN_ERROR, "the emulated BBS was told to fail"));
      return;
    case "garbage":
      await sendWhole(response, [GARBAGE]);
      return;
    case "truncated": {
      const whole = Buffer.concat(answer);
      // One more than there is: half of an empty list would be all of it.
      writeHead(response, whole.length + 1);
      response.flushHeaders();
      await new Promise((written) => response.write(whole.subarray(0, whole.length / 2), written));
      response.destroy();
    }
  }
}

async function sendWhole(response: ServerResponse, answer: Answer): Promise<void> {
  writeHead(response, byteCount(answer));
  await pipeline(Readable.from(joined(answer)), response);
}

function writeHead(response: ServerResponse, contentLength: number): void {
  response.writeHead(200, { "Content-Type": "application/x-protobuf", "Content-Length": contentLength });
}

function byteCount(answer: Answer): number {
  return answer.reduce((sum, piece) => sum + piece.length, 0);
}

/** Pieces of a size that is worth a write each. */
function* joined(answer: Answer): Generator<Buffer> {
  let pieces: Uint8Array[] = [];
  let length = 0;
  for (const piece of answer) {
    pieces.push(piece);
    length += piece.length;
    if (length < WRITE_BYTES) continue;
    yield Buffer.concat(pieces, length);
    pieces = [];
    length = 0;
  }
  if (length > 0) yield Buffer.concat(pieces, length);
}
