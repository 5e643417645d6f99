import "reflect-metadata";
import { webcrypto, X509Certificate } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { BasicConstraintsExtension, PemConverter, X509CertificateGenerator } from "@peculiar/x509";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
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

  it("must have a name that the rule of their CA allows, where there is one: 403 otherwise", async () => {
    const commonName = "Söhne, Töchter + Co. <#1>; a=b";
    const units = ["space:1", "app:2"];
    const issuer = { commonName: "cf-mesh emulated foundation CA" };
    const start = (rules: readonly object[]) =>
      HttpsRouter.start(certificates, {
        tls: (path) => ({ clientCertificates: { caFile: path("clients-ca.crt"), rules } }),
        files: { page: "<b>{{.Status}} {{.StatusText}}: {{.Message}}</b>" },
        router: (path) => ({
          http: { errorPages: { domains: [{ domain: "app.example.com", file: path("page") }] } },
        }),
      });
    const subjects = [{ commonName: "another" }, { commonName, organizationalUnit: units }];
    const ruled = await start([{ issuer, subjects }]);
    onTestFinished(() => ruled.stop());
    const target = await ruled.echo();
    const answerTo = async (name: string, organizationalUnits: readonly string[]) => {
      const pair = await certificates.issue({ commonName: name, organizationalUnits, usages: ["client"] });
      return ruled.get(target, shownBy(pair));
    };
    const statusOf = async (...name: Parameters<typeof answerTo>) => (await answerTo(...name)).status;
    expect(await statusOf(commonName, units)).toBe(200);
    expect(await statusOf("another", [])).toBe(200);
    expect(await statusOf(commonName, [...units].reverse())).toBe(403);
    expect(await statusOf(commonName, [])).toBe(403);
    expect(await statusOf("another", units)).toBe(403);
    expect((await answerTo("CN=another", [])).body).toBe(
      "<b>403 Forbidden: The client certificate is not allowed.</b>",
    );
    expect((await ruled.get(target)).status).toBe(200);
    const between = await underIntermediate();
    await writeFile(ruled.router.path("clients-ca.crt"), between.root);
    await eventually(() => ruled.router.credentials.status.refused.includes("router.tls.clientCertificates.caFile"));
    await writeFile(ruled.router.path("clients-ca.crt"), `${certificates.ca}\n${between.root}`);
    await eventually(() => ruled.router.credentials.status.refused.length === 0);
    await expect(ruled.get(target, between.shown)).rejects.toThrow();
    await writeFile(
      ruled.router.path("clients-ca.crt"),
      `${certificates.ca}\n${between.root}\n${between.intermediate}`,
    );
    await eventually(async () => (await ruled.get(target, between.shown)).status === 200);
    await expect(start([{ issuer: { commonName: "a slip" }, subjects }])).rejects.toThrow("rules.0.issuer");
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

/** A certificate whose CA has one above it, which it is shown with. */
async function underIntermediate() {
  const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const newKeys = () => webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const [top, middle, leaf] = await Promise.all([newKeys(), newKeys(), newKeys()]);
  const make = (
    name: string,
    issuer: string,
    keys: webcrypto.CryptoKeyPair,
    by: webcrypto.CryptoKeyPair,
    isCa: boolean,
  ) =>
    X509CertificateGenerator.create(
      {
        ...{ subject: `CN=${name}`, issuer: `CN=${issuer}`, publicKey: keys.publicKey, signingKey: by.privateKey },
        ...{ signingAlgorithm: algorithm, extensions: [new BasicConstraintsExtension(isCa, undefined, true)] },
      },
      webcrypto,
    );
  const root = await make("root", "root", top, top, true);
  const intermediate = await make("intermediate", "root", middle, top, true);
  const certificate = await make("client", "intermediate", leaf, middle, false);
  const key = PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", leaf.privateKey), "PRIVATE KEY");
  return {
    root: root.toString("pem"),
    intermediate: intermediate.toString("pem"),
    shown: { cert: `${certificate.toString("pem")}\n${intermediate.toString("pem")}`, key },
  };
}
