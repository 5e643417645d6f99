import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { encodeRegistration, encodeRoute } from "../../src/entries/entries.js";
import { eventually } from "../support/eventually.js";
import { startTestRouter, type TestRouter } from "../support/router.js";
import { RawConnection, rawRequest } from "../support/raw.js";
import { TestApps } from "../support/test-apps.js";
import type { Answer } from "../support/client.js";

const TEMPLATE =
  '<h1>{{.Status}} {{ .StatusText }}</h1><p>100% {{.Message}}</p><i>{{.Header.Get "X-Cf-RouterError"}}</i>';
const NEVER_CACHED = "no-cache, no-store";
const SHORTLY = "public,max-age=2";

describe("the router's own answers", () => {
  let router: TestRouter;
  let apps: TestApps;
  /** With every setting that changes errors. */
  let other: TestRouter;
  let otherApps: TestApps;

  beforeAll(async () => {
    [router, other] = await Promise.all([
      startTestRouter(),
      startTestRouter({
        files: { "page.html": TEMPLATE, "shop.html": "<b>{{.Status}} in the shop</b>" },
        config: (path) => ({
          http: {
            emptyPoolStatus: 404,
            requestHeadersTimeoutMs: 300,
            traceKey: "key",
            errorPages: {
              file: path("page.html"),
              domains: [{ domain: "shop.example.com", file: path("shop.html") }],
            },
            responses: {
              remove: ["x-powered-by"],
              addIfAbsent: [{ name: "x-frame-options", value: "100% deny" }],
            },
          },
        }),
      }),
    ]);
    [apps, otherApps] = [new TestApps(router), new TestApps(other)];
  });
  afterAll(async () => {
    await Promise.all([apps.close(), otherApps.close()]);
    await Promise.all([router.stop(), other.stop()]);
  });

  const seen = ({ status, headers, body }: Answer) => ({
    status,
    error: headers["x-cf-routererror"],
    cache: headers["cache-control"],
    type: headers["content-type"],
    sniff: headers["x-content-type-options"],
    body: body.toString(),
  });
  const plain = { type: "text/plain; charset=utf-8", sniff: "nosniff" };
  const failed = {
    ...plain,
    status: 502,
    cache: NEVER_CACHED,
    body: "502 Bad Gateway: Registered endpoint failed to handle the request.\n",
  };

  it("400 empty_host to a request without a host, or with the client's own address as one", async () => {
    const without = await rawRequest(router.port, "GET / HTTP/1.0");
    expect(without).toMatch(/^HTTP\/1\.[01] 400 Bad Request\r\n/);
    expect(without).toMatch(/\r\nx-cf-routererror: empty_host\r\n/i);
    expect(without).toMatch(/\r\ncache-control: public,max-age=2\r\n/i);
    expect(without).toMatch(/\r\n\r\n400 Bad Request: Request had empty Host header\n$/);
    expect(seen(await router.client.get("127.0.0.1"))).toEqual({
      ...plain,
      status: 400,
      error: "empty_host",
      cache: SHORTLY,
      body: "400 Bad Request: Request had empty Host header\n",
    });
    const empty = await rawRequest(router.port, "GET / HTTP/1.1", "Host:", "Connection: close");
    expect(empty).toMatch(/\r\nx-cf-routererror: empty_host\r\n/i);
    const two = await rawRequest(router.port, "GET / HTTP/1.1", "Host: a.b", "Host: c.d", "Connection: close");
    expect(two).toMatch(/^HTTP\/1\.1 400 .*\r\n\r\n400 Bad Request: too many Host headers\n$/s);
  });

  it("400 to what is no request, 408 to one that never ends, and nothing more of theirs than that", async () => {
    const host = await apps.http("strict", (_request, response) => response.end("ok"));
    for (const lines of [
      ["no request"],
      ["GET / HTTP/1.1", `Host: ${host}`, "Content-Length: many"],
      ["GET / HTTP/1.1", `Host: ${host}`, "Name with spaces: 1"],
      ["GET /#fragment HTTP/1.1", `Host: ${host}`],
    ]) {
      const answer = await rawRequest(router.port, ...lines);
      expect(answer).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
      expect(answer).toMatch(/\r\ncontent-type: text\/plain; charset=utf-8\r\n/i);
      expect(answer).toMatch(/\r\n\r\n400 Bad Request\n$/);
      expect(answer).not.toMatch(/x-cf-routererror|x-vcap-router/i);
    }
    const slow = await RawConnection.open(other.port);
    onTestFinished(() => slow.close());
    slow.send("GET / HTTP/1.1", `Host: ${host}`);
    expect(await slow.untilClosed()).toMatch(/^HTTP\/1\.1 408 Request Timeout\r\n.*<h1>408 Request Timeout<\/h1>/s);
  });

  it("404 unknown_route for a route that there is not, with the host as it was asked for", async () => {
    expect(seen(await router.client.get("Nowhere.example.com:8080"))).toEqual({
      ...plain,
      status: 404,
      error: "unknown_route",
      cache: NEVER_CACHED,
      body: "404 Not Found: Requested route ('Nowhere.example.com:8080') does not exist.\n",
    });
  });

  it("503 no_endpoints for a route with nothing running; 404 where that is set", async () => {
    const host = await apps.at("stopped", []);
    expect(seen(await router.client.get(host))).toEqual({
      ...plain,
      status: 503,
      error: "no_endpoints",
      cache: SHORTLY,
      body: `503 Service Unavailable: Requested route ('${host}') has no available endpoints.\n`,
    });
    const gone = await otherApps.http("gone", (_request, response) => response.end("ok"));
    await otherApps.empty("gone");
    await eventually(async () => (await other.client.get(gone)).status !== 200);
    expect(seen(await other.client.get(gone))).toMatchObject({ status: 404, error: "unknown_route" });
  });

  it("403 for everybody on a route whose domain enforces route policies, where the router asks for no certificates", async () => {
    const options = { routePolicyScope: "space" };
    await apps.http("policies", (_request, response) => response.end("open"));
    const [routed, registered] = ["policies", "policies-registered"].map((name) => `${name}.example.com`);
    await router.log.append([
      {
        key: "route.cc.policies",
        value: encodeRoute({
          guid: "policies",
          host: routed ?? "",
          options,
          destinations: [{ processGuid: "policies", port: 8080, protocol: "http1" }],
        }),
      },
      {
        key: "registration.nats.policies",
        value: encodeRegistration({ host: registered ?? "", address: "127.0.0.1", port: 1, options }),
      },
    ]);
    for (const host of [routed, registered]) {
      const answer = await eventually(async () => {
        const latest = await router.client.get(host ?? "");
        return latest.status === 403 ? latest : undefined;
      });
      expect(seen(answer)).toEqual({
        ...plain,
        status: 403,
        error: "route_policy (domain:no_caller_identity)",
        cache: NEVER_CACHED,
        body: "403 Forbidden: The router asks for no certificates on this host's domain.\n",
      });
    }
  });

  it("502 endpoint_failure for an app that takes no connection, and for one that ends it without an answer", async () => {
    const dead = seen(await router.client.get(await apps.dead("dead")));
    expect(dead).toEqual({ ...failed, error: dead.error });
    expect(dead.error).toMatch(/^endpoint_failure \(.*connect.*\)$/);
    const host = await apps.tcp("curt", (socket) => socket.once("data", () => socket.destroy()));
    const curt = seen(await router.client.get(host));
    expect(curt).toEqual({ ...failed, error: curt.error });
    expect(curt.error).toMatch(/^endpoint_failure \(.+\)$/);
  });

  it("502 for an app that speaks no HTTP", async () => {
    const host = await apps.tcp("mumble", (socket) => socket.write("mumble\r\n\r\n"));
    expect(seen(await router.client.get(host))).toMatchObject(failed);
  });

  it("431 with an empty body, and an end of the connection, for headers that are too large or too many", async () => {
    const host = await apps.http("roomy", (_request, response) => response.end("ok"));
    const large = ["GET / HTTP/1.1", `Host: ${host}`, `X-Large: ${"x".repeat(1_100 * 1_024)}`];
    const many = ["GET / HTTP/1.1", `Host: ${host}`, ...Array.from({ length: 1_001 }, (_, index) => `X-${index}: y`)];
    for (const lines of [large, many]) {
      const answer = await rawRequest(router.port, ...lines);
      expect(answer).toMatch(/^HTTP\/1\.1 431 Request Header Fields Too Large\r\n/);
      expect(answer).toMatch(/\r\nx-cf-routererror: max-request-size-exceeded\r\n/i);
      expect(answer).toMatch(/\r\nconnection: close\r\n/i);
      expect(answer.endsWith("\r\n\r\n")).toBe(true);
    }
  });

  it("are HTML pages where there is a template, another one for a domain of its own", async () => {
    const answer = seen(await other.client.get("nowhere.example.com"));
    expect(answer).toMatchObject({ status: 404, type: "text/html; charset=utf-8", sniff: "nosniff" });
    expect(answer.body).toBe(
      "<h1>404 Not Found</h1><p>100% Requested route (&#39;nowhere.example.com&#39;) does not exist.</p><i>unknown_route</i>",
    );
    for (const host of ["shop.example.com", "EU.shop.example.com:443"]) {
      expect(seen(await other.client.get(host))).toMatchObject({ status: 404, body: "<b>404 in the shop</b>" });
    }
    expect(seen(await other.client.get("workshop.example.com")).body).toContain("<h1>404 Not Found</h1>");
  });

  it("are such pages whoever makes them: Lua, a route, or the refusal of an upgrade", async () => {
    const page = (heading: string, message: string, error: string) =>
      `<h1>${heading}</h1><p>100% ${message}</p><i>${error}</i>`;
    const host = await otherApps.http("paged", (_request, response) => response.end("ok"));
    const shop = await otherApps.http("shop", (_request, response) => response.end("ok"));
    const addressed = { headers: { "x-cf-app-instance": "nonsense" } };
    const refused = seen(await other.client.get(host, "/", addressed));
    expect(refused).toEqual({
      status: 400,
      error: "invalid_cf_app_instance_header",
      cache: NEVER_CACHED,
      type: "text/html; charset=utf-8",
      sniff: "nosniff",
      body: page("400 Bad Request", "Invalid X-CF-App-Instance Header", "invalid_cf_app_instance_header"),
    });
    expect(seen(await other.client.get(shop, "/", addressed)).body).toBe("<b>400 in the shop</b>");
    await other.log.append([
      {
        key: "registration.nats.policies",
        value: encodeRegistration({
          host: "policies.example.com",
          address: "127.0.0.1",
          port: 1,
          options: { routePolicyScope: "any" },
        }),
      },
    ]);
    const restricted = await eventually(async () => {
      const latest = seen(await other.client.get("policies.example.com"));
      return latest.status === 403 ? latest : undefined;
    });
    expect(restricted.body).toBe(
      page(
        "403 Forbidden",
        "The router asks for no certificates on this host's domain.",
        "route_policy (domain:no_caller_identity)",
      ),
    );
    const upgrade = { headers: { connection: "upgrade", upgrade: "telepathy" } };
    expect(seen(await other.client.get(host, "/", upgrade))).toMatchObject({
      status: 403,
      body: page("403 Forbidden", "Upgrades to this protocol are not supported.", "upgrade_not_supported"),
    });
    const failed = seen(await other.client.get(await otherApps.dead("paged-dead")));
    expect(failed.body).toContain("<h1>502 Bad Gateway</h1>");
  });

  it("do not begin with a template that has a placeholder which there is not", async () => {
    const start = startTestRouter({
      files: { "page.html": "{{.Status}} {{.Color}}" },
      config: (path) => ({ http: { errorPages: { file: path("page.html") } } }),
    });
    await expect(start).rejects.toThrow(/MESH_CONFIG_INVALID.*router\.http\.errorPages\.file.*\{\{\.Color\}\}/s);
  });

  it("have the headers that every answer is to have", async () => {
    const error = await other.client.get("nowhere.example.com");
    expect(error.headers).toMatchObject({ "x-frame-options": "100% deny" });
    expect(error.headers["x-vcap-request-id"]).toMatch(/^[0-9a-f-]{36}$/);
  });
});
