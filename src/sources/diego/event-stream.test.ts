import { EventEmitter, once } from "node:events";
import type { AddressInfo } from "node:net";
import { createServer, type TLSSocket } from "node:tls";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { type Certificates, createCertificates } from "../../emulator/certificates.js";
import { bbsEndpoints, type BbsEndpoint } from "./endpoint.js";
import { type EventStream, openEventStream } from "./event-stream.js";
import type { SseFrame } from "../sse.js";

const HEAD =
  "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache, no-store\r\n" +
  "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n";

let certificates: Certificates;
let strangers: Certificates;
beforeAll(async () => {
  [certificates, strangers] = await Promise.all([createCertificates(), createCertificates()]);
});

/** As the BBS frames it: an empty extension after each length. */
const chunk = (data: string) => `${Buffer.byteLength(data).toString(16)};\r\n${data}\r\n`;
const frame = (event: string, data: string) => `id: 0\nevent: ${event}\ndata: ${data}\n\n`;

/** A TLS server that asks for a client certificate, and answers a request with whatever bytes it is told. */
async function serve(answer: (socket: TLSSocket, request: string) => void): Promise<string> {
  const sockets = new Set<TLSSocket>();
  const { ca, server: identity } = certificates;
  const server = createServer(
    { ca, cert: identity.certificate, key: identity.key, requestCert: true, rejectUnauthorized: true },
    (socket) => {
      sockets.add(socket);
      socket.on("error", () => undefined);
      socket.once("data", (request: Buffer) => answer(socket, request.toString()));
    },
  );
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, "close");
  });
  return `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function endpoint(url: string, from: Certificates = certificates, ca = certificates.ca): BbsEndpoint {
  const credentials = { ca, ...from.client };
  const [only] = bbsEndpoints([url], () => credentials);
  if (!only) throw new Error("no endpoint");
  return only;
}

async function open(url: string, timeoutMs = 5_000): Promise<EventStream> {
  const stream = await openEventStream(endpoint(url), timeoutMs, new AbortController().signal);
  onTestFinished(() => stream.close());
  return stream;
}

/** All frames until the stream fails, and why it does. */
async function drain(stream: EventStream): Promise<{ frames: SseFrame[]; fault: unknown }> {
  const frames: SseFrame[] = [];
  try {
    for await (const some of stream.frames) frames.push(...some);
  } catch (fault) {
    return { frames, fault };
  }
  throw new Error("a stream never ends without a fault");
}

describe("the event stream", () => {
  it("reads the BBS's own framing, with the request that the BBS expects", async () => {
    let received = "";
    const url = await serve((socket, request) => {
      received = request;
      socket.write(HEAD + chunk(frame("first", "AAAA")));
      socket.end(`${chunk(frame("second", "BBBB"))}0\r\n\r\n`);
    });
    const { frames, fault } = await drain(await open(url));
    expect(frames).toEqual([
      { event: "first", data: "AAAA" },
      { event: "second", data: "BBBB" },
    ]);
    expect(fault).toMatchObject({ code: "MESH_SOURCE_UNREACHABLE" });
    expect(received).toMatch(/^POST \/v1\/events\/lrp_instances\.r1 HTTP\/1\.1\r\n/);
    expect(received).toContain(`Host: ${url.slice("https://".length)}\r\n`);
  });

  it("gives the frames together that arrive together", async () => {
    const both = chunk(frame("a", "1")) + chunk(frame("b", "2"));
    const url = await serve((socket) => socket.write(HEAD + both));
    const batches = (await open(url)).frames[Symbol.asyncIterator]();
    expect((await batches.next()).value).toHaveLength(2);
  });

  it("reads frames that are spread over many chunks and TLS records", async () => {
    const large = "x".repeat(200_000);
    const url = await serve((socket) => {
      const text = frame("large", large);
      socket.write(HEAD);
      for (let offset = 0; offset < text.length; offset += 7_001)
        socket.write(chunk(text.slice(offset, offset + 7_001)));
      socket.end();
    });
    expect((await drain(await open(url))).frames).toEqual([{ event: "large", data: large }]);
  });

  it("fails when the connection is cut in the middle of a frame", async () => {
    const url = await serve((socket) => {
      socket.write(`${HEAD}40;\r\nid: 0\nevent: half`, () => socket.destroy());
    });
    const { frames, fault } = await drain(await open(url));
    expect(frames).toEqual([]);
    expect(fault).toMatchObject({ code: "MESH_SOURCE_UNREACHABLE" });
  });

  it("fails on broken framing, and on an event of more than 16 MB", async () => {
    const broken = await serve((socket) => socket.write(`${HEAD}oops\r\n`));
    expect((await drain(await open(broken))).fault).toMatchObject({ code: "MESH_SOURCE_MALFORMED" });
    const mega = "x".repeat(1024 * 1024);
    const endless = await serve((socket) => {
      socket.write(HEAD + chunk("data: "));
      const more = () => {
        while (!socket.destroyed && socket.write(chunk(mega)));
      };
      socket.on("drain", more);
      more();
    });
    expect((await drain(await open(endless))).fault).toMatchObject({ code: "MESH_SOURCE_MALFORMED" });
  });

  it.each([
    ["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "MESH_SOURCE_REFUSED", "HTTP 404"],
    ["HTTP/1.1 503 Service Unavailable\r\n\r\n", "MESH_SOURCE_UNREACHABLE", "HTTP 503"],
    ["HTTP/1.1 200 OK\r\nX-Cf-Routererror: unknown_route\r\n\r\n", "MESH_SOURCE_REFUSED", "unknown_route"],
    ["HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", "MESH_SOURCE_MALFORMED", "text/html"],
    ["SSH-2.0-OpenSSH_9.6\r\n\r\n", "MESH_SOURCE_MALFORMED", "no HTTP/1.1 response"],
  ])("is not opened by %j", async (answer, code, message) => {
    const url = await serve((socket) => socket.write(answer));
    const fault = await open(url).catch((thrown: unknown) => thrown);
    expect(fault).toMatchObject({ code });
    expect(String(fault)).toContain(url);
    expect(String(fault)).toContain(message);
  });

  it("is not opened by a server that does not answer in time, or hangs up", async () => {
    const silent = await serve(() => undefined);
    await expect(open(silent, 100)).rejects.toThrow("no answer within 100 ms");
    const rude = await serve((socket) => socket.destroy());
    await expect(open(rude)).rejects.toMatchObject({ code: "MESH_SOURCE_UNREACHABLE" });
  });

  it("tells a certificate that does not fit from a network that does not work", async () => {
    const { signal } = new AbortController();
    const url = await serve((socket) => socket.write(HEAD));
    const untrusted = openEventStream(endpoint(url, certificates, strangers.ca), 5_000, signal);
    await expect(untrusted).rejects.toMatchObject({ code: "MESH_SOURCE_REFUSED" });
    await expect(untrusted).rejects.toThrow("diego.caFile");
    const closed = openEventStream(endpoint("https://127.0.0.1:1"), 5_000, signal);
    await expect(closed).rejects.toMatchObject({ code: "MESH_SOURCE_UNREACHABLE" });
    await expect(closed).rejects.toThrow("only the active BBS");
    // The BBS may say why, or just hang up: both lead to the certificate.
    const stranger = openEventStream(endpoint(url, strangers), 5_000, signal);
    await expect(stranger).rejects.toThrow("diego.c");
  });

  it("ends its connection when the signal aborts", async () => {
    const accepted = new EventEmitter();
    const url = await serve((socket) => {
      socket.write(HEAD);
      socket.once("close", () => accepted.emit("close"));
    });
    const ending = new AbortController();
    const stream = await openEventStream(endpoint(url), 5_000, ending.signal);
    const closed = once(accepted, "close");
    const drained = drain(stream);
    ending.abort();
    await Promise.all([drained, closed]);
  });
});

describe("the endpoints of a BBS", () => {
  it.each([
    ["no URL", [], "no URL"],
    ["a URL without TLS", ["http://127.0.0.1:8889"], "no https:// URL"],
    ["what is no URL", ["bbs"], "no https:// URL"],
  ])("are refused for %s", (_, urls, message) => {
    expect(() => bbsEndpoints(urls, () => ({ ca: certificates.ca, ...certificates.client }))).toThrow(message);
  });

  it("are refused with a key that belongs to another certificate, and the key is not told", () => {
    const { certificate } = certificates.client;
    const { key } = strangers.client;
    const make = () => bbsEndpoints(["https://127.0.0.1:1"], () => ({ ca: certificates.ca, certificate, key }));
    expect(make).toThrow("MESH_CONFIG_INVALID");
    expect(make).not.toThrow(key.split("\n")[1] ?? "");
  });

  it("take IPv6 addresses without their brackets", () => {
    expect(endpoint("https://[::1]:8889")).toMatchObject({ host: "::1", port: 8889 });
  });
});
