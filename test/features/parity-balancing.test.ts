import type { RequestListener, ServerResponse } from "node:http";
import { createServer as createTcp } from "node:net";
import type { AddressInfo } from "node:net";
import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeProcess, encodeRegistration } from "../../src/entries/entries.js";
import { Client } from "../support/client.js";
import { eventually } from "../support/eventually.js";
import { destination, Instances, processEntry, routeEntry, sampleAnswer } from "../support/instances.js";
import { startTestRouter, type TestRouter } from "../support/router.js";

describe("balancing as on Gorouter", () => {
  let mesh: TestRouter;
  /** With what is off, or otherwise, by default. */
  let tuned: TestRouter;
  const instances = new Instances();

  beforeAll(async () => {
    [mesh, tuned] = await Promise.all([
      startTestRouter(),
      startTestRouter({
        config: () => ({
          balancing: {
            algorithm: "least-connection",
            availabilityZone: "z1",
            azPreference: "locally-optimistic",
            maxAttempts: 2,
            maxConnectionsPerBackend: 2,
          },
          sharding: { mode: "segments", isolationSegments: ["fast"] },
        }),
      }),
    ]);
  });
  afterAll(async () => {
    await Promise.all([mesh.stop(), tuned.stop()]);
    instances.close();
  });

  const hostOf = (name: string) => `${name}.example.com`;
  const serves = (name: string, path = "/", router = mesh) =>
    eventually(async () => (await router.client.get(hostOf(name), path)).status === 200);
  /** An instance whose connections end without an answer; how many there were, and what they sent. */
  async function breaking() {
    const seen: string[] = [];
    const server = createTcp((socket) => {
      socket.on("error", () => undefined);
      socket.once("data", (data) => {
        seen.push(data.toString().split(" ")[0] ?? "");
        socket.destroy();
      });
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return { port: (server.address() as AddressInfo).port, seen, close: () => server.close() };
  }
  /** A port where nobody listens; nobody else gets it meanwhile. */
  async function refusing() {
    const { port, close } = await breaking();
    close();
    return port;
  }

  describe("paths", () => {
    it("where nothing runs leave their requests to a shorter one that serves, and take them when something does", async () => {
      const [root, deep] = await instances.startAll(["root", "deep"]);
      if (!root || !deep) throw new Error("two instances were started");
      const host = hostOf("prefixes");
      await mesh.log.append([
        routeEntry("prefixes"),
        processEntry("prefixes", [root]),
        routeEntry("prefixes-deep", { host, path: "/deep" }),
      ]);
      await serves("prefixes");
      const appAt = async (path: string) => {
        const answer = await mesh.client.get(host, path);
        return answer.status === 200 ? answer.json.app : String(answer.status);
      };
      expect(await appAt("/deep/er")).toBe("root");
      await mesh.log.append([processEntry("prefixes-deep", [deep])]);
      await eventually(async () => (await appAt("/deep/er")) === "deep");
      await mesh.log.append([processEntry("prefixes-deep", [])]);
      await eventually(async () => (await appAt("/deep/er")) === "root");
      await mesh.log.append([processEntry("prefixes", [])]);
      await eventually(async () => (await appAt("/deep/er")) === "503");
      expect(await appAt("/")).toBe("503");
    });

    it("match in any case, an end slash or none, and reach the app as they were sent", async () => {
      const urls: string[] = [];
      const [app] = await instances.startAll(["letters"], (guid): RequestListener => (request, response) => {
        urls.push(request.url ?? "");
        response.end(sampleAnswer(guid, request));
      });
      if (!app) throw new Error("an instance was started");
      await mesh.log.append([routeEntry("letters", { path: "/Bar/baz/" }), processEntry("letters", [app])]);
      await serves("letters", "/bar/BAZ");
      urls.length = 0;
      const sent = ["/BAR/Baz/x", "/bar/baz", "/bar/baz/?q=/../", "/bar/baz/a%2Fb//c", "/bar/baz/./d"];
      for (const path of sent) expect((await mesh.client.get(hostOf("letters"), path)).status).toBe(200);
      expect(urls).toEqual(sent);
      expect((await mesh.client.get(hostOf("letters"), "/bar/bazz")).status).toBe(404);
    });
  });

  it("round robin: every instance in its turn", async () => {
    await mesh.log.append([
      routeEntry("turns"),
      processEntry("turns", await instances.startAll(["turns-0", "turns-1", "turns-2"])),
    ]);
    await serves("turns");
    expect(await mesh.client.shares(hostOf("turns"), { count: 30 })).toEqual({
      "turns-0": 10,
      "turns-1": 10,
      "turns-2": 10,
    });
  });

  it("least connection: where the operator makes it the rule, keeps requests away from an instance that is busy", async () => {
    const held: ServerResponse[] = [];
    const running = await instances.startAll(["busy-0", "busy-1"], (guid) => (request, response) => {
      if (request.url === "/held") held.push(response);
      else response.end(sampleAnswer(guid, request));
    });
    await tuned.log.append(
      running.map(({ guid, port }) => ({
        key: `registration.nats.${guid}`,
        value: encodeRegistration({
          host: hostOf("busy"),
          address: "127.0.0.1",
          port,
          protocol: "http1",
          isolationSegment: "fast",
        }),
      })),
    );
    await serves("busy", "/", tuned);
    const client = new Client(tuned.port);
    const waiting = client.get(hostOf("busy"), "/held");
    await eventually(() => held.length === 1);
    const shares = await tuned.client.shares(hostOf("busy"), { count: 30 });
    // The least busy of some that are picked at random.
    expect(Math.max(...Object.values(shares))).toBeGreaterThanOrEqual(28);
    held[0]?.end("{}");
    await waiting;
    client.close();
  });

  describe("attempts", () => {
    it("of any request go on past an instance that takes no connection", async () => {
      const [alive] = await instances.startAll(["alive"]);
      if (!alive) throw new Error("an instance was started");
      await mesh.log.append([
        routeEntry("refusing"),
        processEntry("refusing", [
          alive,
          { guid: "r1", port: await refusing() },
          { guid: "r2", port: await refusing() },
        ]),
      ]);
      await serves("refusing");
      for (const method of ["GET", "POST", "DELETE"]) {
        const options = method === "POST" ? { method, body: "content" } : { method };
        expect((await mesh.client.get(hostOf("refusing"), "/", options)).json.app).toBe("alive");
      }
    });

    it.each([
      ["GET", {}, 3],
      ["HEAD", {}, 3],
      ["OPTIONS", {}, 3],
      ["POST", {}, 1],
      ["PUT", {}, 1],
      ["PATCH", {}, 1],
      ["DELETE", {}, 1],
      ["MOVE", {}, 1],
      ["LOCK", {}, 1],
      ["SUBSCRIBE", {}, 1],
      ["ACL", {}, 1],
      ["POST", { "Idempotency-Key": "k1" }, 3],
      ["POST", { "X-Idempotency-Key": "k1" }, 3],
    ])("of a %s with %j that its instance took and did not answer: at %i instances", async (method, headers, count) => {
      const name = ["reset", method, ...Object.keys(headers)].join("-").toLowerCase();
      const broken = await Promise.all([breaking(), breaking(), breaking(), breaking()]);
      await mesh.log.append([
        routeEntry(name),
        processEntry(
          name,
          broken.map(({ port }, index) => ({ guid: `b${index}`, port })),
        ),
      ]);
      await eventually(async () => (await mesh.client.get(hostOf(name), "/", { method: "PATCH" })).status !== 404);
      for (const { seen } of broken) seen.length = 0;
      expect((await mesh.client.get(hostOf(name), "/", { method, headers })).status).toBeGreaterThanOrEqual(502);
      expect(broken.flatMap(({ seen }) => seen)).toHaveLength(count);
      expect(Math.max(...broken.map(({ seen }) => seen.length))).toBe(1);
      for (const { close } of broken) close();
    });

    it("are as many as the operator says", async () => {
      const broken = await Promise.all([breaking(), breaking(), breaking(), breaking()]);
      await tuned.log.append([
        routeEntry("two-attempts"),
        {
          key: "process.bbs.two-attempts",
          value: encodeProcess({
            processGuid: "two-attempts",
            instances: broken.map(({ port }) => ({
              address: "127.0.0.1",
              isolationSegment: "fast",
              ports: [{ containerPort: 8080, hostPort: port }],
            })),
          }),
        },
      ]);
      await eventually(async () => (await tuned.client.get(hostOf("two-attempts"))).status !== 404);
      for (const { seen } of broken) seen.length = 0;
      await tuned.client.get(hostOf("two-attempts"));
      expect(broken.flatMap(({ seen }) => seen)).toHaveLength(2);
      for (const { close } of broken) close();
    });

    it("can't be asked for by a client", async () => {
      const broken = await Promise.all([breaking(), breaking(), breaking()]);
      await mesh.log.append([
        routeEntry("asked-for"),
        processEntry(
          "asked-for",
          broken.map(({ port }, index) => ({ guid: `b${index}`, port })),
        ),
      ]);
      await eventually(
        async () => (await mesh.client.get(hostOf("asked-for"), "/", { method: "PATCH" })).status !== 404,
      );
      for (const { seen } of broken) seen.length = 0;
      const headers = { "x-envoy-retry-on": "reset", "x-envoy-max-retries": "9" };
      await mesh.client.get(hostOf("asked-for"), "/", { method: "POST", headers });
      expect(broken.flatMap(({ seen }) => seen)).toEqual(["POST"]);
      for (const { close } of broken) close();
    });
  });

  describe("an instance that failed", () => {
    const failedCount = async (name: string) => {
      const lines = (await mesh.router.envoy.admin.get("/clusters")).split("\n");
      return lines.filter((line) => line.startsWith(hostOf(name)) && line.endsWith("/failed_outlier_check")).length;
    };

    it("is left alone, and the others serve", async () => {
      const [alive] = await instances.startAll(["alive"]);
      if (!alive) throw new Error("an instance was started");
      const broken = await breaking();
      await mesh.log.append([
        routeEntry("failed"),
        processEntry("failed", [alive, { guid: "broken", port: broken.port }]),
      ]);
      await eventually(async () => {
        await mesh.client.get(hostOf("failed"));
        return broken.seen.length > 0;
      });
      await eventually(async () => (await failedCount("failed")) === 1);
      const before = broken.seen.length;
      expect(await mesh.client.shares(hostOf("failed"), { count: 40 })).toEqual({ alive: 40 });
      expect(broken.seen).toHaveLength(before);
      broken.close();
    });

    it("is tried all the same when all have failed", async () => {
      let isBroken = true;
      const [first, second] = await instances.startAll(["first", "second"], (guid) => (request, response) => {
        if (isBroken) request.socket.destroy();
        else response.end(sampleAnswer(guid, request));
      });
      if (!first || !second) throw new Error("two instances were started");
      await mesh.log.append([routeEntry("all-failed"), processEntry("all-failed", [first, second])]);
      await eventually(async () => (await mesh.client.get(hostOf("all-failed"))).status >= 502);
      await eventually(async () => {
        await mesh.client.get(hostOf("all-failed"));
        return (await failedCount("all-failed")) === 2;
      });
      isBroken = false;
      expect(Object.keys(await mesh.client.shares(hostOf("all-failed"), { count: 10 })).sort()).toEqual([
        "first",
        "second",
      ]);
    });

    it("leaves the share of its destination to the destination's other instances", async () => {
      const [left, right] = await instances.startAll(["left", "right"]);
      if (!left || !right) throw new Error("two instances were started");
      const broken = await breaking();
      await mesh.log.append([
        routeEntry("shares", { destinations: [destination("s1", { weight: 80 }), destination("s2", { weight: 20 })] }),
        processEntry("s1", [left, { guid: "x", port: broken.port }, { guid: "y", port: await refusing() }]),
        processEntry("s2", [right]),
      ]);
      await serves("shares");
      await eventually(async () => {
        await mesh.client.shares(hostOf("shares"), { count: 12 });
        return (await failedCount("shares")) === 2;
      });
      expect(await mesh.client.shares(hostOf("shares"))).toEqual({ left: 80, right: 20 });
      broken.close();
    });
  });

  describe("zones", () => {
    const inZone = async (name: string, zones: readonly string[]) => {
      const running = await instances.startAll(zones.map((zone, index) => `${zone}-${index}`));
      return {
        key: `process.bbs.${name}`,
        value: encodeProcess({
          processGuid: name,
          instances: running.map(({ guid, port }, index) => ({
            guid,
            address: "127.0.0.1",
            availabilityZone: zones[index] ?? "",
            isolationSegment: "fast",
            ports: [{ containerPort: 8080, hostPort: port }],
          })),
        }),
      };
    };
    const appsOf = async (name: string, router = tuned) =>
      Object.keys(await router.client.shares(hostOf(name), { count: 30 })).sort();

    it("requests go to the router's own while something runs there, where the operator wants it", async () => {
      const entries = [routeEntry("zones"), await inZone("zones", ["z1", "z2", "z1", "z3"])];
      await Promise.all([
        tuned.log.append(entries),
        mesh.log.append([routeEntry("zones"), await inZone("zones", ["z1", "z2"])]),
      ]);
      await serves("zones", "/", tuned);
      await serves("zones");
      expect(await appsOf("zones")).toEqual(["z1-0", "z1-2"]);
      expect(await appsOf("zones", mesh)).toEqual(["z1-0", "z2-1"]);
      await tuned.log.append([await inZone("zones", ["z2", "z3"])]);
      await eventually(async () => (await appsOf("zones")).join() === "z2-0,z3-1");
    });

    it("further attempts go to other zones", async () => {
      const broken = await breaking();
      const [far] = await instances.startAll(["far"]);
      if (!far) throw new Error("an instance was started");
      const instance = (port: number, availabilityZone: string) => ({
        address: "127.0.0.1",
        availabilityZone,
        isolationSegment: "fast",
        ports: [{ containerPort: 8080, hostPort: port }],
      });
      await tuned.log.append([
        routeEntry("other-zone"),
        {
          key: "process.bbs.other-zone",
          value: encodeProcess({
            processGuid: "other-zone",
            instances: [instance(broken.port, "z1"), instance(far.port, "z2")],
          }),
        },
      ]);
      await eventually(async () => (await tuned.client.get(hostOf("other-zone"))).status !== 404);
      expect(await tuned.client.shares(hostOf("other-zone"), { count: 5 })).toEqual({ far: 5 });
      expect(broken.seen.length).toBeGreaterThan(0);
      broken.close();
    });

    it("shares of weighted destinations hold over all of them", async () => {
      await tuned.log.append([
        routeEntry("zone-shares", {
          destinations: [destination("near", { weight: 50 }), destination("distant", { weight: 50 })],
        }),
        await inZone("near", ["z1"]),
        await inZone("distant", ["z2"]),
      ]);
      await serves("zone-shares", "/", tuned);
      expect(await tuned.client.shares(hostOf("zone-shares"))).toEqual({ "z1-0": 50, "z2-0": 50 });
    });
  });

  describe("segments", () => {
    it("only those are served that the operator names", async () => {
      const [running] = await instances.startAll(["segment"]);
      if (!running) throw new Error("an instance was started");
      const registration = (name: string, isolationSegment: string) => ({
        key: `registration.nats.${name}`,
        value: encodeRegistration({
          host: hostOf(name),
          address: "127.0.0.1",
          port: running.port,
          protocol: "http1",
          isolationSegment,
        }),
      });
      const entries = [registration("in-fast", "fast"), registration("in-slow", "slow"), registration("shared", "")];
      await Promise.all([tuned.log.append(entries), mesh.log.append(entries)]);
      for (const name of ["in-fast", "in-slow", "shared"]) await serves(name);
      await serves("in-fast", "/", tuned);
      for (const name of ["in-slow", "shared"]) expect((await tuned.client.get(hostOf(name))).status).toBe(404);
    });
  });

  it("connections of an instance are bounded where the operator says so: some requests wait, the others get 503", async () => {
    const held: ServerResponse[] = [];
    const [running] = await instances.startAll(["bounded"], (guid) => (request, response) => {
      if (request.url === "/held") held.push(response);
      else response.end(sampleAnswer(guid, request));
    });
    if (!running) throw new Error("an instance was started");
    await tuned.log.append([
      {
        key: "registration.nats.bounded",
        value: encodeRegistration({
          host: hostOf("bounded"),
          address: "127.0.0.1",
          port: running.port,
          protocol: "http1",
          isolationSegment: "fast",
        }),
      },
    ]);
    await serves("bounded", "/", tuned);
    const client = new Client(tuned.port, 20);
    const ask = (count: number) => Array.from({ length: count }, () => client.get(hostOf("bounded"), "/held"));
    const first = ask(2);
    await eventually(() => held.length === 2);
    const others = ask(5);
    const { status, headers, body } = await Promise.race(others);
    expect(status).toBe(503);
    expect(headers["x-cf-routererror"]).toBe("Connection Limit Reached");
    expect(body.toString()).toBe(
      `503 Service Unavailable: Requested route ('${hostOf("bounded")}') has reached the connection limit.\n`,
    );
    expect(held).toHaveLength(2);
    for (let answered = 0; answered < 6; answered += 1) {
      await eventually(() => held.length > answered);
      held[answered]?.end("{}");
    }
    const statuses = (await Promise.all([...first, ...others])).map((answer) => answer.status);
    expect(statuses.sort()).toEqual([200, 200, 200, 200, 200, 200, 503]);
    await serves("bounded", "/", tuned);
    client.close();
  });
});
