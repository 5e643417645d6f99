import { once } from "node:events";
import { createServer as createHttp, type Server } from "node:http";
import { createSecureServer } from "node:http2";
import { createServer as createHttps } from "node:https";
import type { AddressInfo } from "node:net";
import { TLSSocket } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createCertificates, type Certificates, type KeyPair } from "../../src/emulator/certificates.js";
import { encodeProcess, encodeRegistration, encodeRoute } from "../../src/entries/entries.js";
import { eventually } from "../support/eventually.js";
import { startTestRouter, type TestRouter } from "../support/router.js";

/** An app's instance as it runs: what it shows, and what it was asked. */
interface App {
  readonly port: number;
  /** Requests that it got. */
  count(): number;
}

describe("TLS to apps", () => {
  let certificates: Certificates;
  let mesh: TestRouter;
  const servers: { close(): unknown; closeAllConnections?(): void }[] = [];

  beforeAll(async () => {
    certificates = await createCertificates();
    const own = await certificates.issue({ commonName: "the router", usages: ["client"] });
    mesh = await startTestRouter({
      files: { "ca.crt": certificates.ca, "router.crt": own.certificate, "router.key": own.key },
      config: (path) => ({
        backends: { caFile: path("ca.crt"), certificateFile: path("router.crt"), keyFile: path("router.key") },
      }),
    });
  });
  afterAll(async () => {
    await mesh.stop();
    for (const server of servers) {
      server.close();
      server.closeAllConnections?.();
    }
  });

  const issue = (name: string, by = certificates) => by.issue({ commonName: name, dnsNames: [name] });

  async function listen(server: Server | ReturnType<typeof createSecureServer>): Promise<App> {
    let count = 0;
    server.on("request", () => (count += 1));
    servers.push(server);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return { port: (server.address() as AddressInfo).port, count: () => count };
  }

  /** Answers with what it saw of the connection. */
  const secureApp = ({ certificate, key }: KeyPair, name = "secure") =>
    listen(
      createHttps({ cert: certificate, key, requestCert: true, rejectUnauthorized: false }, (request, response) => {
        const { socket } = request;
        if (!(socket instanceof TLSSocket)) throw new Error("an HTTPS server has TLS sockets");
        const peer = socket.getPeerCertificate();
        const body = { app: name, sni: socket.servername, peer: peer.subject.CN, tls: socket.getProtocol() };
        response.end(JSON.stringify(body));
      }),
    );
  const plainApp = (name = "plain") =>
    listen(createHttp((_request, response) => response.end(JSON.stringify({ app: name }))));

  const route = (name: string, protocol = "http1") => ({
    key: `route.cc.${name}`,
    value: encodeRoute({
      guid: name,
      host: `${name}.example.com`,
      destinations: [{ processGuid: name, port: 8080, protocol }],
    }),
  });
  const process = (name: string, ...instances: { san?: string; tls?: number; plain?: number }[]) => ({
    key: `process.bbs.${name}`,
    value: encodeProcess({
      processGuid: name,
      instances: instances.map(({ san = "", tls = 0, plain = 0 }) => ({
        guid: san,
        address: "127.0.0.1",
        certSan: san,
        ports: [{ containerPort: 8080, hostPort: plain, hostTlsPort: tls }],
      })),
    }),
  });
  const get = (name: string, method = "GET") => mesh.client.get(`${name}.example.com`, "/", { method });
  const json = async (name: string) => JSON.parse((await get(name)).body.toString()) as Record<string, string>;
  const serves = (name: string) => eventually(async () => (await get(name)).status === 200);

  it("asks an instance for the certificate of its guid, shows the router's own, and prefers TLS to plain text", async () => {
    const plain = await plainApp();
    const app = await secureApp(await issue("instance-1"));
    await mesh.log.append([route("good"), process("good", { san: "instance-1", tls: app.port, plain: plain.port })]);
    await serves("good");
    expect(await json("good")).toEqual({ app: "secure", sni: "instance-1", peer: "the router", tls: "TLSv1.3" });
    expect(plain.count()).toBe(0);
  });

  it("never sends a request to an instance with another's certificate: the request goes to the next", async () => {
    const good = await secureApp(await issue("instance-2"), "good");
    const stranger = await secureApp(await issue("stranger"), "stranger");
    await mesh.log.append([
      route("mixed-up"),
      process("mixed-up", { san: "instance-2", tls: good.port }, { san: "instance-3", tls: stranger.port }),
    ]);
    await serves("mixed-up");
    const before = good.count();
    for (let sent = 0; sent < 20; sent += 1) {
      expect((await get("mixed-up", sent % 2 === 0 ? "GET" : "POST")).status).toBe(200);
    }
    expect(good.count() - before).toBe(20);
    expect(stranger.count()).toBe(0);
  });

  it("answers 503 or 526 when no instance has the certificate of its guid, or one of the CA", async () => {
    const stranger = await secureApp(await issue("stranger"));
    const foreign = await secureApp(await issue("instance-5", await createCertificates()));
    await mesh.log.append([
      route("only-bad"),
      process("only-bad", { san: "instance-4", tls: stranger.port }, { san: "instance-5", tls: foreign.port }),
    ]);
    await eventually(async () => (await get("only-bad")).status !== 404);
    // The last instance that was tried decides.
    for (const method of ["GET", "POST"]) expect([503, 526]).toContain((await get("only-bad", method)).status);
    expect(stranger.count() + foreign.count()).toBe(0);
  });

  it("takes nobody for the instance that ran at its address before", async () => {
    const app = await secureApp(await issue("instance-6"));
    await mesh.log.append([route("reused"), process("reused", { san: "instance-6", tls: app.port })]);
    await serves("reused");
    await mesh.log.append([process("reused", { san: "instance-7", tls: app.port })]);
    await eventually(async () => (await get("reused")).status === 503);
    const count = app.count();
    expect((await get("reused")).status).toBe(503);
    expect(app.count()).toBe(count);
    await mesh.log.append([process("reused", { san: "instance-6", tls: app.port })]);
    await serves("reused");
  });

  it("reaches instances in plain text and by TLS behind one route", async () => {
    const secure = await secureApp(await issue("instance-8"));
    const plain = await plainApp();
    await mesh.log.append([
      route("both"),
      process("both", { san: "instance-8", tls: secure.port }, { plain: plain.port }),
    ]);
    await serves("both");
    expect(await mesh.client.shares("both.example.com", { count: 20 })).toEqual({ secure: 10, plain: 10 });
  });

  it("speaks HTTP/2 over TLS with destinations of http2", async () => {
    const { certificate, key } = await issue("instance-9");
    const server = createSecureServer({ cert: certificate, key }, (request, response) => {
      response.end(JSON.stringify({ app: request.httpVersion }));
    });
    const app = await listen(server);
    await mesh.log.append([route("h2", "http2"), process("h2", { san: "instance-9", tls: app.port })]);
    await serves("h2");
    expect((await json("h2"))["app"]).toBe("2.0");
  });

  it("checks what NATS registers in the same way, and by the CA alone where no name is registered", async () => {
    const named = await secureApp(await issue("instance-10"), "named");
    const unnamed = await secureApp(await issue("whoever"), "unnamed");
    const foreign = await secureApp(await issue("whoever", await createCertificates()), "foreign");
    const registration = (name: string, port: number, certSan: string) => ({
      key: `registration.nats.${name}-${port}`,
      value: encodeRegistration({
        host: `${name}.example.com`,
        address: "127.0.0.1",
        port,
        tls: true,
        certSan,
        protocol: "http1",
      }),
    });
    await mesh.log.append([
      registration("registered", named.port, "instance-10"),
      registration("registered", unnamed.port, ""),
      registration("refused", foreign.port, ""),
      registration("refused", unnamed.port, "instance-11"),
    ]);
    await serves("registered");
    expect(await mesh.client.shares("registered.example.com", { count: 20 })).toEqual({ named: 10, unnamed: 10 });
    await eventually(async () => [503, 526].includes((await get("refused")).status));
    expect(foreign.count()).toBe(0);
  });

  it("is left where the router has no CA: what has a plain port is reached there, the rest is not", async () => {
    const plain = await plainApp();
    const secure = await secureApp(await issue("instance-12"));
    const other = await startTestRouter();
    try {
      await other.log.append([
        route("with-plain"),
        process("with-plain", { san: "instance-12", tls: secure.port, plain: plain.port }),
        route("tls-only"),
        process("tls-only", { san: "instance-12", tls: secure.port }),
      ]);
      const status = async (name: string) => (await other.client.get(`${name}.example.com`)).status;
      await eventually(async () => (await status("with-plain")) === 200);
      await eventually(async () => (await status("tls-only")) === 503);
      expect(secure.count()).toBe(0);
    } finally {
      await other.stop();
    }
  });

  it("is refused at the start with files that are no certificates, each named by its key", async () => {
    const own = await issue("router");
    const stranger = await issue("stranger");
    const start = (files: Record<string, string>) =>
      startTestRouter({
        files,
        config: (path) => ({
          backends: { caFile: path("ca"), certificateFile: path("certificate"), keyFile: path("key") },
        }),
      });
    const good = { ca: certificates.ca, certificate: own.certificate, key: own.key };
    await expect(start({ ...good, ca: "no certificate" })).rejects.toThrow("router.backends.caFile");
    await expect(start({ ...good, key: stranger.key })).rejects.toThrow("router.backends.keyFile");
  });
});
