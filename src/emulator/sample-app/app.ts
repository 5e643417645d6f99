import { createServer as createHttpServer } from "node:http";
import { createServer as createHttp2Server, type ServerHttp2Session } from "node:http2";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { WebSocketServer } from "ws";
import { sniffProtocol } from "./protocol-sniffer.js";
import { answer, type Identity, type Request, type Response } from "./requests.js";

export interface SampleAppOptions extends Identity {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  /** How long connections that a proxy keeps for later stay open after `drain`, in milliseconds. */
  readonly lameDuckMs: number;
}

export interface SampleApp {
  readonly port: number;
  /**
   * Stops accepting, finishes what is in flight, and resolves when the last connection is closed. Those without a
   * request are closed after the lame-duck time only: a proxy that still holds one would see its next request cut.
   * Until then HTTP/1.1 answers carry Connection: close. HTTP/2 connections get their GOAWAY at the end of that time:
   * Node stops reading an idle one that it sent an earlier notice on.
   */
  drain(): Promise<void>;
}

const GOING_AWAY = 1_001;

/** HTTP/1.1, HTTP/2 without TLS (prior knowledge), WebSockets and gRPC on one port. */
export async function startSampleApp(options: SampleAppOptions): Promise<SampleApp> {
  const { host, port, lameDuckMs, ...rest } = options;
  const identity: Identity = { app: rest.app, greeting: rest.greeting, index: rest.index, guid: rest.guid };
  let phase: "serving" | "lame duck" | "closing" = "serving";
  const requestCounts = new Map<Socket, number>();
  const sessions = new Set<ServerHttp2Session>();
  const webSockets = new WebSocketServer({ noServer: true });

  function serve(request: Request, response: Response): void {
    // A client that went away is nobody's fault.
    answer(identity, request, response).catch(() => response.destroy());
  }

  const http1 = createHttpServer({ keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0 }, (request, response) => {
    const { socket } = request;
    if (phase !== "serving") response.shouldKeepAlive = false;
    requestCounts.set(socket, (requestCounts.get(socket) ?? 0) + 1);
    response.once("close", () => {
      const left = (requestCounts.get(socket) ?? 1) - 1;
      requestCounts.set(socket, left);
      if (phase === "closing" && left === 0) socket.end();
    });
    serve(request, response);
  });
  http1.on("connection", (socket: Socket) => {
    requestCounts.set(socket, 0);
    socket.once("close", () => requestCounts.delete(socket));
  });
  http1.on("upgrade", (request, socket: Socket, head) => {
    requestCounts.delete(socket);
    webSockets.handleUpgrade(request, socket, head, (webSocket) => {
      webSocket.on("error", () => undefined);
      webSocket.on("message", (message, isBinary) => webSocket.send(message, { binary: isBinary }));
      if (phase === "closing") webSocket.close(GOING_AWAY);
    });
  });

  const http2 = createHttp2Server(serve);
  http2.on("session", (session) => {
    sessions.add(session);
    session.on("error", () => undefined);
    session.once("close", () => sessions.delete(session));
    if (phase === "closing") session.close();
  });

  const listener = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    socket.on("error", () => undefined);
    sniffProtocol(socket, (protocol) => {
      // A client of HTTP/1.1 may end its side after the request; one of HTTP/2 that does so is gone.
      socket.allowHalfOpen = protocol === "http/1.1";
      (protocol === "h2c" ? http2 : http1).emit("connection", socket);
    });
  });
  listener.listen({ host, port });
  await once(listener, "listening");

  async function drain(): Promise<void> {
    const closed = once(listener, "close");
    listener.close();
    phase = "lame duck";
    await Promise.race([closed, delay(lameDuckMs, undefined, { ref: false })]);
    phase = "closing";
    for (const [socket, requestCount] of requestCounts) if (requestCount === 0) socket.end();
    for (const session of sessions) session.close();
    for (const webSocket of webSockets.clients) webSocket.close(GOING_AWAY);
    await closed;
  }
  let drained: Promise<void> | undefined;
  return {
    port: (listener.address() as AddressInfo).port,
    drain: () => (drained ??= drain()),
  };
}
