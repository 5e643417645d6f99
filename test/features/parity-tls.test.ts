import "reflect-metadata";
import { webcrypto } from "node:crypto";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import type { ClientHttp2Session } from "node:http2";
import { PemConverter, X509CertificateGenerator } from "@peculiar/x509";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { type Certificates, createCertificates, type KeyPair } from "../../src/emulator/certificates.js";
import { TlsSchema } from "../../src/config/router-tls.js";
import { eventually } from "../support/eventually.js";
import { HttpsRouter } from "../support/https.js";
import { RawConnection, rawRequest } from "../support/raw.js";

describe("HTTPS", () => {
  let certificates: Certificates;
  let https: HttpsRouter;
  let host: string;
  /** With every setting that takes something away, and PROXY headers. */
  let strict: HttpsRouter;

  beforeAll(async () => {
    certificates = await createCertificates();
    [https, strict] = await Promise.all([
      HttpsRouter.start(certificates, { names: ["one.example.com", "*.other.example.com"] }),
      HttpsRouter.start(certificates, {
        tls: () => ({ http2: false, maxVersion: "1.2", cipherSuites: ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"] }),
        http: { proxyProtocol: true },
      }),
    ]);
    [host] = await Promise.all([https.echo(), strict.echo()]);
  });
  afterAll(async () => Promise.all([https.stop(), strict.stop()]));

  async function session(): Promise<ClientHttp2Session> {
    const opened = await https.http2();
    onTestFinished(() => opened.destroy());
    return opened;
  }
  async function statusOver(opened: ClientHttp2Session): Promise<unknown> {
    const stream = opened.request({ ":path": "/", ":authority": host }).resume();
    const [headers] = (await once(stream, "response")) as [Record<string, unknown>];
    await once(stream, "close");
    return headers[":status"];
  }

  it("is HTTP/1.1 or HTTP/2, as the client wants, and says so to the app", async () => {
    expect((await https.get(host)).got).toMatchObject({ "x-forwarded-proto": "https" });
    expect((await https.router.client.get(host)).json.headers["x-forwarded-proto"]).toBe("http");
    expect(await statusOver(await session())).toBe(200);
    const offer = { ALPNProtocols: ["h2", "http/1.1"] };
    expect((await https.handshake(offer)).alpn).toBe("h2");
    expect((await strict.handshake(offer)).alpn).toBe("http/1.1");
  });

  it("carries WebSockets over HTTP/2", async () => {
    const echoing = await https.apps.tcp("sockets", (socket) => {
      socket.once("data", (head: Buffer) => {
        if (!/\r\nupgrade: websocket\r\n/i.test(head.toString("latin1"))) {
          socket.end("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
          return;
        }
        socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        socket.pipe(socket);
      });
    });
    const stream = (await session()).request(
      { ":method": "CONNECT", ":protocol": "websocket", ":scheme": "https", ":path": "/chat", ":authority": echoing },
      { endStream: false },
    );
    const [headers] = (await once(stream, "response")) as [Record<string, unknown>];
    expect(headers[":status"]).toBe(200);
    stream.write("hello");
    const [bytes] = (await once(stream, "data")) as [Buffer];
    expect(bytes.toString()).toBe("hello");
  });

  it("shows the certificate for the name that a client asks for, or the first", async () => {
    const shown = async (servername: string) => (await https.handshake({ servername })).name;
    expect(await shown("one.example.com")).toBe("one.example.com");
    expect(await shown("shop.other.example.com")).toBe("*.other.example.com");
    expect(await shown("third.example.org")).toBe("one.example.com");
    expect((await https.handshake({ servername: "" })).name).toBe("one.example.com");
  });

  it("keeps to the versions and cipher suites that are set, and to TLS 1.2 at least otherwise", async () => {
    expect((await https.handshake()).version).toBe("TLSv1.3");
    expect((await https.handshake({ maxVersion: "TLSv1.2" })).version).toBe("TLSv1.2");
    await expect(
      https.handshake({ minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "ALL@SECLEVEL=0" }),
    ).rejects.toThrow();
    const agreed = await strict.handshake();
    expect(agreed).toMatchObject({ version: "TLSv1.2", cipher: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" });
    await expect(strict.handshake({ ciphers: "ECDHE-ECDSA-AES128-GCM-SHA256" })).rejects.toThrow();
    await expect(strict.handshake({ minVersion: "TLSv1.3" })).rejects.toThrow();
    const refused = {
      keypairs: [{ certificateFile: "a", keyFile: "b" }],
      cipherSuites: ["TLS_DHE_RSA_WITH_AES_128_CBC_SHA"],
    };
    expect(() => TlsSchema.parse(refused)).toThrow(/no cipher suite.*TLS_ECDHE_RSA/);
  });

  it("may be all that there is", async () => {
    const alone = await HttpsRouter.start(certificates, { tls: () => ({ disableHttp: true }) });
    onTestFinished(() => alone.stop());
    expect((await alone.get("nowhere.example.com")).status).toBe(404);
    await expect(alone.router.client.get("nowhere.example.com")).rejects.toThrow("ECONNREFUSED");
  });

  it("takes a new certificate with no connection dropped and no request failed, and refuses what can't be used", async () => {
    const { path, credentials } = https.router;
    const [certificateFile, keyFile] = [path("one.example.com.crt"), path("one.example.com.key")];
    const opened = await session();
    const over = new AbortController();
    const statuses = new Map<unknown, number>();
    const count = (status: unknown) => statuses.set(status, (statuses.get(status) ?? 0) + 1);
    const answer = async (ask: () => Promise<unknown>) => {
      while (!over.signal.aborted) count(await ask().catch(String));
    };
    const load = [
      answer(async () => statusOver(opened)),
      answer(async () => (await https.get(host)).status),
      answer(async () => (await https.get(host, { servername: "shop.other.example.com" })).status),
    ];
    for (const commonName of ["rotated", "rotated again"]) {
      const next = await certificates.issue({ commonName, dnsNames: ["one.example.com"] });
      await writeFile(certificateFile, next.certificate);
      await writeFile(keyFile, next.key);
      await eventually(async () => (await https.handshake()).name === commonName);
    }
    const refused = (name: string) =>
      eventually(() => credentials.status.refused.includes(`router.tls.keypairs.0.${name}`));
    const goodKey = await readFile(keyFile, "utf8");
    await writeFile(keyFile, "no key");
    await refused("keyFile");
    expect((await https.handshake()).name).toBe("rotated again");
    await writeFile(keyFile, goodKey);
    await eventually(() => credentials.status.refused.length === 0);
    over.abort();
    await Promise.all(load);
    expect([...statuses.keys()]).toEqual([200]);
    expect(statuses.get(200)).toBeGreaterThan(20);
  });

  it("refuses keys that Envoy would not take, before it has them", async () => {
    const { path, credentials } = https.router;
    const [certificateFile, keyFile] = [path("other.example.com.crt"), path("other.example.com.key")];
    const good = await Promise.all([certificateFile, keyFile].map((file) => readFile(file)));
    const short = await shortKey();
    await writeFile(certificateFile, short.certificate);
    await writeFile(keyFile, short.key);
    await eventually(() => credentials.status.refused.includes("router.tls.keypairs.1.certificateFile"));
    expect((await https.handshake({ servername: "shop.other.example.com" })).name).toBe("*.other.example.com");
    await Promise.all([certificateFile, keyFile].map((file, index) => writeFile(file, good[index] ?? "")));
    await eventually(() => credentials.status.refused.length === 0);
  });

  it("may begin with a PROXY header, which tells the client's address", async () => {
    const lines = ["GET / HTTP/1.1", `Host: ${host}`, "Connection: close"];
    const header = "PROXY TCP4 203.0.113.9 127.0.0.1 4711 80";
    expect(await rawRequest(strict.router.port, header, ...lines)).toContain('"x-forwarded-for":"203.0.113.9"');
    expect(await rawRequest(strict.router.port, ...lines)).toMatch(/^HTTP\/1\.1 200 OK/);
    expect((await strict.get(host)).status).toBe(200);
    const { socket } = await RawConnection.open(strict.tlsPort);
    onTestFinished(() => void socket.destroy());
    socket.write(`${header}\r\n`);
    expect((await strict.get(host, { socket })).got["x-forwarded-for"]).toBe("203.0.113.9");
    expect(await rawRequest(https.router.port, header, ...lines)).toMatch(/^HTTP\/1\.1 400 /);
  });
});

/** RSA of 1,024 bits. */
async function shortKey(): Promise<KeyPair> {
  const algorithm = {
    ...{ name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" },
    ...{ modulusLength: 1_024, publicExponent: new Uint8Array([1, 0, 1]) },
  };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const certificate = await X509CertificateGenerator.createSelfSigned({ name: "CN=short", keys }, webcrypto);
  const key = PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey), "PRIVATE KEY");
  return { certificate: certificate.toString("pem"), key };
}
