import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeProcess, encodeRoute } from "../../src/entries/entries.js";
import { Client } from "../support/client.js";
import { eventually } from "../support/eventually.js";
import { startTestRouter, type TestRouter } from "../support/router.js";

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

describe("annotations of a route", () => {
  let mesh: TestRouter;
  const servers: Server[] = [];
  /** Requests that came in, by app: method and path. */
  const seen = new Map<string, string[]>();

  beforeAll(async () => {
    mesh = await startTestRouter();
    await Promise.all(["v1", "v2", "v3"].map((name) => startApp(name)));
  });
  afterAll(async () => {
    await mesh.stop();
    for (const server of servers) {
      server.close();
      server.closeAllConnections();
    }
  });

  async function startApp(name: string, answer: Answer = (_, response) => response.end(JSON.stringify({ app: name }))) {
    const server = createServer((request, response) => {
      seen.set(name, [...(seen.get(name) ?? []), `${request.method ?? ""} ${request.url ?? ""}`]);
      answer(request, response);
    });
    servers.push(server);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const instances = [{ guid: `${name}-0`, address: "127.0.0.1", ports: [{ containerPort: 8080, hostPort: port }] }];
    await mesh.log.append([
      { key: `process.bbs.${name}`, value: encodeProcess({ processGuid: name, appGuid: `guid-${name}`, instances }) },
    ]);
  }

  const stopProcess = (name: string) => mesh.log.append([{ key: `process.bbs.${name}`, value: undefined }]);

  /** Sets a route to apps with their weights (0: none), and resolves when it has this state. */
  async function setRoute(
    host: string,
    apps: Readonly<Record<string, number>>,
    annotations: Readonly<Record<string, string>>,
  ): Promise<void> {
    const destinations = Object.entries(apps).map(([name, weight]) => ({
      processGuid: name,
      appGuid: `guid-${name}`,
      appName: name,
      processType: "web",
      port: 8080,
      weight,
      protocol: "http1",
    }));
    const tags = Object.entries(annotations).map(([name, value]) => ({ name: `cf-mesh.local/${name}`, value }));
    const sequence = await mesh.log.append([
      { key: `route.cc.${host}`, value: encodeRoute({ guid: host, host, destinations, annotations: tags }) },
    ]);
    await eventually(() => mesh.router.status.sequence >= sequence);
    await eventually(async () => (await mesh.client.get(host, "/ready")).status !== 404);
  }

  const appOf = async (host: string, headers: Record<string, string> = {}) =>
    (await mesh.client.get(host, "/", { headers })).json.app;
  const appsOf = async (host: string, headers: Record<string, string> = {}, count = 30) => {
    const apps = new Set<unknown>();
    for (let index = 0; index < count; index += 1) apps.add(await appOf(host, headers));
    return apps;
  };

  it("match: send testers to the canary by header or cookie, and nobody else with match-only", async () => {
    const host = "match.example.com";
    await setRoute(
      host,
      { v1: 50, v2: 50 },
      { match: "header X-Canary=yes -> v2; cookie beta=on.1 -> v2; header X-Old -> v1", "match-only": "v2" },
    );
    expect(await appsOf(host)).toEqual(new Set(["v1"]));
    expect(await appsOf(host, { "x-canary": "yes" })).toEqual(new Set(["v2"]));
    expect(await appsOf(host, { "x-canary": "no" })).toEqual(new Set(["v1"]));
    expect(await appsOf(host, { cookie: "a=b; beta=on.1; c=d" })).toEqual(new Set(["v2"]));
    expect(await appsOf(host, { cookie: "beta=on.1" })).toEqual(new Set(["v2"]));
    expect(await appsOf(host, { cookie: "alphabeta=on.1; beta=on01" })).toEqual(new Set(["v1"]));
    expect(await appsOf(host, { "x-old": "" })).toEqual(new Set(["v1"]));
  });

  it("match: go by the weights for whoever does not match, and hold for every method", async () => {
    const host = "weights.example.com";
    await setRoute(host, { v1: 50, v2: 50 }, { match: "header X-Canary -> v2" });
    expect(await appsOf(host)).toEqual(new Set(["v1", "v2"]));
    const posted = await mesh.client.get(host, "/", { method: "POST", headers: { "x-canary": "1" } });
    expect(posted.json.app).toBe("v2");
  });

  it("cohort-cookie: keep each client with its version while weights change, and let go when it is gone", async () => {
    const host = "cohort.example.com";
    const annotations = { "cohort-cookie": "shop-cohort 2h" };
    await setRoute(host, { v1: 50, v2: 50 }, annotations);
    const clients = new Map<string, unknown>();
    for (let index = 0; index < 30; index += 1) {
      const first = await mesh.client.get(host, "/");
      const [cookie = ""] = first.headers["set-cookie"] ?? [];
      expect(cookie).toMatch(/^shop-cohort=[0-9a-f]{8}; Path=\/; Max-Age=7200; HttpOnly$/);
      clients.set(cookie.split(";")[0] ?? "", first.json.app);
    }
    expect(new Set(clients.values())).toEqual(new Set(["v1", "v2"]));
    expect(clients.size).toBe(2);
    const stay = async () => {
      for (const [cookie, app] of clients) expect(await appsOf(host, { cookie }, 20)).toEqual(new Set([app]));
    };
    await stay();
    await setRoute(host, { v1: 1, v2: 99 }, annotations);
    await stay();
    const [cookieOfV1 = ""] = [...clients].find(([, app]) => app === "v1") ?? [];
    await setRoute(host, { v2: 100 }, annotations);
    await eventually(async () => (await appOf(host, { cookie: cookieOfV1 })) === "v2");
  });

  it("cohort-cookie: send a client elsewhere while nothing runs of its version, and take it back", async () => {
    const host = "cohort-down.example.com";
    await startApp("v4");
    await setRoute(host, { v1: 50, v4: 50 }, { "cohort-cookie": "c" });
    let cookieOfV4 = "";
    await eventually(async () => {
      const { headers, json } = await mesh.client.get(host, "/");
      cookieOfV4 = String(headers["set-cookie"]).split(";")[0] ?? "";
      return json.app === "v4";
    });
    await stopProcess("v4");
    await eventually(async () => (await appOf(host, { cookie: cookieOfV4 })) === "v1");
    await startApp("v4");
    await eventually(async () => (await appOf(host, { cookie: cookieOfV4 })) === "v4");
  });

  it("mirror: copy requests to an app whose answers count for nothing", async () => {
    const host = "mirror.example.com";
    await startApp("shadow", (_, response) => {
      response.statusCode = 500;
      response.end();
    });
    await setRoute(host, { v1: 99, shadow: 1 }, { mirror: "shadow 100%" });
    for (let index = 0; index < 10; index += 1) {
      const { status, json } = await mesh.client.get(host, `/copied/${index}`);
      expect({ status, app: json.app }).toEqual({ status: 200, app: "v1" });
    }
    await eventually(() => (seen.get("shadow") ?? []).filter((one) => one.includes("/copied/")).length === 10);
  });

  it("timeout: end a request that takes too long", async () => {
    const host = "timeout.example.com";
    await startApp("slow", (request, response) => {
      if (request.url !== "/slow") response.end("{}");
    });
    await setRoute(host, { slow: 0 }, { timeout: "200ms" });
    const { status } = await mesh.client.get(host, "/slow", { method: "POST" });
    expect([502, 504]).toContain(status);
  });

  it("attempts and retry-on: try again as often as asked, and only what may be sent twice", async () => {
    const host = "retries.example.com";
    await Promise.all(
      ["f1", "f2", "f3", "f4", "f5"].map((name) =>
        startApp(name, (request, response) => {
          response.statusCode = request.url === "/ready" ? 200 : 503;
          response.end("{}");
        }),
      ),
    );
    await setRoute(host, { f1: 0, f2: 0, f3: 0, f4: 0, f5: 0 }, { attempts: "4", "retry-on": "reset,503" });
    const count = (what: string) => [...seen.values()].flat().filter((one) => one === what).length;
    expect((await mesh.client.get(host, "/safe")).status).toBe(503);
    expect(count("GET /safe")).toBe(4);
    expect((await mesh.client.get(host, "/effects", { method: "POST" })).status).toBe(503);
    expect(count("POST /effects")).toBe(1);
  });

  it("are ignored alone where they can't be followed, and the router says which", async () => {
    const host = "bad.example.com";
    await setRoute(host, { v1: 50, v2: 50 }, { timeout: "soon", match: "header X-Canary -> v2", mirror: "v9 5%" });
    expect(await appsOf(host, { "x-canary": "1" })).toEqual(new Set(["v2"]));
    expect(mesh.router.status.annotationProblems).toEqual([
      expect.objectContaining({ place: host, routeGuid: host, name: "cf-mesh.local/timeout", value: "soon" }),
      expect.objectContaining({
        place: host,
        name: "cf-mesh.local/mirror",
        reason: expect.stringContaining('"v9"') as string,
      }),
    ]);
    await setRoute(host, { v1: 50, v2: 50 }, {});
    await eventually(() => mesh.router.status.annotationProblems.length === 0);
  });

  it("change from one state to another without a failed request", async () => {
    const host = "steps.example.com";
    await setRoute(host, { v1: 50, v2: 50 }, {});
    const statuses = new Set<number>();
    const over = new AbortController();
    const client = new Client(mesh.port);
    const load = (async () => {
      while (!over.signal.aborted) statuses.add((await client.get(host, "/")).status);
    })();
    for (const annotations of [
      { match: "header X -> v2" },
      { match: "header X -> v2", "match-only": "v2" },
      { "cohort-cookie": "c" },
      { mirror: "v2 50%" },
      {},
    ]) {
      await setRoute(host, { v1: 50, v2: 50 }, annotations);
      for (let index = 0; index < 20; index += 1) await mesh.client.get(host, "/");
    }
    over.abort();
    await load;
    client.close();
    expect(statuses).toEqual(new Set([200]));
  });
});
