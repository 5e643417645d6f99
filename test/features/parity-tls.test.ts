import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { connect as connectHttp2 } from "node:http2";
import type { IncomingMessage } from "node:http";
import { Agent, request } from "node:https";
import { createServer as createTcpServer, type AddressInfo } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { text } from "node:stream/consumers";
import { connect as connectTls, type ConnectionOptions } from "node:tls";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { type Certificates, createCertificates, type KeyPair } from "../../src/emulator/certificates.js";
import { encodeProcess, encodeRoute } from "../../src/entries/entries.js";
import { eventually } from "../support/eventually.js";
import { freePort } from "../support/free-port.js";
import { rawRequest } from "../support/raw.js";
import { startTestRouter, type TestRouter } from "../support/router.js";
import { TestApps } from "../support/test-apps.js";

/** A record of TLS 1.2 with the alert that Go's servers send to clients without a certificate. */
const FATAL_BAD_CERTIFICATE = Buffer.from([21, 3, 3, 0, 2, 2, 42]);
const XFCC = "x-forwarded-client-cert";

interface Running {
  readonly router: TestRouter;
  readonly apps: TestApps;
  readonly tlsPort: number;
  readonly host: string;
}

describe("HTTPS", () => {
  let certificates: Certificates;
  let one: KeyPair;
  let other: KeyPair;
  let client: KeyPair;
  let https: Running;
  const all: Running[] = [];

  beforeAll(async () => {
    certificates = await createCertificates();
    one = await issue("one.example.com");
    other = await issue("*.other.example.com");
    client = await certificates.issue({ commonName: "a client", usages: ["client"] });
    https = await start();
  });
  afterAll(async () => {
    for (const { router, apps } of all) {
      await apps.close();
      await router.stop();
    }
  });

  const issue = (name: string) => certificates.issue({ commonName: name, dnsNames: [name] });

  /** With two certificates, and an app that answers with the headers it got. */
  async function start(tls: object = {}, http: object = {}): Promise<Running> {
    const tlsPort = await freePort();
    const router = await startTestRouter({
      files: {
        ...{ "one.crt": one.certificate, "one.key": one.key, "other.crt": other.certificate, "other.key": other.key },
        "ca.crt": certificates.ca,
      },
      config: (path) => ({
        http,
        tls: {
          port: tlsPort,
          keypairs: ["one", "other"].map((name) => ({
            certificateFile: path(`${name}.crt`),
            keyFile: path(`${name}.key`),
          })),
          ...("clientCertificates" in tls && {
            clientCertificates: { validation: tls.clientCertificates, caFile: path("ca.crt") },
          }),
          ...Object.fromEntries(Object.entries(tls).filter(([key]) => key !== "clientCertificates")),
        },
      }),
    });
    const apps = new TestApps(router);
    const host = await apps.http("app", (incoming, response) =>
      response.end(JSON.stringify({ headers: incoming.headers })),
    );
    const running = { router, apps, tlsPort, host };
    all.push(running);
    return running;
  }

  interface Asked extends ConnectionOptions {
    readonly headers?: Readonly<Record<string, string>>;
  }
  /** One GET on a connection of its own. */
  async function get({ tlsPort, host }: Running, { headers, ...options }: Asked = {}) {
    const agent = new Agent({ maxCachedSessions: 0 });
    const call = request({
      ...{ host: "127.0.0.1", port: tlsPort, agent, ca: certificates.ca, servername: "one.example.com" },
      ...{ checkServerIdentity: () => undefined, ...options, headers: { host, ...headers } },
    });
    call.end();
    const [response] = (await once(call, "response")) as [IncomingMessage];
    const body = await text(response);
    agent.destroy();
    return {
      status: response.statusCode,
      got: response.statusCode === 200 ? (JSON.parse(body) as { headers: Record<string, string> }).headers : {},
    };
  }

  /** What the router agrees on with such a client. Rejects when they agree on nothing. */
  async function handshake({ tlsPort }: Running, options: ConnectionOptions = {}) {
    const socket = connectTls({
      ...{ host: "127.0.0.1", port: tlsPort, ca: certificates.ca, servername: "one.example.com" },
      ...{ checkServerIdentity: () => undefined, ...options },
    });
    try {
      await once(socket, "secureConnect");
      const { subject } = socket.getPeerCertificate();
      return {
        name: subject.CN,
        version: socket.getProtocol(),
        cipher: socket.getCipher().standardName,
        alpn: socket.alpnProtocol,
      };
    } finally {
      socket.destroy();
    }
  }

  it("is HTTP/1.1 or HTTP/2, as the client wants, and says so to the app", async () => {
    expect((await get(https)).got).toMatchObject({ "x-forwarded-proto": "https" });
    expect((await https.router.client.get(https.host)).json.headers["x-forwarded-proto"]).toBe("http");
    const session = connectHttp2(`https://127.0.0.1:${https.tlsPort}`, {
      ...{ ca: certificates.ca, servername: "one.example.com", checkServerIdentity: () => undefined },
    });
    onTestFinished(() => session.destroy());
    const stream = session.request({ ":path": "/", ":authority": https.host });
    const [headers] = (await once(stream, "response")) as [Record<string, unknown>];
    expect(headers[":status"]).toBe(200);
    const offer = { ALPNProtocols: ["h2", "http/1.1"] };
    expect((await handshake(https, offer)).alpn).toBe("h2");
    expect((await handshake(await start({ http2: false }), offer)).alpn).toBe("http/1.1");
  });

  it("shows the certificate for the name that a client asks for, or the first", async () => {
    expect((await handshake(https, { servername: "one.example.com" })).name).toBe("one.example.com");
    expect((await handshake(https, { servername: "shop.other.example.com" })).name).toBe("*.other.example.com");
    expect((await handshake(https, { servername: "third.example.org" })).name).toBe("one.example.com");
  });

  it("keeps to the versions and cipher suites that are set, and to TLS 1.2 at least otherwise", async () => {
    expect((await handshake(https)).version).toBe("TLSv1.3");
    expect((await handshake(https, { maxVersion: "TLSv1.2" })).version).toBe("TLSv1.2");
    await expect(
      handshake(https, { minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "ALL@SECLEVEL=0" }),
    ).rejects.toThrow();
    const strict = await start({ maxVersion: "1.2", cipherSuites: ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"] });
    const agreed = await handshake(strict);
    expect(agreed).toMatchObject({ version: "TLSv1.2", cipher: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" });
    await expect(handshake(strict, { ciphers: "ECDHE-ECDSA-AES128-GCM-SHA256" })).rejects.toThrow();
    await expect(handshake(strict, { minVersion: "TLSv1.3" })).rejects.toThrow();
    await expect(start({ cipherSuites: ["TLS_DHE_RSA_WITH_AES_128_CBC_SHA"] })).rejects.toThrow(
      /no cipher suite.*TLS_ECDHE_RSA/,
    );
  });

  it("may be all that there is", async () => {
    const alone = await startTestRouterOfHttpsAlone();
    expect((await get(alone)).status).toBe(404);
    await expect(alone.router.client.get(alone.host)).rejects.toThrow("ECONNREFUSED");
  });
  async function startTestRouterOfHttpsAlone(): Promise<Running> {
    const tlsPort = await freePort();
    const router = await startTestRouter({
      files: { "one.crt": one.certificate, "one.key": one.key },
      config: (path) => ({
        tls: {
          port: tlsPort,
          disableHttp: true,
          keypairs: [{ certificateFile: path("one.crt"), keyFile: path("one.key") }],
        },
      }),
    });
    const running = { router, apps: new TestApps(router), tlsPort, host: "nowhere.example.com" };
    all.push(running);
    return running;
  }

  it("takes a new certificate with no connection dropped and no request failed, and refuses one without its key", async () => {
    const running = await start();
    const session = connectHttp2(`https://127.0.0.1:${running.tlsPort}`, {
      ...{ ca: certificates.ca, servername: "one.example.com", checkServerIdentity: () => undefined },
    });
    onTestFinished(() => session.destroy());
    const overKept = async () => {
      const stream = session.request({ ":path": "/", ":authority": running.host });
      const [headers] = (await once(stream.resume(), "response")) as [Record<string, unknown>];
      return headers[":status"];
    };
    const over = new AbortController();
    const statuses = new Set<unknown>();
    const load = (async () => {
      while (!over.signal.aborted) {
        statuses.add(await overKept());
        statuses.add((await get(running)).status);
      }
    })();
    const next = await certificates.issue({ commonName: "rotated", dnsNames: ["one.example.com"] });
    await writeFile(running.router.path("one.crt"), next.certificate);
    await writeFile(running.router.path("one.key"), next.key);
    await eventually(async () => (await handshake(running)).name === "rotated");
    await writeFile(running.router.path("one.key"), other.key);
    expect((await handshake(running)).name).toBe("rotated");
    over.abort();
    await load;
    expect(await overKept()).toBe(200);
    expect([...statuses]).toEqual([200]);
  });

  it("asks clients for a certificate where that is set, and takes none that is not good", async () => {
    const stranger = await (await createCertificates()).issue({ commonName: "stranger", usages: ["client"] });
    const shown = { cert: client.certificate, key: client.key };
    const strange = { cert: stranger.certificate, key: stranger.key };
    const requesting = await start({ clientCertificates: "request" });
    expect((await get(requesting)).status).toBe(200);
    expect((await get(requesting, shown)).status).toBe(200);
    await expect(get(requesting, strange)).rejects.toThrow();
    const requiring = await start({ clientCertificates: "require" });
    expect((await get(requiring, shown)).status).toBe(200);
    await expect(get(requiring)).rejects.toThrow();
    await expect(get(requiring, strange)).rejects.toThrow();
    expect((await get(https, strange)).status).toBe(200);
  });

  it("tells apps of client certificates in Gorouter's three ways", async () => {
    const shown = { cert: client.certificate, key: client.key };
    const spoofed = { headers: { [XFCC]: "spoofed" } };
    const always = await start({ clientCertificates: "request" });
    expect((await get(always, { ...shown, ...spoofed })).got[XFCC]).toBe("spoofed");
    expect((await get(always, spoofed)).got[XFCC]).toBe("spoofed");
    const plain = await always.router.client.get(always.host, "/", spoofed);
    expect(plain.json.headers[XFCC]).toBe("spoofed");

    const forward = await start({ clientCertificates: "request" }, { forwardedClientCert: "forward" });
    expect((await get(forward, { ...shown, ...spoofed })).got[XFCC]).toBe("spoofed");
    expect((await get(forward, spoofed)).got).not.toHaveProperty(XFCC);

    const set = await start({ clientCertificates: "request" }, { forwardedClientCert: "sanitize_set" });
    const der = new X509Certificate(client.certificate).raw.toString("base64");
    expect((await get(set, { ...shown, ...spoofed })).got[XFCC]).toBe(der);
    expect((await get(set, spoofed)).got).not.toHaveProperty(XFCC);
    expect((await set.router.client.get(set.host, "/", spoofed)).json.headers).not.toHaveProperty(XFCC);
  });

  it("may begin with a PROXY header, which tells the client's address", async () => {
    const proxied = await start({}, { proxyProtocol: true });
    const lines = ["GET / HTTP/1.1", `Host: ${proxied.host}`, "Connection: close"];
    const header = "PROXY TCP4 203.0.113.9 127.0.0.1 4711 80";
    expect(await rawRequest(proxied.router.port, header, ...lines)).toContain('"x-forwarded-for":"203.0.113.9"');
    expect(await rawRequest(proxied.router.port, ...lines)).toMatch(/^HTTP\/1\.1 200 OK/);
    expect(await rawRequest(https.router.port, header, ...lines)).toMatch(/^HTTP\/1\.1 400 /);
  });
});

describe("apps whose TLS is not as it should be", () => {
  let certificates: Certificates;
  let router: TestRouter;
  const servers: { close(): unknown }[] = [];

  beforeAll(async () => {
    certificates = await createCertificates();
    router = await startTestRouter({
      files: { "ca.crt": certificates.ca },
      config: (path) => ({ backends: { caFile: path("ca.crt") } }),
    });
  });
  afterAll(async () => {
    await router.stop();
    for (const server of servers) server.close();
  });

  async function answerOf(name: string, server: ReturnType<typeof createTcpServer>) {
    servers.push(server);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const ports = [{ containerPort: 8080, hostPort: 0, hostTlsPort: port }];
    const instances = [{ guid: name, address: "127.0.0.1", certSan: name, ports }];
    await router.log.append([
      { key: `process.bbs.${name}`, value: encodeProcess({ processGuid: name, instances }) },
      {
        key: `route.cc.${name}`,
        value: encodeRoute({
          guid: name,
          host: `${name}.example.com`,
          destinations: [{ processGuid: name, port: 8080, protocol: "http1" }],
        }),
      },
    ]);
    return eventually(async () => {
      const { status, headers, body } = await router.client.get(`${name}.example.com`);
      const error = String(headers["x-cf-routererror"] ?? "");
      return error === "unknown_route" ? undefined : { status, error, body: body.toString() };
    });
  }
  const speaking = ({ certificate, key }: KeyPair, options = {}) =>
    createTlsServer({ cert: certificate, key, ...options }, (socket) => {
      socket.on("error", () => undefined);
      socket.end("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
  const named = (name: string, more = {}, by = certificates) =>
    by.issue({ commonName: name, dnsNames: [name], ...more });

  it("503 for the certificate of another instance", async () => {
    const answer = await answerOf("mixed-up", speaking(await named("another")));
    expect(answer).toMatchObject({ status: 503, body: "503 Service Unavailable\n" });
    expect(answer.error).toMatch(/^endpoint_failure/);
  });

  it("526 for a certificate that is not trusted, or has ended", async () => {
    const expected = { status: 526, body: "526 Invalid SSL Certificate\n" };
    const strange = await named("strange", {}, await createCertificates());
    expect(await answerOf("strange", speaking(strange))).toMatchObject(expected);
    expect(await answerOf("ended", speaking(await named("ended", { validMs: -1_000 })))).toMatchObject(expected);
  });

  it("525 for an app that speaks no TLS", async () => {
    const plain = createTcpServer((socket) => {
      socket.on("error", () => undefined);
      socket.once("data", () => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
    });
    expect(await answerOf("no-tls", plain)).toMatchObject({ status: 525, body: "525 SSL Handshake Failed\n" });
  });

  it("496 for an app whose alert says that it wants another certificate; 502 where TLS 1.3 hides the alert", async () => {
    const alerting = createTcpServer((socket) => {
      socket.on("error", () => undefined);
      socket.once("data", () => socket.end(FATAL_BAD_CERTIFICATE));
    });
    expect(await answerOf("alerting", alerting)).toMatchObject({ status: 496, body: "496 SSL Certificate Required\n" });
    const options = { requestCert: true, rejectUnauthorized: true, ca: certificates.ca, minVersion: "TLSv1.3" };
    const answer = await answerOf("wants-one", speaking(await named("wants-one"), options));
    expect(answer).toMatchObject({ status: 502, error: expect.stringMatching(/^endpoint_failure/) as string });
  });
});
