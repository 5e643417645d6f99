import type { IncomingHttpHeaders, RequestListener } from "node:http";
import { createServer } from "node:https";
import { rename, writeFile } from "node:fs/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { encodeRegistration } from "../../src/entries/entries.js";
import { createCertificates } from "../../src/emulator/certificates.js";
import { deriveKey, sign } from "../../src/route-services/signature.js";
import { Client, type RequestOptions } from "../support/client.js";
import { eventually } from "../support/eventually.js";
import { lineOf, type LoggregatorAgent, startLoggregatorAgent } from "../support/loggregator-agent.js";
import { Instances, processEntry, routeEntry } from "../support/instances.js";
import { startTestRouter, type TestRouter } from "../support/router.js";

const SECRET = "the routers' secret";
const FORMER = "the former secret";

describe("route services", () => {
  let mesh: TestRouter;
  /** A router without a secret for route services, and one that is strict and has other defaults. */
  let without: TestRouter;
  let strict: TestRouter;
  let serviceUrl: string;
  let agent: LoggregatorAgent;
  const instances = new Instances();
  const back = { client: new Client(0) };
  /** What the route service got, the latest last. */
  const seen: { url: string; headers: IncomingHttpHeaders }[] = [];
  /** What it changes on the way back. */
  let alter: (url: URL, headers: Record<string, string>) => void = () => undefined;

  const hostOf = (name: string) => `${name}.example.com`;
  const text = (headers: IncomingHttpHeaders, name: string) => String(headers[name]);

  /** As route services do: sends the request on to where X-CF-Forwarded-Url says, with the headers of its proof. */
  const service: RequestListener = (request, response) => {
    if (request.headers["x-cf-forwarded-url"] === undefined) {
      response.end();
      return;
    }
    seen.push({ url: request.url ?? "", headers: request.headers });
    const url = new URL(text(request.headers, "x-cf-forwarded-url"));
    const headers = Object.fromEntries(
      ["x-cf-proxy-signature", "x-cf-proxy-metadata", "x-cf-forwarded-url"].map((name) => [
        name,
        text(request.headers, name),
      ]),
    );
    alter(url, headers);
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const options = { method: request.method ?? "GET", headers, body: Buffer.concat(chunks) };
      back.client.get(url.host, url.pathname + url.search, options).then(
        (answer) => {
          response.writeHead(answer.status, { ...answer.headers, "x-passed": "service" });
          response.end(answer.body);
        },
        () => response.destroy(),
      );
    });
  };

  beforeAll(async () => {
    const certificates = await createCertificates();
    const { certificate, key } = await certificates.issue({ commonName: "localhost", dnsNames: ["localhost"] });
    const port = await instances.listen(createServer({ key, cert: certificate }, service));
    serviceUrl = `https://localhost:${port}/guard/?token=a%20b`;
    const shown = await certificates.issue({ commonName: "gorouter", usages: ["client"] });
    const files = {
      secret: SECRET,
      former: FORMER,
      ca: certificates.ca,
      certificate: shown.certificate,
      key: shown.key,
    };
    const metron = await certificates.issue({ commonName: "metron", dnsNames: ["metron"] });
    agent = await startLoggregatorAgent({ clientCa: certificates.ca, server: metron });
    const section = (path: (file: string) => string) => ({
      secretFile: path("secret"),
      decryptOnlySecretFile: path("former"),
      caFile: path("ca"),
    });
    [mesh, without, strict] = await Promise.all([
      startTestRouter({
        files,
        config: (path) => ({
          routeServices: { ...section(path), hairpinning: true, timeoutMs: 20_000 },
          accessLog: {
            loggregator: {
              address: `127.0.0.1:${agent.port}`,
              caFile: path("ca"),
              certificateFile: path("certificate"),
              keyFile: path("key"),
            },
          },
        }),
      }),
      startTestRouter(),
      startTestRouter({
        files: { ...files, page: "<b>{{.Message}}</b>", "other-page": "<i>{{.Status}}</i>" },
        config: (path) => ({
          routeServices: { ...section(path), strict: true, recommendHttps: false },
          http: {
            errorPages: { file: path("page"), domains: [{ domain: "paged.example.com", file: path("other-page") }] },
          },
        }),
      }),
    ]);
    back.client = new Client(mesh.port, 20);
  });
  afterAll(async () => {
    back.client.close();
    await Promise.all([mesh, without, strict].map((router) => router.stop()));
    agent.close();
    instances.close();
  });
  beforeEach(() => {
    seen.length = 0;
    alter = () => undefined;
  });

  async function bind(name: string, routeServiceUrl = serviceUrl, router = mesh, host = hostOf(name)) {
    const [app] = await instances.startAll([name]);
    if (!app) throw new Error("an instance was started");
    await router.log.append([processEntry(name, [app], `${name}-app`), routeEntry(name, { host, routeServiceUrl })]);
  }
  const get = (name: string, path = "/", options: RequestOptions = {}) => mesh.client.get(hostOf(name), path, options);
  const knows = (name: string, router = mesh) =>
    eventually(async () => (await router.client.get(hostOf(name))).status !== 404);
  const signed = (url: string, { secret = SECRET, ageMs = 0 } = {}) => {
    const { signature, metadata } = sign({ forwardedUrl: url, requestedMs: Date.now() - ageMs }, deriveKey(secret));
    return { "x-cf-proxy-signature": signature, "x-cf-proxy-metadata": metadata, "x-cf-forwarded-url": url };
  };

  it("get the requests of a bound route, signed, and send them on to the app", async () => {
    await bind("shop");
    // The very first request, while Envoy knows nothing of the route.
    const first = await eventually(async () => {
      const answer = await get("shop", "/cart%2F1//x?y=1&z=%20", { method: "POST", body: "content" });
      return answer.status === 404 ? undefined : answer;
    });
    expect(first.status).toBe(200);
    expect(first.headers["x-passed"]).toBe("service");
    expect(first.headers["x-cf-proxy-signature"]).toBeUndefined();
    expect(seen).toHaveLength(1);
    const [{ url, headers } = { url: "", headers: {} }] = seen;
    expect(url).toBe("/guard/?token=a%20b");
    expect(headers.host).toBe(new URL(serviceUrl).host);
    expect(headers["x-cf-forwarded-url"]).toBe("https://shop.example.com/cart%2F1//x?y=1&z=%20");
    for (const name of ["x-cf-instanceid", "x-cf-applicationid", "x-cf-mesh-route-service", "x-cf-mesh-scope"]) {
      expect(headers[name], name).toBeUndefined();
    }
    expect(headers["x-forwarded-proto"]).toBe("http");
    expect(first.json.app).toBe("shop");
    expect(first.json.method).toBe("POST");
    for (const name of Object.keys(first.json.headers)) expect(name).not.toMatch(/^x-cf-(proxy|forwarded|mesh)/);
  });

  it("guard routes of wildcard hosts, from the first request on", async () => {
    await bind("wild", serviceUrl, mesh, "*.wild.example.com");
    await eventually(async () => (await get("any.wild")).status !== 404);
    expect((await get("other.wild")).headers["x-passed"]).toBe("service");
    expect(seen.length).toBeGreaterThan(0);
  });

  it("are taken from registrations, where the route itself does not tell", async () => {
    await bind("registered", "");
    await knows("registered");
    expect((await get("registered")).headers["x-passed"]).toBeUndefined();
    const registration = { host: hostOf("registered"), address: "127.0.0.1", port: 1, routeServiceUrl: serviceUrl };
    await mesh.log.append([{ key: "registration.nats.registered", value: encodeRegistration(registration) }]);
    await eventually(async () => (await get("registered")).headers["x-passed"] === "service");
    await mesh.log.append([{ key: "registration.nats.registered", value: undefined }]);
    await eventually(async () => (await get("registered")).headers["x-passed"] === undefined);
  });

  it("see nothing of other routes, which keep such headers as they are", async () => {
    await bind("free", "");
    await knows("free");
    const answer = await get("free", "/", { headers: { "x-cf-proxy-signature": "anything", "x-cf-mesh-a": "b" } });
    expect(answer.status).toBe(200);
    expect(answer.json.headers["x-cf-proxy-signature"]).toBe("anything");
    expect(seen).toHaveLength(0);
  });

  describe("a request that says it comes from one", () => {
    beforeAll(async () => {
      await bind("bound");
      await bind("another");
      await Promise.all([knows("bound"), knows("another")]);
    });

    it("is served when its signature is good, also one of the former secret", async () => {
      for (const secret of [SECRET, FORMER]) {
        const answer = await get("bound", "/x", { headers: signed("https://bound.example.com/y", { secret }) });
        expect([answer.status, seen.length]).toEqual([200, 0]);
      }
    });

    const REFUSED = "Failed to validate Route Service Signature: ";
    it.each([
      ["was tampered with", 502, "invalid_route_service_signature", () => ({ secret: "another" })],
      ["is too old", 504, "expired_route_service_signature", () => ({ ageMs: 21_000 })],
    ])("is refused when its signature %s", async (_, status, error, made) => {
      const answer = await get("bound", "/", { headers: signed("https://bound.example.com/", made()) });
      expect([answer.status, answer.headers["x-cf-routererror"]]).toEqual([status, error]);
      expect(answer.body.toString()).toContain(REFUSED);
      expect(seen).toHaveLength(0);
    });

    it("is refused when the signature is no signature, or another route's", async () => {
      const headers = signed("https://bound.example.com/");
      for (const wrong of [
        { ...headers, "x-cf-proxy-signature": "x" },
        { ...headers, "x-cf-proxy-metadata": "x" },
        { "x-cf-proxy-signature": headers["x-cf-proxy-signature"] },
        signed("https://another.example.com/"),
        signed("https://unknown.example.com/"),
        signed("no URL"),
      ]) {
        const answer = await get("bound", "/", { headers: wrong });
        expect([answer.status, answer.body.toString().startsWith(`502 Bad Gateway: ${REFUSED}`)]).toEqual([502, true]);
      }
      expect((await get("bound", "/", { headers: { "x-cf-proxy-signature": "" } })).headers["x-passed"]).toBe(
        "service",
      );
    });

    it("can't choose the service, nor have itself signed", async () => {
      const headers = { "x-cf-mesh-route-service": "https://evil.example.com/", "x-cf-forwarded-url": "https://a.b/" };
      expect((await get("bound", "/", { headers })).headers["x-passed"]).toBe("service");
      expect(seen[0]?.headers["x-cf-forwarded-url"]).toBe("https://bound.example.com/");
      const both = { ...headers, ...signed("https://bound.example.com/", { secret: "another" }) };
      expect((await get("bound", "/", { headers: both })).status).toBe(502);
    });
  });

  it("are counted apart from apps", async () => {
    await bind("counted");
    await knows("counted");
    const served = async () => {
      const metrics = (await mesh.router.metrics()).split("\n");
      const value = (name: string) => Number(metrics.find((line) => line.startsWith(`${name} `))?.split(" ")[1] ?? 0);
      return [value('responses_route_services{status_group="2xx"}'), value('responses{status_group="2xx"}')];
    };
    const [sent = 0, answered = 0] = await served();
    await get("counted");
    await eventually(async () => {
      const [sentNow = 0, answeredNow = 0] = await served();
      return sentNow > sent && answeredNow > answered;
    });
  });

  it("are no app: a request has one line in its app's log, that of its way back", async () => {
    await bind("logged");
    await knows("logged");
    for (const mark of ["once", "after"]) await get("logged", `/${mark}`);
    await agent.envelopeOf("/after");
    const once = agent.envelopes.map(lineOf).filter((line) => line.includes("/once"));
    expect(once).toHaveLength(1);
    expect(once[0]).toContain('app_id:"logged-app" app_index:"0"');
  });

  it("are refused WebSockets", async () => {
    await bind("socket");
    await knows("socket");
    const answer = await get("socket", "/", { headers: { connection: "upgrade", upgrade: "WebSocket" } });
    expect([answer.status, answer.headers["x-cf-routererror"]]).toEqual([503, "route_service_unsupported"]);
    expect(answer.headers["content-type"]).toBe("text/plain; charset=utf-8");
    expect(answer.body.toString()).toBe(
      "503 Service Unavailable: Websocket requests are not supported for routes bound to Route Services.\n",
    );
  });

  it("that can't be reached, or show a bad certificate, get no request: 502 or 526", async () => {
    await bind("gone", "https://localhost:1/");
    await bind("wrong-name", serviceUrl.replace("localhost", "127.0.0.1"));
    for (const [name, status] of [
      ["gone", 502],
      ["wrong-name", 526],
    ] as const) {
      await knows(name);
      const answer = await get(name);
      expect([answer.status, seen.length]).toEqual([status, 0]);
    }
  });

  it("that are apps of this router are reached without leaving it", async () => {
    const inner = await instances.start("inner-service", service);
    await mesh.log.append([processEntry("inner", [inner]), routeEntry("inner")]);
    await knows("inner");
    await bind("hairpin", "https://inner.example.com/guard");
    await knows("hairpin");
    seen.length = 0;
    const answer = await get("hairpin", "/x");
    expect([answer.status, answer.headers["x-passed"], answer.json.app]).toEqual([200, "service", "hairpin"]);
    expect(seen[0]?.url).toBe("/guard");
  });

  it("are unsupported by a router without a secret", async () => {
    await bind("off", serviceUrl, without);
    await knows("off", without);
    const answer = await without.client.get(hostOf("off"));
    expect([answer.status, answer.headers["x-cf-routererror"]]).toEqual([502, "route_service_unsupported"]);
    expect(answer.body.toString()).toBe("502 Bad Gateway: Support for route services is disabled.\n");
  });

  it("on a strict router: signatures are checked on every route", async () => {
    await bind("plain", "", strict);
    await knows("plain", strict);
    const status = async (headers: Record<string, string>) => {
      const answer = await strict.client.get(hostOf("plain"), "/", { headers });
      return [answer.status, answer.headers["x-cf-routererror"]];
    };
    const url = "https://plain.example.com/";
    expect(await status(signed(url))).toEqual([200, undefined]);
    expect(await status(signed(url, { secret: "another" }))).toEqual([400, "invalid_route_service_signature"]);
    expect(await status(signed(url, { ageMs: 61_000 }))).toEqual([504, "expired_route_service_signature"]);
  });

  it("have their errors shown as pages, those of the client's domain", async () => {
    const asked = async (host: string, headers: Record<string, string> = {}) =>
      eventually(async () => {
        const { status, body } = await strict.client.get(host, "/", { headers });
        return status === 404 ? undefined : body.toString();
      });
    await bind("page", serviceUrl, strict);
    const tampered = signed("https://page.example.com/", { secret: "another" });
    expect(await asked(hostOf("page"), tampered)).toBe(
      "<b>Failed to validate Route Service Signature: message authentication failed</b>",
    );
    await bind("unreachable", "https://localhost:1/", strict);
    expect(await asked(hostOf("unreachable"))).toBe("<b>Registered endpoint failed to handle the request.</b>");
    await bind("paged", "https://localhost:1/", strict, "shop.paged.example.com");
    expect(await asked("shop.paged.example.com")).toBe("<i>502</i>");
    await bind("elsewhere", "https://none.paged.example.com:1/", strict);
    expect(await asked(hostOf("elsewhere"))).toMatch(/^<b>/);
  });

  it("go on with a new secret that takes the former's place", async () => {
    await bind("rotated");
    await knows("rotated");
    await writeFile(mesh.path("secret.new"), "the next secret\n");
    await rename(mesh.path("secret.new"), mesh.path("secret"));
    const headers = signed("https://rotated.example.com/", { secret: "the next secret" });
    await eventually(async () => (await get("rotated", "/", { headers })).status === 200);
    expect((await get("rotated")).headers["x-passed"]).toBe("service");
    expect((await get("rotated", "/", { headers: signed("https://rotated.example.com/") })).status).toBe(502);
  });

  it("without the agent: no request of a bound route passes, those of others do", async () => {
    await bind("closed");
    await bind("open", "");
    await Promise.all([knows("closed"), knows("open")]);
    seen.length = 0;
    await mesh.restartAgent(async () => {
      const answer = await get("closed");
      expect([answer.status, answer.headers["x-cf-routererror"]]).toEqual([503, "route_service_unavailable"]);
      expect((await get("closed", "/", { headers: signed("https://closed.example.com/") })).status).toBe(503);
      expect((await get("open")).status).toBe(200);
      expect(seen).toHaveLength(0);
    });
    await eventually(async () => (await get("closed")).headers["x-passed"] === "service");
  });
});
