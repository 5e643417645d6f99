import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { encodeProcess, encodeRegistration, encodeRoute } from "../../src/entries/entries.js";
import { eventually } from "../support/eventually.js";
import { RawConnection, rawRequest } from "../support/raw.js";
import { startTestRouter, type TestRouter } from "../support/router.js";
import { TestApps } from "../support/test-apps.js";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

describe("headers", () => {
  let router: TestRouter;
  let apps: TestApps;
  let host: string;
  const others: { readonly router: TestRouter; readonly apps: TestApps }[] = [];

  beforeAll(async () => {
    router = await startTestRouter();
    apps = new TestApps(router);
    host = await echo(apps);
  });
  afterAll(async () => {
    await apps.close();
    await router.stop();
    for (const other of others) {
      await other.apps.close();
      await other.router.stop();
    }
  });

  /** Answers with the headers that it got, and those that "x-answer" has as JSON. */
  const echo = (where: TestApps, name = "echo") =>
    where.http(name, (request, response) => {
      const extra = JSON.parse(String(request.headers["x-answer"] ?? "{}")) as Record<string, string>;
      for (const [key, value] of Object.entries(extra)) response.setHeader(key, value);
      response.end(JSON.stringify({ headers: request.headers }));
    });
  async function withHttp(http: object): Promise<{ readonly router: TestRouter; readonly host: string }> {
    const other = await startTestRouter({ config: () => ({ http }) });
    const otherApps = new TestApps(other);
    others.push({ router: other, apps: otherApps });
    return { router: other, host: await echo(otherApps) };
  }
  const ask = async (headers: Record<string, string> = {}, to = { router, host }) => {
    const answer = await to.router.client.get(to.host, "/", { headers });
    return { got: answer.json.headers, answer: answer.headers };
  };

  it("tell the app which of its instances it is, whatever a client says", async () => {
    const { got } = await ask({
      "X-CF-ApplicationID": "spoofed",
      "X-CF-InstanceID": "spoofed",
      "X-CF-InstanceIndex": "9",
    });
    expect(got).toMatchObject({
      "x-cf-applicationid": "echo-app",
      "x-cf-instanceid": "echo-0",
      "x-cf-instanceindex": "0",
    });
  });

  it("name an endpoint that has no instance guid by its address", async () => {
    const server = createServer((request, response) => response.end(JSON.stringify({ headers: request.headers })));
    onTestFinished(() => void server.close());
    await once(server.listen(0, "127.0.0.1"), "listening");
    const { port } = server.address() as AddressInfo;
    const fields = { host: "bare.example.com", address: "127.0.0.1", port };
    await router.log.append([{ key: "registration.nats.bare", value: encodeRegistration(fields) }]);
    await eventually(async () => (await router.client.get("bare.example.com")).status === 200);
    const spoofed = { "X-CF-ApplicationID": "spoofed", "X-CF-InstanceIndex": "spoofed" };
    const { got } = await ask(spoofed, { router, host: "bare.example.com" });
    expect(got).toMatchObject({
      "x-cf-applicationid": "",
      "x-cf-instanceid": `127.0.0.1:${port}`,
      "x-cf-instanceindex": "",
    });
    server.closeAllConnections();
  });

  it("tell of the instance that is at an address now, not of the one that was", async () => {
    const server = createServer((request, response) => response.end(JSON.stringify({ headers: request.headers })));
    onTestFinished(() => void server.close());
    await once(server.listen(0, "127.0.0.1"), "listening");
    const ports = [{ containerPort: 8080, hostPort: (server.address() as AddressInfo).port }];
    await apps.at("taken", []);
    for (const index of [7, 0, 8]) {
      const instances = [{ guid: `taken-${index}`, index, address: "127.0.0.1", ports }];
      const value = encodeProcess({ processGuid: "taken", appGuid: "taken-app", instances });
      await router.log.append([{ key: "process.bbs.taken", value }]);
      await eventually(async () => {
        const answer = await router.client.get("taken.example.com");
        if (answer.status !== 200) return false;
        const { headers } = answer.json;
        return headers["x-cf-instanceid"] === `taken-${index}` && headers["x-cf-instanceindex"] === String(index);
      });
    }
    server.closeAllConnections();
  });

  it("tell each instance of a route of several apps its own app", async () => {
    const answering = (name: string) =>
      apps.http(name, (request, response) => response.end(JSON.stringify({ headers: request.headers })));
    await Promise.all(["canary", "stable"].map(answering));
    const destinations = ["canary", "stable"].map((name) => ({
      processGuid: name,
      appGuid: `${name}-app`,
      port: 8080,
      protocol: "http1",
    }));
    const value = encodeRoute({ guid: "both", host: "both.example.com", destinations });
    await router.log.append([{ key: "route.cc.both", value }]);
    const seen = new Set<string>();
    await eventually(async () => {
      const { got } = await ask({ "X-CF-ApplicationID": "spoofed" }, { router, host: "both.example.com" });
      seen.add(`${got["x-cf-applicationid"]} ${got["x-cf-instanceid"]}`);
      return seen.size > 1;
    });
    expect([...seen].sort()).toEqual(["canary-app canary-0", "stable-app stable-0"]);
  });

  it("have an id for each request, the same for the app and the client, and never the client's own", async () => {
    const first = await ask({ "X-Vcap-Request-Id": "mine" });
    const second = await ask();
    expect(first.got["x-vcap-request-id"]).toMatch(UUID);
    expect(first.answer["x-vcap-request-id"]).toBe(first.got["x-vcap-request-id"]);
    expect(second.got["x-vcap-request-id"]).not.toBe(first.got["x-vcap-request-id"]);
    const own = await ask({ "x-answer": '{"X-Vcap-Request-Id":"the-apps"}' });
    expect(own.answer["x-vcap-request-id"]).toBe("the-apps");
  });

  it("say when the request came, in milliseconds, unless it says so itself", async () => {
    const before = Date.now();
    const { got } = await ask();
    expect(Number(got["x-request-start"])).toBeGreaterThanOrEqual(before);
    expect(Number(got["x-request-start"])).toBeLessThanOrEqual(Date.now());
    expect((await ask({ "X-Request-Start": "42" })).got["x-request-start"]).toBe("42");
  });

  it("add the client's address to X-Forwarded-For, and keep X-Forwarded-Proto", async () => {
    const { got } = await ask({ "X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https" });
    expect(got["x-forwarded-for"]).toMatch(/^203\.0\.113\.7, ?[0-9.]+$/);
    expect(got["x-forwarded-proto"]).toBe("https");
    expect((await ask()).got["x-forwarded-proto"]).toBe("http");
  });

  it("replace X-Forwarded-Proto, or say https always, where that is set", async () => {
    const sanitizing = await withHttp({ forwardedProto: "sanitize" });
    expect((await ask({ "X-Forwarded-Proto": "https" }, sanitizing)).got["x-forwarded-proto"]).toBe("http");
    const forcing = await withHttp({ forwardedProto: "https" });
    expect((await ask({ "X-Forwarded-Proto": "http" }, forcing)).got["x-forwarded-proto"]).toBe("https");
    expect((await ask({}, forcing)).got["x-forwarded-proto"]).toBe("https");
  });

  it("have nothing of Envoy's, in either direction; what the client and the app say goes through as it is", async () => {
    const { got, answer } = await ask({
      "X-Request-Id": "the-clients",
      "x-answer": '{"Server":"app/1","X-Powered-By":"me"}',
    });
    const names = [...Object.keys(got), ...Object.keys(answer)];
    expect(names.filter((name) => name.startsWith("x-envoy") || name.startsWith("x-cf-mesh"))).toEqual([]);
    expect(got["x-request-id"]).toBe("the-clients");
    expect(got["host"]).toBe(host);
    expect(answer).toMatchObject({ server: "app/1", "x-powered-by": "me" });
    expect((await ask()).answer).not.toHaveProperty("server");
    expect((await ask()).got).not.toHaveProperty("x-request-id");
  });

  it("never let a route service's signature out, and rewrite answers as is set", async () => {
    const { answer } = await ask({ "x-answer": '{"X-CF-Proxy-Signature":"secret"}' });
    expect(answer).not.toHaveProperty("x-cf-proxy-signature");
    const rewriting = await withHttp({
      responses: { remove: ["x-powered-by"], addIfAbsent: [{ name: "x-frame-options", value: "100%" }] },
    });
    const rewritten = await ask({ "x-answer": '{"X-Powered-By":"me"}' }, rewriting);
    expect(rewritten.answer).not.toHaveProperty("x-powered-by");
    expect(rewritten.answer).toMatchObject({ "x-frame-options": "100%" });
    const own = await ask({ "x-answer": '{"X-Frame-Options":"deny"}' }, rewriting);
    expect(own.answer["x-frame-options"]).toBe("deny");
  });

  it("tell who served a request that knows the trace key, and nobody else", async () => {
    const tracing = await withHttp({ traceKey: "22" });
    const { answer } = await ask({ "X-Vcap-Trace": "22" }, tracing);
    expect(answer["x-vcap-router"]).toBe("127.0.0.1");
    expect(answer["x-vcap-backend"]).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(answer["x-cf-routeendpoint"]).toBe(answer["x-vcap-backend"]);
    for (const key of ["23", "", "222"]) {
      expect((await ask({ "X-Vcap-Trace": key }, tracing)).answer).not.toHaveProperty("x-vcap-backend");
    }
    expect((await ask({ "X-Vcap-Trace": "22" })).answer).not.toHaveProperty("x-vcap-backend");
  });

  it("warn of a semicolon in the URL, which is served all the same", async () => {
    const answer = await router.client.get(host, "/a;b?c=1;d=2");
    expect(answer.status).toBe(200);
    expect(answer.headers["x-cf-routererror"]).toBe("deprecated-semicolon-params");
    expect((await ask()).answer).not.toHaveProperty("x-cf-routererror");
  });

  it("are taken out that the client names in Connection", async () => {
    const connection = await RawConnection.open(router.port);
    onTestFinished(() => connection.close());
    const ofHop = ["Proxy-Authorization: Basic eDp5", "Proxy-Connection: keep-alive", "Keep-Alive: timeout=5"];
    const named = ["Connection: X-Secret", "X-Secret: 1", "X-Kept: 1", "TE: trailers"];
    connection.send("GET / HTTP/1.1", `Host: ${host}`, ...named, ...ofHop, "");
    const answer = await connection.until(/\}\}$/m);
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(answer).not.toContain("x-secret");
    expect(answer).toContain('"x-kept":"1"');
    for (const name of ["proxy-authorization", "proxy-connection", "keep-alive"]) {
      expect(answer, name).not.toContain(`"${name}"`);
    }
    expect(answer).toContain('"te":"trailers"');
    connection.send("GET / HTTP/1.1", `Host: ${host}`, "Connection: X-Forwarded-For", "");
    expect(await connection.until(/HTTP\/1\.1 400 Bad Request/)).toBeDefined();
  });

  it("have their names in lower case, whatever the client or the app wrote", async () => {
    const raw = await apps.http("raw", (request, response) => {
      response.setHeader("X-Answer-Name", "1");
      response.end(JSON.stringify(request.rawHeaders));
    });
    const answer = await rawRequest(
      router.port,
      "GET / HTTP/1.1",
      `Host: ${raw}`,
      "X-Some-Name: 1",
      "Connection: close",
    );
    expect(answer).toContain("\r\nx-answer-name: 1\r\n");
    expect(answer).toContain('"x-some-name","1"');
    expect(answer).not.toMatch(/X-Vcap-Request-Id|X-Request-Start/);
  });

  it("carry traces of B3, new ones and those that are there", async () => {
    const b3 = await withHttp({ traceHeaders: { b3: true } });
    const { got } = await ask({}, b3);
    expect(got["x-b3-traceid"]).toMatch(/^[0-9a-f]{32}$/);
    expect(got["x-b3-spanid"]).toMatch(/^[0-9a-f]{16}$/);
    expect(got["b3"]).toBe(`${got["x-b3-traceid"] ?? ""}-${got["x-b3-spanid"] ?? ""}`);
    expect(got["x-vcap-request-id"]?.replaceAll("-", "")).toBe(got["x-b3-traceid"]);
    const [trace, span] = ["463ac35c9f6413ad48485a3953bb6124", "a2fb4a1d1a96d312"];
    const there = await ask({ "X-B3-TraceId": trace, "X-B3-SpanId": span }, b3);
    expect(there.got).toMatchObject({ "x-b3-traceid": trace, "x-b3-spanid": span, b3: `${trace}-${span}` });
    expect(there.got["x-vcap-request-id"]).toBe("463ac35c-9f64-13ad-4848-5a3953bb6124");
    const parent = "05e3ac9a4f6e3b90";
    const whole = { "x-b3-traceid": trace, "x-b3-spanid": span, "x-b3-sampled": "true", "x-b3-parentspanid": parent };
    expect((await ask(whole, b3)).got["b3"]).toBe(`${trace}-${span}-1-${parent}`);
    expect((await ask({ ...whole, "x-b3-flags": "1" }, b3)).got["b3"]).toBe(`${trace}-${span}-d-${parent}`);
    // What is there stays as it is, good or not.
    for (const sent of [{ b3: `${trace}-${span}-1` }, { b3: "0" }, { "x-b3-traceid": "no", "x-b3-spanid": "trace" }]) {
      const kept = (await ask(sent, b3)).got;
      expect(Object.fromEntries(Object.entries(kept).filter(([name]) => name.includes("b3")))).toEqual(sent);
    }
    const half = (await ask({ "x-b3-traceid": trace.slice(16), "x-b3-spanid": span }, b3)).got;
    expect([half["b3"], half["x-vcap-request-id"]]).toEqual([
      `${trace.slice(16)}-${span}`,
      expect.not.stringContaining("00000000-0000") as string,
    ]);
    expect(await ask()).not.toHaveProperty("got.b3");
  });

  it("carry traces of W3C: a new span in the client's trace, first in the state", async () => {
    const w3c = await withHttp({ traceHeaders: { w3c: true, w3cTenantId: "tenant" } });
    const { got } = await ask({}, w3c);
    const [, newTrace = "", newSpan = ""] =
      /^00-([0-9a-f]{32})-([0-9a-f]{16})-01$/.exec(got["traceparent"] ?? "") ?? [];
    expect(newTrace).not.toBe("");
    expect(got["tracestate"]).toBe(`tenant@gorouter=${newSpan}`);
    const trace = "463ac35c9f6413ad48485a3953bb6124";
    const sent = {
      traceparent: `00-${trace}-a2fb4a1d1a96d312-00`,
      tracestate: "other=1, tenant@gorouter=old,third=x",
    };
    const there = await ask(sent, w3c);
    const [, span = ""] =
      /^00-463ac35c9f6413ad48485a3953bb6124-([0-9a-f]{16})-00$/.exec(there.got["traceparent"] ?? "") ?? [];
    expect(span).not.toBe("");
    expect(there.got["tracestate"]).toBe(`tenant@gorouter=${span},other=1,third=x`);
    const long = await ask({ ...sent, tracestate: `other=${"x".repeat(2_048)}` }, w3c);
    expect(long.got["tracestate"]).toMatch(/^tenant@gorouter=[0-9a-f]{16}$/);
    const nearly = await ask({ ...sent, tracestate: `other=${"x".repeat(2_030)},no entry` }, w3c);
    expect(nearly.got["tracestate"]).toMatch(/^tenant@gorouter=[0-9a-f]{16},other=x{2030}$/);
    expect((await ask({ ...sent, traceparent: "01-broken" }, w3c)).got["traceparent"]).toMatch(/^00-[0-9a-f]{32}-/);
    const next = await ask({ ...sent, traceparent: `01-${trace.toUpperCase()}-a2fb4a1d1a96d312-01` }, w3c);
    expect(next.got["traceparent"]).toMatch(new RegExp(`^00-${trace}-[0-9a-f]{16}-01$`));
  });

  it("carry traces of both kinds: a new one is the same, and the request has the id of B3's", async () => {
    const both = await withHttp({ traceHeaders: { b3: true, w3c: true } });
    const { got } = await ask({}, both);
    expect(got["traceparent"]).toBe(`00-${got["b3"] ?? ""}-01`);
    const [trace, other, span] = [
      "463ac35c9f6413ad48485a3953bb6124",
      "0af7651916cd43dd8448eb211c80319c",
      "a2fb4a1d1a96d312",
    ];
    const ofB3 = await ask({ b3: `${trace}-${span}` }, both);
    expect(ofB3.got["traceparent"]).toBe(`00-${trace}-${span}-01`);
    const ofEach = await ask({ b3: `${trace}-${span}`, traceparent: `00-${other}-${span}-01` }, both);
    expect(ofEach.got["traceparent"]).toMatch(new RegExp(`^00-${other}-`));
    expect(ofEach.got["x-vcap-request-id"]).toBe("463ac35c-9f64-13ad-4848-5a3953bb6124");
  });

  it("lead to spans of the router at an OTLP collector", async () => {
    const exports: { readonly url: string; readonly body: Buffer }[] = [];
    const collector = createServer((request, response) => {
      void buffer(request).then((body) => {
        exports.push({ url: request.url ?? "", body });
        response.end();
      });
    });
    await once(collector.listen(0, "127.0.0.1"), "listening");
    onTestFinished(() => {
      collector.closeAllConnections();
      collector.close();
    });
    const { port } = collector.address() as AddressInfo;
    const url = `http://127.0.0.1:${port}/v1/traces`;
    const spans = await withHttp({ spans: { collector: url, serviceName: "edge", samplePercent: 100 } });
    const { got } = await ask({}, spans);
    const [, trace = ""] = /^00-([0-9a-f]{32})-/.exec(got["traceparent"] ?? "") ?? [];
    const found = await eventually(() =>
      exports.find(({ body }) => body.includes("edge") && body.includes(Buffer.from(trace, "hex"))),
    );
    expect(found.url).toBe("/v1/traces");
  });
});
