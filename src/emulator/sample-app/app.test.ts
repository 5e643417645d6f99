import { spawn } from "node:child_process";
import { once } from "node:events";
import { Agent, get, type IncomingMessage, request as httpRequest } from "node:http";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { connect, type Socket } from "node:net";
import { buffer, json } from "node:stream/consumers";
import { Client, credentials, type ServiceError } from "@grpc/grpc-js";
import { describe, expect, it, onTestFinished } from "vitest";
import { WebSocket } from "ws";
import { built } from "../../../test/support/built.js";
import { type SampleApp, startSampleApp } from "./app.js";
import type { Answer } from "./requests.js";

const identity = { app: "shop", greeting: "hola", index: 3, guid: "instance-guid" };

async function startApp(lameDuckMs = 0): Promise<SampleApp & { url: string }> {
  const app = await startSampleApp({ ...identity, host: "127.0.0.1", port: 0, lameDuckMs });
  onTestFinished(() => app.drain());
  return { ...app, url: `http://127.0.0.1:${app.port}` };
}

function http2Client(port: number): { session: ClientHttp2Session; socket: Socket } {
  const socket = connect(port, "127.0.0.1");
  const session = connectHttp2(`http://127.0.0.1:${port}`, { createConnection: () => socket });
  onTestFinished(() => void socket.destroy());
  return { session, socket };
}

async function answerTo(response: IncomingMessage): Promise<Answer> {
  return (await json(response)) as Answer;
}

describe("sample app", () => {
  it("tells who it is and what it was asked, over HTTP/1.1", async () => {
    const { url } = await startApp();
    const response = await fetch(`${url}/any/path?q=1`, { method: "PUT", body: "12345", headers: { "X-Test": "a" } });
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("application/json");
    expect(await response.json()).toMatchObject({
      ...identity,
      method: "PUT",
      url: "/any/path?q=1",
      httpVersion: "1.1",
      headers: { "x-test": "a", host: url.slice("http://".length) },
      body: 5,
    });
  });

  it("does so over HTTP/2 with prior knowledge, on the same port", async () => {
    const { port } = await startApp();
    const stream = http2Client(port).session.request({ ":method": "POST", ":path": "/x", "x-test": "b" });
    stream.end("123");
    expect(await json(stream)).toMatchObject({
      ...identity,
      method: "POST",
      url: "/x",
      httpVersion: "2.0",
      headers: { "x-test": "b", ":authority": `127.0.0.1:${port}` },
      body: 3,
    });
  });

  it("knows the protocol when the first bytes come one by one", async () => {
    const { port } = await startApp();
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    await once(socket, "connect");
    for (const byte of "PUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") {
      await new Promise((resolve) => socket.write(byte, resolve));
      await new Promise(setImmediate);
    }
    expect((await buffer(socket)).toString()).toMatch(/^HTTP\/1.1 200 /);
  });

  it("streams a body back as it comes", async () => {
    const { url } = await startApp();
    const request = httpRequest(`${url}/echo`, { method: "POST" });
    request.write("first");
    const [response] = (await once(request, "response")) as [IncomingMessage];
    expect(await once(response, "data")).toEqual([Buffer.from("first")]);
    request.end("second");
    expect((await buffer(response)).toString()).toBe("second");
    expect(response.headers["transfer-encoding"]).toBe("chunked");
  });

  it("sends as many bytes, the status and the delay that it is asked for", async () => {
    const { url } = await startApp();
    expect((await (await fetch(`${url}/bytes?count=200001`)).arrayBuffer()).byteLength).toBe(200_001);
    expect((await fetch(`${url}/status/503`)).status).toBe(503);
    expect((await fetch(`${url}/status/204`)).status).toBe(204);
    const before = performance.now();
    expect((await fetch(`${url}/slow?ms=50`)).status).toBe(200);
    expect(performance.now() - before).toBeGreaterThanOrEqual(49);
  });

  it("answers 400 to what is no such number", async () => {
    const { url } = await startApp();
    for (const path of ["/bytes?count=-1", "/bytes", "/slow?ms=x", "/status/99", "/status/"]) {
      expect((await fetch(url + path)).status).toBe(400);
    }
  });

  it("echoes WebSocket messages at any path", async () => {
    const { port } = await startApp();
    const socket = new WebSocket(`ws://127.0.0.1:${port}/chat`);
    await once(socket, "open");
    socket.send("text");
    expect(await once(socket, "message")).toEqual([Buffer.from("text"), false]);
    socket.send(Buffer.from([1, 2]));
    expect(await once(socket, "message")).toEqual([Buffer.from([1, 2]), true]);
    socket.close();
    await once(socket, "close");
  });

  it("echoes gRPC calls of any service, unary and streaming", async () => {
    const { port } = await startApp();
    const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
    onTestFinished(() => client.close());
    const asIs = (value: Buffer): Buffer => value;
    const unary = await new Promise<Buffer | undefined>((resolve, reject) => {
      const done = (error: ServiceError | null, value?: Buffer): void => (error ? reject(error) : resolve(value));
      client.makeUnaryRequest("/any.Service/Method", asIs, asIs, Buffer.from("message"), done);
    });
    expect(unary?.toString()).toBe("message");

    const call = client.makeBidiStreamRequest("/any.Service/Stream", asIs, asIs);
    for (const message of ["one", "two"]) {
      call.write(Buffer.from(message));
      expect(await once(call, "data")).toEqual([Buffer.from(message)]);
    }
    call.end();
    call.resume();
    const [status] = (await once(call, "status")) as [{ code: number }];
    expect(status.code).toBe(0);
  });

  it("is not disturbed by clients that leave at any time", async () => {
    const { url, port } = await startApp();
    for (const beginning of [
      "",
      "PRI * HT",
      "GET / HT",
      "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1",
    ]) {
      const socket = connect(port, "127.0.0.1");
      await once(socket, "connect");
      socket.write(beginning);
      socket.resetAndDestroy();
    }
    expect((await fetch(url)).status).toBe(200);
  });
});

