import { X509Certificate } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { createServer } from "node:https";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createCertificates } from "../../src/emulator/certificates.js";
import { encodeRegistration } from "../../src/entries/entries.js";
import { deriveKey, sign } from "../../src/route-services/signature.js";
import { eventually } from "../support/eventually.js";
import { HttpsRouter } from "../support/https.js";
import { Instances, processEntry, routeEntry } from "../support/instances.js";

const SECRET = "the routers' secret";
const XFCC = "x-forwarded-client-cert";
const PROTO = "x-forwarded-proto";
/** What a route service sends on, of the client that it got the request of. */
const OF_CLIENT = { [XFCC]: "the client's", [PROTO]: "of-the-client" };

describe("X-Forwarded-Client-Cert and X-Forwarded-Proto with route services", () => {
  const instances = new Instances();
  /** What the route services got, the latest last. */
  const seen: IncomingHttpHeaders[] = [];
  let serviceUrl: string;
  let client: { readonly cert: string; readonly key: string };
  let clientDer: string;
  /** By their mode for X-Forwarded-Client-Cert; the first sanitizes X-Forwarded-Proto, the second forces it. */
  let setting: HttpsRouter;
  let forwarding: HttpsRouter;
  let always: HttpsRouter;
  let host: string;

  beforeAll(async () => {
    const certificates = await createCertificates();
    const [service, shown] = await Promise.all([
      certificates.issue({ commonName: "localhost", dnsNames: ["localhost"] }),
      certificates.issue({ commonName: "a client", usages: ["client"] }),
    ]);
    client = { cert: shown.certificate, key: shown.key };
    clientDer = new X509Certificate(shown.certificate).raw.toString("base64");
    const port = await instances.listen(
      createServer({ key: service.key, cert: service.certificate }, (request, response) => {
        seen.push(request.headers);
        response.end("{}");
      }),
    );
    serviceUrl = `https://localhost:${port}/`;
    const start = (forwardedClientCert: string, forwardedProto: string) =>
      HttpsRouter.start(certificates, {
        tls: (path) => ({ clientCertificates: { validation: "request", caFile: path("clients-ca.crt") } }),
        http: { forwardedClientCert, forwardedProto },
        files: { secret: SECRET },
        router: (path) => ({
          routeServices: { secretFile: path("secret"), caFile: path("clients-ca.crt"), hairpinning: true },
        }),
      });
    [setting, forwarding, always] = await Promise.all([
      start("sanitize_set", "sanitize"),
      start("forward", "https"),
      start("always_forward", "keep"),
    ]);
    [host = ""] = await Promise.all([setting, forwarding, always].map((router) => bound(router, "app", serviceUrl)));
  });
  afterAll(async () => {
    await Promise.all([setting, forwarding, always].map((router) => router.stop()));
    instances.close();
  });

  /** An app that answers with the headers it got, behind a route service. Returns its host. */
  async function bound(router: HttpsRouter, name: string, routeServiceUrl: string): Promise<string> {
    const target = `${name}.example.com`;
    await router.apps.http(name, (request, response) => response.end(JSON.stringify({ headers: request.headers })));
    const registration = { host: target, address: "127.0.0.1", port: 1, routeServiceUrl };
    await router.router.log.append([{ key: `registration.nats.${name}`, value: encodeRegistration(registration) }]);
    const before = seen.length;
    await eventually(async () => {
      await router.get(target);
      return seen.length > before;
    });
    return target;
  }

  const signed = (name = host, { secret = SECRET, ageMs = 0 } = {}) => {
    const forwardedUrl = `https://${name}/`;
    const { signature, metadata } = sign({ forwardedUrl, requestedMs: Date.now() - ageMs }, deriveKey(secret));
    return { "x-cf-proxy-signature": signature, "x-cf-proxy-metadata": metadata, "x-cf-forwarded-url": forwardedUrl };
  };
  const byTls = async (router: HttpsRouter, headers: Record<string, string>, shown = {}, target = host) => {
    const { status, got } = await router.get(target, { ...shown, headers: { ...OF_CLIENT, ...headers } });
    return { status, cert: got[XFCC], proto: got[PROTO] };
  };
  const plainly = async (router: HttpsRouter, headers: Record<string, string>) => {
    const answer = await router.router.client.get(host, "/", { headers: { ...OF_CLIENT, ...headers } });
    return { status: answer.status, cert: answer.json.headers[XFCC], proto: answer.json.headers[PROTO] };
  };
  const kept = { status: 200, cert: OF_CLIENT[XFCC], proto: OF_CLIENT[PROTO] };

  it("are sent to the route service as any app would get them", async () => {
    const sent = async (router: HttpsRouter) => {
      await router.get(host, { ...client, headers: OF_CLIENT });
      return [seen.at(-1)?.[XFCC], seen.at(-1)?.[PROTO]];
    };
    expect(await sent(setting)).toEqual([clientDer, "https"]);
    expect(await sent(forwarding)).toEqual([OF_CLIENT[XFCC], "https"]);
    expect(await sent(always)).toEqual([OF_CLIENT[XFCC], OF_CLIENT[PROTO]]);
    await setting.router.client.get(host, "/", { headers: OF_CLIENT });
    expect([seen.at(-1)?.[XFCC], seen.at(-1)?.[PROTO]]).toEqual([undefined, "http"]);
  });

  it("stay as the route service sends them on by TLS, whatever certificate it shows", async () => {
    expect(await byTls(setting, signed())).toEqual(kept);
    expect(await byTls(setting, signed(), client)).toEqual(kept);
    expect(await byTls(always, signed(), client)).toEqual(kept);
  });

  it("lose the certificate when they come back, by forward", async () => {
    for (const shown of [{}, client]) {
      expect(await byTls(forwarding, signed(), shown)).toEqual({ ...kept, cert: undefined });
    }
    expect(await plainly(forwarding, signed())).toEqual({ ...kept, cert: undefined });
  });

  it("lose the certificate that came without TLS, but not the scheme", async () => {
    expect(await plainly(setting, signed())).toEqual({ ...kept, cert: undefined });
    expect(await plainly(always, signed())).toEqual(kept);
  });

  it("are treated as a client's where the proof is not whole", async () => {
    const without = { ...signed(), "x-cf-forwarded-url": "" };
    const shown = { status: 200, cert: clientDer, proto: "https" };
    expect(await byTls(setting, without, client)).toEqual(shown);
    expect(await byTls(setting, without)).toEqual({ ...shown, cert: undefined });
    expect(await plainly(setting, without)).toEqual({ ...shown, cert: undefined, proto: "http" });
    expect(await byTls(forwarding, without, client)).toEqual({ ...shown, cert: undefined });
  });

  it("are treated as a client's on a route without a route service, unless the signature is good", async () => {
    const free = "free.example.com";
    await Promise.all(
      [setting, forwarding].map((router) =>
        router.apps.http("free", (request, response) => response.end(JSON.stringify({ headers: request.headers }))),
      ),
    );
    const shown = { status: 200, cert: clientDer, proto: "https" };
    for (const forged of [
      { "x-cf-proxy-signature": "x" },
      { "x-cf-proxy-signature": "" },
      { ...signed(), "x-cf-proxy-signature": "x" },
      signed(host, { secret: "another" }),
      signed(host, { ageMs: 61_000 }),
    ]) {
      expect(await byTls(setting, forged, client, free)).toEqual(shown);
      expect(await byTls(setting, forged, {}, free)).toEqual({ ...shown, cert: undefined });
      expect(await byTls(forwarding, forged, {}, free)).toEqual({ ...shown, cert: undefined });
      expect(await byTls(forwarding, forged, client, free)).toEqual({ ...shown, cert: OF_CLIENT[XFCC] });
    }
    expect(await byTls(setting, signed(), client, free)).toEqual(kept);
    expect(await byTls(forwarding, signed(), {}, free)).toEqual(kept);
  });

  it("are treated as a client's where there is no signature", async () => {
    const free = await setting.apps.http("unsigned", (request, response) =>
      response.end(JSON.stringify({ headers: request.headers })),
    );
    expect(await byTls(setting, {}, client, free)).toEqual({ status: 200, cert: clientDer, proto: "https" });
    expect(await byTls(setting, {}, {}, free)).toEqual({ status: 200, cert: undefined, proto: "https" });
  });

  it("stay on the very first request for a host, which waits for its route", async () => {
    const first = "first.example.com";
    const app = await instances.start("first", (request, response) =>
      response.end(JSON.stringify({ headers: request.headers })),
    );
    const registration = { host: first, address: "127.0.0.1", port: 1, routeServiceUrl: serviceUrl };
    await setting.router.log.append([
      processEntry("first", [app]),
      routeEntry("first"),
      { key: "registration.nats.first", value: encodeRegistration(registration) },
    ]);
    // Envoy tells its scopes of no request: a 404 is one that came too early, and fetches nothing.
    const answer = await eventually(async () => {
      const latest = await byTls(setting, signed(first), client, first);
      return latest.status === 404 ? undefined : latest;
    });
    expect(answer).toEqual(kept);
  });

  it("reach a route service that is an app of this router", async () => {
    const guard = await instances.start("guard", (request, response) => {
      seen.push(request.headers);
      response.end("{}");
    });
    await setting.router.log.append([processEntry("guard", [guard]), routeEntry("guard")]);
    await eventually(async () => (await setting.router.client.get("guard.example.com")).status === 200);
    const inner = await bound(setting, "inner", "https://guard.example.com/");
    await setting.get(inner, { ...client, headers: OF_CLIENT });
    expect([seen.at(-1)?.[XFCC], seen.at(-1)?.[PROTO]]).toEqual([clientDer, "https"]);
  });
});
