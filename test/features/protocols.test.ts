import { randomBytes } from "node:crypto";
import { connect as connectHttp2, constants } from "node:http2";
import { connect } from "node:net";
import { buffer } from "node:stream/consumers";
import { credentials, Client as GrpcClient } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { startMesh, type TestMesh } from "../support/mesh.js";

const MEGABYTE = 1024 * 1024;

describe("what a route carries", () => {
  let mesh: TestMesh;
  beforeAll(async () => {
    mesh = await startMesh();
    await mesh.app("blue");
    await mesh.route("http1", { to: [{ app: "blue" }] });
    await mesh.route("http2", { to: [{ app: "blue", protocol: "http2" }] });
    await mesh.answers("http1.mesh.localhost", 200);
    await mesh.answers("http2.mesh.localhost", 200);
  });
  afterAll(() => mesh.stop());

  it("keeps an HTTP/1.1 connection for several requests", async () => {
    const socket = connect(mesh.routerPort, "127.0.0.1");
    let received = "";
    socket.on("data", (chunk: Buffer) => (received += chunk.toString()));
    for (const path of ["/one", "/two", "/three"]) {
      socket.write(`GET ${path} HTTP/1.1\r\nHost: http1.mesh.localhost\r\n\r\n`);
      await new Promise<void>((resolve) => {
        const look = () => {
          if (!received.includes(`"${path}"`)) return;
          socket.off("data", look);
          resolve();
        };
        socket.on("data", look);
      });
    }
    expect(received.match(/^HTTP\/1\.1 200 /gm)).toHaveLength(3);
    socket.destroy();
  });

  it.each(["http1", "http2"])(
    "carries chunked and large bodies both ways, to a destination of %s",
    async (protocol) => {
      const body = randomBytes(4 * MEGABYTE);
      for (const headers of [{ "content-length": String(body.length) }, { "transfer-encoding": "chunked" }]) {
        const answer = await mesh.client.get(`${protocol}.mesh.localhost`, "/echo", { method: "POST", body, headers });
        expect(answer.status).toBe(200);
        expect(answer.body.equals(body)).toBe(true);
      }
      const large = await mesh.client.get(`${protocol}.mesh.localhost`, `/bytes?count=${8 * MEGABYTE}`);
      expect(large.body).toHaveLength(8 * MEGABYTE);
    },
  );

  it("carries a large body to a host that was never used before", async () => {
    await mesh.route("cold-post", { to: [{ app: "blue" }] });
    await mesh.route("after-cold-post", { to: [{ app: "blue" }] });
    await mesh.answers("after-cold-post.mesh.localhost", 200);
    const body = randomBytes(2 * MEGABYTE);
    const answer = await mesh.client.get("cold-post.mesh.localhost", "/echo", { method: "POST", body });
    expect(answer.body.equals(body)).toBe(true);
  });

  it("carries WebSocket messages both ways", async () => {
    const socket = new WebSocket(`ws://127.0.0.1:${mesh.routerPort}/chat`, {
      headers: { host: "http1.mesh.localhost" },
    });
    await new Promise((resolve, reject) => {
      socket.once("open", resolve);
      socket.once("error", reject);
    });
    const echo = (text: string) =>
      new Promise<string>((resolve) => {
        socket.once("message", (data: Buffer) => resolve(data.toString()));
        socket.send(text);
      });
    expect(await echo("hello")).toBe("hello");
    expect(await echo("again")).toBe("again");
    socket.close();
    await new Promise((resolve) => socket.once("close", resolve));
  });

  it("takes HTTP/2 from clients, to destinations of either protocol", async () => {
    for (const [host, version] of [
      ["http1.mesh.localhost", "1.1"],
      ["http2.mesh.localhost", "2.0"],
    ] as const) {
      const session = connectHttp2(`http://127.0.0.1:${mesh.routerPort}`);
      const stream = session.request({ ":authority": host, ":path": "/x" });
      const [headers, body] = await Promise.all([
        new Promise<Record<string, unknown>>((resolve) => stream.once("response", resolve)),
        buffer(stream),
      ]);
      expect(headers[constants.HTTP2_HEADER_STATUS]).toBe(200);
      expect((JSON.parse(body.toString()) as { httpVersion: string }).httpVersion).toBe(version);
      session.close();
    }
  });

  it("carries gRPC end to end: unary and streams", async () => {
    const client = new GrpcClient(`127.0.0.1:${mesh.routerPort}`, credentials.createInsecure(), {
      "grpc.default_authority": "http2.mesh.localhost",
    });
    const same = (message: Buffer) => message;
    const answer = await new Promise<Buffer | undefined>((resolve, reject) => {
      client.makeUnaryRequest("/echo.Echo/Say", same, same, Buffer.from("hello"), (error, value) =>
        error ? reject(error) : resolve(value),
      );
    });
    expect(answer?.toString()).toBe("hello");
    const stream = client.makeBidiStreamRequest("/echo.Echo/Talk", same, same);
    const received: string[] = [];
    stream.on("data", (message: Buffer) => received.push(message.toString()));
    for (const word of ["one", "two", "three"]) stream.write(Buffer.from(word));
    stream.end();
    await new Promise((resolve) => stream.once("end", resolve));
    expect(received).toEqual(["one", "two", "three"]);
    client.close();
  });

  it("hands an app's own statuses on", async () => {
    const answer = await mesh.client.get("http1.mesh.localhost", "/status/503");
    expect(answer.status).toBe(503);
    expect(answer.headers["x-cf-routererror"]).toBeUndefined();
  });
});
