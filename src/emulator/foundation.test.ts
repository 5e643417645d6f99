import { request as sendRequest } from "undici";
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from "vitest";
import {
  type EmulatedFoundation,
  MemoryDiego,
  startEmulatedFoundation,
} from "../../test/support/emulated-foundation.js";
import { silentLogger } from "../lib/logger.js";
import { startFoundation } from "./foundation.js";

interface Answered {
  readonly links: Readonly<Record<"self" | "uaa" | "login" | "log_cache", { readonly href: string }>>;
  readonly access_token: string;
}

/** fetch does not let a client name its own Host. */
async function request(url: string, options: Parameters<typeof sendRequest>[1]): Promise<{ body: Answered }> {
  const { body } = await sendRequest(url, options);
  return { body: (await body.json()) as Answered };
}

describe("the emulated foundation", () => {
  let cf: EmulatedFoundation;
  beforeEach(async () => {
    cf = await startEmulatedFoundation();
  });
  afterEach(() => cf.close());

  const inject = (fault: Parameters<typeof cf.foundation.faults.inject>[0]["fault"], times = 1) =>
    cf.foundation.faults.inject({ path: "/v3/routes", times, fault });

  it("pushes a sample with instances, and pushes it again over itself", async () => {
    const pushed = await cf.foundation.pushSample("hi", "hola", { instances: 2 });
    expect(cf.diego.processOf(pushed.guid)).toMatchObject({ instances: 2, command: ["node", "sample.js", "hola"] });
    expect(await cf.foundation.pushSample("hi", "hola", { instances: 1 })).toEqual(pushed);
    expect(cf.diego.processOf(pushed.guid).instances).toBe(1);
  });

  it("says that its port is taken, and what to do", async () => {
    const port = Number(new URL(cf.foundation.apiUrl).port);
    const second = startFoundation({ port, appDomains: [], diego: new MemoryDiego(), logger: silentLogger });
    await expect(second).rejects.toMatchObject({ code: "MESH_PORT_TAKEN" });
  });

  it("gives hrefs that lead back the way that the request came", async () => {
    const options = { systemDomain: "sys.test", appDomains: [], diego: new MemoryDiego(), logger: silentLogger };
    const named = await startFoundation(options);
    onTestFinished(() => named.close());
    const { port } = new URL(named.apiUrl);
    const linksFor = async (host: string, headers: Record<string, string> = {}) => {
      const { links } = (await request(`http://127.0.0.1:${port}/`, { headers: { host, ...headers } })).body;
      return [links.self.href, links.uaa.href, links.login.href, links.log_cache.href];
    };

    const own = named.apiUrl;
    expect(own).toBe(`http://127.0.0.1:${port}`);
    expect(await linksFor(`127.0.0.1:${port}`)).toEqual([own, own, own, own]);
    const names = ["api", "uaa", "login", "log-cache"];
    expect(await linksFor("api.sys.test:8080")).toEqual(names.map((name) => `http://${name}.sys.test:8080`));
    const secure = await linksFor("api.sys.test", { "x-forwarded-proto": "https" });
    expect(secure).toEqual(names.map((name) => `https://${name}.sys.test`));
    expect(await linksFor("evil.example.com")).toEqual([own, own, own, own]);
  });

  it("takes a token that was issued by name from who comes by address", async () => {
    const options = { systemDomain: "sys.test", appDomains: [], diego: new MemoryDiego(), logger: silentLogger };
    const named = await startFoundation(options);
    onTestFinished(() => named.close());
    const form = new URLSearchParams({ grant_type: "password", username: "admin", password: "admin", client_id: "cf" });
    const headers = { host: "uaa.sys.test", "content-type": "application/x-www-form-urlencoded" };
    const login = await request(`${named.apiUrl}/oauth/token`, { method: "POST", headers, body: form.toString() });
    const answer = await fetch(`${named.apiUrl}/v3/apps`, {
      headers: { authorization: `bearer ${login.body.access_token}` },
    });
    expect(answer.status).toBe(200);
  });

  it("marks each answer with a request id that carries the client's", async () => {
    const { headers } = await cf.call("GET", "/v3/routes", undefined, { "x-vcap-request-id": "mine" });
    expect(headers.get("x-vcap-request-id")).toMatch(/^mine::[0-9a-f-]{36}$/);
  });

  it("logs the requests it gets", async () => {
    const { requests } = cf.foundation;
    requests.clear();
    const logged = requests.next(/^\/v3\/routes\?hosts=/);
    await cf.get("/v3/routes?hosts=a");
    expect(await logged).toEqual({ method: "GET", path: "/v3/routes", query: "hosts=a", status: 200 });
    expect([requests.count("/v3/routes"), requests.count("/v3/apps")]).toEqual([1, 0]);
  });

  it("limits the rate of all but admins while told to", async () => {
    cf.foundation.faults.rateLimit = { requestCount: 20, intervalMs: 60_000 };
    const { clientId, clientSecret, uaaUrl } = cf.foundation;
    const form = { grant_type: "client_credentials", client_id: clientId, client_secret: clientSecret };
    const answer = await fetch(`${uaaUrl}/oauth/token`, { method: "POST", body: new URLSearchParams(form) });
    const { access_token: token } = (await answer.json()) as { access_token: string };
    const ask = () => cf.call("GET", "/v3/routes", undefined, { authorization: `bearer ${token}` });

    const first = await ask();
    expect(first.headers.get("x-ratelimit-limit")).toBe("20");
    expect(first.headers.get("x-ratelimit-remaining")).toBe("18");
    expect(first.headers.get("x-ratelimit-reset")).toBe(String(cf.clock.nowMs / 1000 + 60));
    for (let count = 2; count <= 20; count += 1) expect((await ask()).status).toBe(200);
    const refused = await ask();
    expect(refused.status).toBe(429);
    expect(refused.headers.get("retry-after")).toBe("60");
    expect(refused.headers.get("content-type")).toContain("text/plain");
    expect(refused.body.errors[0].title).toBe("CF-RateLimitExceeded");
    expect((await cf.call("GET", "/v3/routes")).status).toBe(200);
    cf.clock.forward(61);
    expect((await ask()).status).toBe(200);
  });

  describe("with faults", () => {
    it("refuses tokens, for as many requests as told", async () => {
      const fault = inject({ kind: "invalid-token" }, 2);
      expect(await cf.refusal("GET", "/v3/routes")).toBe("401 CF-InvalidAuthToken: Invalid Auth Token");
      expect((await cf.call("GET", "/v3/routes")).status).toBe(401);
      expect((await cf.call("GET", "/v3/routes")).status).toBe(200);
      expect(fault.hitCount).toBe(2);
    });

    it("asks to slow down, with JSON under text/plain", async () => {
      inject({ kind: "rate-limited", retryAfterSeconds: 7 });
      const { status, headers, body } = await cf.call("GET", "/v3/routes");
      expect([status, headers.get("retry-after"), body.errors[0].code]).toEqual([429, "7", 10013]);
      expect(headers.get("content-type")).toContain("text/plain");
    });

    it("fails until it is cleared, on the paths of a pattern alone", async () => {
      const fault = cf.foundation.faults.inject({ path: /^\/v3\/rou/, fault: { kind: "status", status: 503 } });
      expect((await cf.call("GET", "/v3/routes?page=1")).status).toBe(503);
      expect((await cf.call("GET", "/v3/apps")).status).toBe(200);
      fault.clear();
      expect((await cf.call("GET", "/v3/routes")).status).toBe(200);
    });

    it("answers with garbage", async () => {
      inject({ kind: "garbage" });
      const { status, text } = await cf.call("GET", "/v3/routes");
      expect([status, text.startsWith("<html>")]).toEqual([200, true]);
    });

    it("cuts a body short, and a connection without an answer", async () => {
      inject({ kind: "truncated" });
      await expect(cf.call("GET", "/v3/routes")).rejects.toThrow("terminated");
      inject({ kind: "drop" });
      const logged = cf.foundation.requests.next("/v3/routes");
      await expect(cf.call("GET", "/v3/routes")).rejects.toThrow("fetch failed");
      expect((await logged).status).toBeUndefined();
    });

    it("holds an answer until it is released", async () => {
      const fault = inject({ kind: "slow" });
      const hit = fault.nextHit();
      const answer = cf.call("GET", "/v3/routes");
      await hit;
      expect(cf.foundation.requests.count("/v3/routes")).toBe(0);
      fault.release();
      expect((await answer).status).toBe(200);
    });

    it("fails at the UAA in the UAA's words", async () => {
      cf.foundation.faults.inject({ path: "/oauth/token", times: 1, fault: { kind: "status", status: 401 } });
      const answer = await fetch(`${cf.foundation.uaaUrl}/oauth/token`, { method: "POST" });
      expect([answer.status, await answer.json()]).toEqual([401, { error: "unauthorized" }]);
    });
  });
});