describe("sample app that drains", () => {
  it("refuses new connections, and finishes what is in flight", async () => {
    const app = await startApp();
    const upload = httpRequest(`${app.url}/echo`, { method: "POST" });
    upload.write("be");
    const [response] = (await once(upload, "response")) as [IncomingMessage];
    const body = buffer(response);
    const { session } = http2Client(app.port);
    const stream = session.request({ ":method": "POST", ":path": "/echo" });
    stream.write("fra");
    await once(stream, "response");

    const drained = app.drain();
    await expect(fetch(app.url)).rejects.toThrow();
    upload.end("fore");
    stream.end("mes");
    expect((await body).toString()).toBe("before");
    expect((await buffer(stream)).toString()).toBe("frames");
    await drained;
  });

  it("still answers on connections that a proxy holds, and asks to close those of HTTP/1.1", async () => {
    const app = await startApp(60_000);
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    onTestFinished(() => agent.destroy());
    const first = get(app.url, { agent });
    const [firstResponse] = (await once(first, "response")) as [IncomingMessage];
    expect(firstResponse.headers.connection).toBe("keep-alive");
    await answerTo(firstResponse);
    const { session, socket } = http2Client(app.port);
    await once(session, "remoteSettings");

    const drained = app.drain();
    const second = get(app.url, { agent });
    const [secondResponse] = (await once(second, "response")) as [IncomingMessage];
    expect(second.reusedSocket).toBe(true);
    expect(secondResponse.headers.connection).toBe("close");
    expect((await answerTo(secondResponse)).guid).toBe("instance-guid");
    expect(await json(session.request({ ":path": "/" }))).toMatchObject({ guid: "instance-guid" });
    socket.destroy();
    await drained;
  });

  it("closes idle connections and WebSockets after the lame-duck time", async () => {
    const app = await startApp(20);
    const agent = new Agent({ keepAlive: true });
    const [response] = (await once(get(app.url, { agent }), "response")) as [IncomingMessage];
    await answerTo(response);
    const { session } = http2Client(app.port);
    await once(session, "remoteSettings");
    const webSocket = new WebSocket(`ws://127.0.0.1:${app.port}/`);
    await once(webSocket, "open");
    const webSocketClosed = once(webSocket, "close");
    await app.drain();
    const [code] = (await webSocketClosed) as [number];
    expect(code).toBe(1_001);
  });
});

describe("sample app as a process", () => {
  it("takes its greeting from its arguments, and ends with exit code 0 after SIGTERM", async () => {
    const child = spawn(process.execPath, [built("src/emulator/sample-app/main.ts"), "hola"], {
      env: { PORT: "0", VCAP_APPLICATION: JSON.stringify({ name: "shop" }), LAME_DUCK_MS: "0" },
      stdio: ["ignore", "pipe", "inherit"],
    });
    onTestFinished(() => void child.kill("SIGKILL"));
    const [line] = (await once(child.stdout, "data")) as [Buffer];
    const port = /hola: listening on port (\d+)/.exec(line.toString())?.[1] ?? "";
    const response = await fetch(`http://127.0.0.1:${port}`);
    expect(await response.json()).toMatchObject({ app: "shop", greeting: "hola", index: 0 });
    child.kill("SIGTERM");
    expect(await once(child, "exit")).toEqual([0, null]);
  });
});
