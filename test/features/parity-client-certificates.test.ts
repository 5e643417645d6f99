import { X509Certificate } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Certificates, createCertificates, type KeyPair } from "../../src/emulator/certificates.js";
import { eventually } from "../support/eventually.js";
import { HttpsRouter } from "../support/https.js";

const XFCC = "x-forwarded-client-cert";
const SPOOFED = { headers: { [XFCC]: "spoofed" } };

describe("certificates of clients", () => {
  let certificates: Certificates;
  /** What a client shows: one of the router's CA, and one of another. */
  let shown: { readonly cert: string; readonly key: string };
  let strange: typeof shown;
  let strangers: Certificates;
  let host: string;
  let requesting: HttpsRouter;
  let requiring: HttpsRouter;
  let telling: HttpsRouter;

  beforeAll(async () => {
    [certificates, strangers] = await Promise.all([createCertificates(), createCertificates()]);
    const client = (by: Certificates) => by.issue({ commonName: "a client", usages: ["client"] }).then(shownBy);
    [shown, strange] = await Promise.all([client(certificates), client(strangers)]);
    const start = (validation: string, forwardedClientCert: string) =>
      HttpsRouter.start(certificates, {
        tls: (path) => ({ clientCertificates: { validation, caFile: path("clients-ca.crt") } }),
        http: { forwardedClientCert },
      });
    [requesting, requiring, telling] = await Promise.all([
      start("request", "always_forward"),
      start("require", "forward"),
      start("request", "sanitize_set"),
    ]);
    [host] = await Promise.all([requesting.echo(), requiring.echo(), telling.echo()]);
  });
  afterAll(async () => Promise.all([requesting, requiring, telling].map((router) => router.stop())));

  const shownBy = ({ certificate, key }: KeyPair) => ({ cert: certificate, key });

  it("are asked for where that is set, and only good ones taken", async () => {
    expect((await requesting.get(host)).status).toBe(200);
    expect((await requesting.get(host, shown)).status).toBe(200);
    await expect(requesting.get(host, strange)).rejects.toThrow();
    expect((await requiring.get(host, shown)).status).toBe(200);
    await expect(requiring.get(host)).rejects.toThrow();
    await expect(requiring.get(host, strange)).rejects.toThrow();
  });

  it("are told to apps as the client says, by default", async () => {
    expect((await requesting.get(host, { ...shown, ...SPOOFED })).got[XFCC]).toBe("spoofed");
    expect((await requesting.get(host, SPOOFED)).got[XFCC]).toBe("spoofed");
    const plain = await requesting.router.client.get(host, "/", SPOOFED);
    expect(plain.json.headers[XFCC]).toBe("spoofed");
  });

  it("are told as the client says where it came by mutual TLS alone, by forward", async () => {
    expect((await requiring.get(host, { ...shown, ...SPOOFED })).got[XFCC]).toBe("spoofed");
    const plain = await requiring.router.client.get(host, "/", SPOOFED);
    expect(plain.json.headers).not.toHaveProperty(XFCC);
  });

  it("are told as they are, whatever the client says, by sanitize_set", async () => {
    const der = new X509Certificate(shown.cert).raw.toString("base64");
    expect((await telling.get(host, { ...shown, ...SPOOFED })).got[XFCC]).toBe(der);
    expect((await telling.get(host, SPOOFED)).got).not.toHaveProperty(XFCC);
    expect((await telling.router.client.get(host, "/", SPOOFED)).json.headers).not.toHaveProperty(XFCC);
  });

  it("may be of another CA as soon as its file says so", async () => {
    const file = requiring.router.path("clients-ca.crt");
    const before = await readFile(file, "utf8");
    await writeFile(file, `${before}\n${strangers.ca}`);
    await eventually(async () => (await requiring.get(host, strange)).status === 200);
    expect((await requiring.get(host, shown)).status).toBe(200);
    await writeFile(file, strangers.ca);
    await eventually(async () => (await requiring.get(host, shown).catch(() => "refused")) === "refused");
    expect((await requiring.get(host, strange)).status).toBe(200);
  });
});
