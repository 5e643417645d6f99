import { createServer as createHttp2 } from "node:http2";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeRegistration } from "../../src/entries/entries.js";
import { eventually } from "../support/eventually.js";
import { freePort } from "../support/free-port.js";
import { destination, Instances, processEntry, routeEntry } from "../support/instances.js";
import { startTestRouter, type TestRouter } from "../support/router.js";

const APP = "0a1b2c3d-0000-4000-8000-00000000000a";
const OTHER_APP = "0a1b2c3d-0000-4000-8000-00000000000b";
const PROCESS = "feed0000-0000-4000-8000-000000000001";
const OTHER_PROCESS = "feed0000-0000-4000-8000-000000000002";

describe("requests for a certain instance", () => {
  let mesh: TestRouter;
  const instances = new Instances();

  beforeAll(async () => {
    mesh = await startTestRouter();
    const [running, others] = await Promise.all([
      instances.startAll(["a-0", "a-1", "a-2"]),
      instances.startAll(["b-0", "b-1"]),
    ]);
    await mesh.log.append([
      routeEntry("shop", { destinations: [destination(PROCESS), destination(OTHER_PROCESS)] }),
      processEntry(PROCESS, running, APP),
      processEntry(OTHER_PROCESS, others, OTHER_APP),
    ]);
    await eventually(async () => (await mesh.client.get("shop.example.com")).status === 200);
  });
  afterAll(async () => {
    await mesh.stop();
    instances.close();
  });

  const ask = (headers: Readonly<Record<string, string>>, host = "shop.example.com") =>
    mesh.client.get(host, "/", { headers });
  /** Those that answered ten such requests. */
  async function answering(headers: Readonly<Record<string, string>>, host?: string): Promise<readonly string[]> {
    const names = new Set<string>();
    for (let sent = 0; sent < 10; sent += 1) names.add((await ask(headers, host)).json.app);
    return [...names].sort();
  }
  async function refusal(headers: Readonly<Record<string, string>>, host?: string) {
    const { status, headers: answered, body } = await ask(headers, host);
    expect(answered["cache-control"]).toBe("no-cache, no-store");
    expect(answered["content-type"]).toBe("text/plain; charset=utf-8");
    expect(answered["x-content-type-options"]).toBe("nosniff");
    return `${status} ${String(answered["x-cf-routererror"])}: ${body.toString()}`;
  }

  it("X-CF-APP-INSTANCE: go to that instance of that app alone, and the app does not see the header", async () => {
    expect(await answering({ "X-CF-APP-INSTANCE": `${APP}:1` })).toEqual(["a-1"]);
    expect(await answering({ "x-cf-app-instance": `${OTHER_APP}:1` })).toEqual(["b-1"]);
    const { json } = await ask({ "x-cf-app-instance": `${APP}:2` });
    expect(Object.keys(json.headers).filter((name) => /cf-app-instance|cf-mesh|x-envoy/.test(name))).toEqual([]);
  });

  it("X-CF-APP-INSTANCE: 400 for one that is not there, with its words", async () => {
    expect(await refusal({ "x-cf-app-instance": `${APP}:7` })).toBe(
      `400 unknown_route: 400 Bad Request: Requested instance ('7') with guid ('${APP}') does not exist for route ('shop.example.com')\n`,
    );
    expect(await refusal({ "x-cf-app-instance": `${APP}:0` }, "nowhere.example.com:80")).toBe(
      `400 unknown_route: 400 Bad Request: Requested instance ('0') with guid ('${APP}') does not exist for route ('nowhere.example.com:80')\n`,
    );
  });

  it.each([APP, `${APP}:`, `${APP}:x`, `${APP}:1:2`, `${APP.toUpperCase()}:1`, "guid:1", ":", `${APP} :1`])(
    "X-CF-APP-INSTANCE: 400 for %j",
    async (value) => {
      expect(await refusal({ "x-cf-app-instance": value })).toBe(
        "400 invalid_cf_app_instance_header: 400 Bad Request: Invalid X-CF-App-Instance Header\n",
      );
    },
  );

  it("X-CF-PROCESS-INSTANCE: go to that process, or to one instance of it, and the app sees the header", async () => {
    expect(await answering({ "X-CF-PROCESS-INSTANCE": `${PROCESS}:2` })).toEqual(["a-2"]);
    expect(await answering({ "x-cf-process-instance": OTHER_PROCESS })).toEqual(["b-0", "b-1"]);
    const { json } = await ask({ "x-cf-process-instance": `${PROCESS}:0` });
    expect(json.headers["x-cf-process-instance"]).toBe(`${PROCESS}:0`);
  });

  it("X-CF-PROCESS-INSTANCE: 400 for a process or an instance that is not there, and for other words", async () => {
    const unknown = "feed0000-0000-4000-8000-00000000000f";
    expect(await refusal({ "x-cf-process-instance": `${PROCESS}:9` })).toBe(
      `400 unknown_route: 400 Bad Request: Requested instance ('9') with process guid ('${PROCESS}') does not exist for route ('shop.example.com')\n`,
    );
    expect(await refusal({ "x-cf-process-instance": unknown })).toBe(
      `400 unknown_route: 400 Bad Request: Requested instance with process guid ('${unknown}') does not exist for route ('shop.example.com')\n`,
    );
    for (const value of ["web", `${PROCESS}:`, `${PROCESS}1`, `${PROCESS}:x`]) {
      expect(await refusal({ "x-cf-process-instance": value })).toBe(
        "400 invalid_cf_process_instance_header: 400 Bad Request: Invalid X-CF-Process-Instance Header\n",
      );
    }
  });

  it("win over a session, whose client is told the instance that answered", async () => {
    const cookie = "JSESSIONID=1; __VCAP_ID__=a-0";
    const { json, headers } = await ask({ "x-cf-app-instance": `${APP}:1`, cookie });
    expect(json.app).toBe("a-1");
    expect(headers["set-cookie"]).toEqual(["__VCAP_ID__=a-1; Path=/; HttpOnly"]);
  });

  it("never reach another instance when that one takes no connection", async () => {
    const [alive] = await instances.startAll(["alive"]);
    if (!alive) throw new Error("an instance was started");
    const processGuid = "feed0000-0000-4000-8000-000000000003";
    await mesh.log.append([
      routeEntry("half", { destinations: [destination(processGuid)] }),
      processEntry(processGuid, [alive, { guid: "dead", port: await freePort() }], APP),
    ]);
    await eventually(async () => (await ask({}, "half.example.com")).status === 200);
    for (let sent = 0; sent < 5; sent += 1) {
      const { status } = await ask({ "x-cf-app-instance": `${APP}:1` }, "half.example.com");
      expect([502, 503]).toContain(status);
    }
  });

  it("reach an instance of HTTP/2 beside others of HTTP/1", async () => {
    const server = createHttp2((_request, response) => response.end(JSON.stringify({ app: "h2" })));
    server.listen(0, "127.0.0.1");
    try {
      await once(server, "listening");
      const { port } = server.address() as AddressInfo;
      const [h1] = await instances.startAll(["h1"]);
      if (!h1) throw new Error("an instance was started");
      const [first, second] = ["feed0000-0000-4000-8000-000000000004", "feed0000-0000-4000-8000-000000000005"] as const;
      const host = "mixed.example.com";
      await mesh.log.append([
        routeEntry("mixed", { destinations: [destination(first), destination(second, { protocol: "http2" })] }),
        processEntry(first, [h1], APP),
        processEntry(second, [{ guid: "h2", port }], OTHER_APP),
      ]);
      await eventually(async () => (await answering({}, host)).length === 2);
      expect(await answering({ "x-cf-app-instance": `${APP}:0` }, host)).toEqual(["h1"]);
      expect(await answering({ "x-cf-app-instance": `${OTHER_APP}:0` }, host)).toEqual(["h2"]);
      expect(await answering({ cookie: "JSESSIONID=1; __VCAP_ID__=h2" }, host)).toEqual(["h2"]);
    } finally {
      server.close();
    }
  });

  it("reach instances that are known from NATS alone, by their index and their tag of the process", async () => {
    const running = await instances.startAll(["nats-0", "nats-1"]);
    await mesh.log.append(
      running.map(({ guid, port }, index) => ({
        key: `registration.nats.${guid}`,
        value: encodeRegistration({
          host: "nats.example.com",
          address: "127.0.0.1",
          port,
          appGuid: APP,
          processGuid: PROCESS.replace("feed", "cafe"),
          instanceGuid: guid,
          instanceIndex: String(index),
          protocol: "http1",
        }),
      })),
    );
    await eventually(async () => (await ask({}, "nats.example.com")).status === 200);
    expect(await answering({ "x-cf-app-instance": `${APP}:1` }, "nats.example.com")).toEqual(["nats-1"]);
    const processInstance = `${PROCESS.replace("feed", "cafe")}:0`;
    expect(await answering({ "x-cf-process-instance": processInstance }, "nats.example.com")).toEqual(["nats-0"]);
  });
});
