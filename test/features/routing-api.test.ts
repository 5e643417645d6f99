import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseConfig } from "../../src/config/config.js";
import { type NatsServer, startNatsServer } from "../../src/emulator/nats/nats-server.js";
import { type Mesh, startMesh } from "../../src/jobs/up.js";
import { systemClock } from "../../src/lib/clock.js";
import { silentLogger } from "../../src/lib/logger.js";
import { Link } from "../reliability/link.js";
import { built } from "../support/built.js";
import { Client } from "../support/client.js";
import { APP_DOMAIN, type EmulatedFoundation, startEmulatedFoundation } from "../support/emulated-foundation.js";
import { eventually } from "../support/eventually.js";
import { freePort } from "../support/free-port.js";
import { Publisher, READER, ROUTING_CLIENTS } from "../support/routing-api.js";

let directory: string;
let nats: NatsServer;
let cf: EmulatedFoundation;
let publisher: Publisher;
let link: Link;
let jobs: Mesh;
let client: Client;
let registrar: NatsConnection;
let config: ReturnType<typeof parseConfig>;
const apps: Server[] = [];

interface Said {
  readonly app: string;
  readonly headers: IncomingHttpHeaders;
}

/** A plain listener that answers with its name and the headers it got; resolves with its port. */
async function listen(name: string): Promise<number> {
  const server = createServer(({ headers }, response) => response.end(JSON.stringify({ app: name, headers })));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  apps.push(server);
  return (server.address() as AddressInfo).port;
}

/** What a host and path answer: the app's name, or the status. */
async function answer(host: string, path = "/"): Promise<string> {
  const answered = await client.get(host, path);
  return answered.status === 200 ? answered.json.app : String(answered.status);
}

async function answers(expected: string, host: string, path = "/"): Promise<void> {
  await eventually(async () => (await answer(host, path)) === expected);
}

const source = () => jobs.status.sources.find(({ name }) => name === "routing-api") ?? expect.fail();
const followed = () => eventually(() => jobs.status.sources.every(({ state }) => state === "following"));

/** Cloud Controller and NATS beside it, as on a foundation. */
describe("the routing API", () => {
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "cf-mesh-routing-api-"));
    nats = await startNatsServer();
    cf = await startEmulatedFoundation({ clock: systemClock, clients: ROUTING_CLIENTS });
    publisher = new Publisher(cf.foundation);
    const { apiUrl, uaaUrl, clientId, clientSecret } = cf.foundation;
    link = await Link.to(new URL(apiUrl));
    const routerPort = await freePort();
    config = parseConfig(
      {
        log: { directory: join(directory, "log") },
        router: {
          listenAddress: "127.0.0.1",
          port: routerPort,
          runDirectory: join(directory, "run"),
          concurrency: 1,
          drainWaitMs: 0,
          drainTimeMs: 0,
          orphanTimeoutMs: 2_000,
        },
        cloudController: { url: apiUrl, clientId, clientSecret, requestsPerSecond: 20 },
        nats: { servers: [`nats://127.0.0.1:${nats.port}`] },
        routingApi: {
          url: link.via(new URL(apiUrl)),
          uaaUrl,
          clientId: READER.id,
          clientSecret: READER.secret,
          listIntervalMs: 1_000,
        },
      },
      "test",
      ["router"],
    );
    jobs = await startMesh(config, silentLogger);
    client = new Client(routerPort);
    registrar = await connect({ servers: `127.0.0.1:${nats.port}` });
    await followed();
  });

  afterAll(async () => {
    client.close();
    await registrar.close();
    await jobs.stop();
    await link.close();
    for (const app of apps) {
      app.closeAllConnections();
      app.close();
    }
    await cf.close();
    await nats.close();
    await rm(directory, { recursive: true, force: true });
  });

  it("has what is posted to it served, until it is deleted", async () => {
    const route = { route: "posted.example.test", port: await listen("posted"), log_guid: "app-of-the-post" };
    await answers("404", route.route);
    await publisher.post(route);
    await answers("posted", route.route);
    const { headers } = (await client.get("POSTED.example.test", "/a?b")).json as unknown as Said;
    expect(headers).toMatchObject({
      "x-cf-applicationid": "app-of-the-post",
      "x-cf-instanceid": `127.0.0.1:${route.port}`,
    });
    await publisher.remove(route);
    await answers("404", route.route);
  });

  it("has instances that join and leave share the requests of a route", async () => {
    const [first, second] = [await listen("first"), await listen("second")];
    const at = (port: number) => ({ route: "two.example.test", port });
    await publisher.post(at(first));
    await answers("first", "two.example.test");
    await publisher.post(at(second));
    await answers("second", "two.example.test");
    expect(await client.shares("two.example.test", { count: 20 })).toEqual({ first: 10, second: 10 });
    await publisher.remove(at(first));
    await eventually(async () => (await client.shares("two.example.test", { count: 4 }))["second"] === 4);
  });

  it("has its paths and wildcards matched as all others", async () => {
    const [wild, path, exact] = [await listen("wild"), await listen("path"), await listen("exact")];
    await publisher.post(
      { route: "*.wild.example.test", port: wild },
      { route: "a.wild.example.test", port: exact },
      { route: "a.wild.example.test/Cart", port: path },
    );
    await answers("path", "a.wild.example.test", "/cart/1");
    await answers("exact", "a.wild.example.test", "/carts");
    await answers("wild", "b.wild.example.test", "/cart");
    expect(await answer("wild.example.test")).toBe("404");
  });

  it("makes one pool with what NATS registers for the same host and path", async () => {
    const [byNats, byApi] = [await listen("by-nats"), await listen("by-api")];
    const uris = ["shared.example.test"];
    registrar.publish("router.register", JSON.stringify({ host: "127.0.0.1", port: byNats, uris }));
    await answers("by-nats", "shared.example.test");
    await publisher.post({ route: "shared.example.test", port: byApi });
    await answers("by-api", "shared.example.test");
    expect(await client.shares("shared.example.test", { count: 20 })).toEqual({ "by-nats": 10, "by-api": 10 });
    registrar.publish("router.unregister", JSON.stringify({ host: "127.0.0.1", port: byNats, uris }));
    await eventually(async () => (await client.shares("shared.example.test", { count: 4 }))["by-api"] === 4);
  });

  it("gives way to a route of Cloud Controller, also where nothing of that runs, for as long as there is one", async () => {
    const host = `mapped.${APP_DOMAIN}`;
    await publisher.post(
      { route: host, port: await listen("below") },
      { route: `${host}/path`, port: await listen("path") },
    );
    await answers("below", host);
    const appGuid = await cf.app("mapped");
    const { guid } = await cf.route("mapped");
    await cf.call("PATCH", `/v3/routes/${guid}/destinations`, { destinations: [{ app: { guid: appGuid } }] });
    await answers("503", host);
    expect(await answer(host, "/path/x")).toBe("path");
    await cf.call("DELETE", `/v3/routes/${guid}`);
    await answers("below", host);
  });

  it("has routes that are bound to a route service sent there, and nowhere without one", async () => {
    const route = { route: "guarded.example.test", port: await listen("guarded") };
    await publisher.post({ ...route, route_service_url: "https://guard.example.test" });
    await answers("502", route.route);
    // This router has no secret to sign with.
    const { headers } = await client.get(route.route);
    expect(headers["x-cf-routererror"]).toBe("route_service_unsupported");
  });

  it("drops what nobody says again in time", async () => {
    await publisher.post({ route: "short.example.test", port: await listen("short"), ttl: 1 });
    await answers("short", "short.example.test");
    await answers("404", "short.example.test");
  });

  it("has what it knew served while it is gone, and what is posted meanwhile when it is back", async () => {
    const kept = { route: "kept.example.test", port: await listen("kept") };
    await publisher.post(kept);
    await answers("kept", kept.route);
    link.cut();
    await eventually(() => source().state === "retrying");
    expect(await answer(kept.route)).toBe("kept");
    await publisher.post({ ...kept, route: "later.example.test" });
    link.mend();
    await answers("kept", "later.example.test");
    expect(await answer(kept.route)).toBe("kept");
    await publisher.remove(kept);
    await answers("404", kept.route);
    await followed();
  });

  it("has what it knew served by a mesh that starts while it is gone", async () => {
    const kept = { route: "restart.example.test", port: await listen("kept") };
    await publisher.post(kept);
    await answers("kept", kept.route);
    link.cut();
    await jobs.stop();
    jobs = await startMesh(config, silentLogger);
    await answers("kept", kept.route);
    expect(source()).toMatchObject({ state: "retrying", lastSyncMs: undefined });
    link.mend();
    await followed();
    expect(await answer(kept.route)).toBe("kept");
  });

  it("goes on when the token is not taken any more", async () => {
    const route = { route: "renewed.example.test", port: await listen("renewed") };
    await publisher.post(route);
    await answers("renewed", route.route);
    await cf.foundation.faults.revokeTokens();
    publisher.forgetToken();
    cf.foundation.faults.routingApi.cutStreams();
    await publisher.post({ ...route, route: "renewed-too.example.test" });
    await answers("renewed", "renewed-too.example.test");
    expect(await answer(route.route)).toBe("renewed");
    await publisher.remove(route);
    await answers("404", route.route);
    await followed();
  });

  it("is followed by a control of its own process, which says how it fares, and no secret", async () => {
    await publisher.post({ route: "process.example.test", port: 9 });
    const home = await mkdtemp(join(tmpdir(), "cf-mesh-routing-control-"));
    const file = (name: string) => join(home, name);
    await writeFile(file("secret"), `${READER.secret}\n`, { mode: 0o600 });
    const apiPort = await freePort();
    const { apiUrl, uaaUrl } = cf.foundation;
    const sections = {
      logLevel: "debug",
      api: { port: apiPort },
      log: { directory: file("log") },
      routingApi: { url: apiUrl, uaaUrl, clientId: READER.id, clientSecretFile: file("secret") },
    };
    await writeFile(file("mesh.json"), JSON.stringify(sections));
    const job = spawn(process.execPath, [built("src/cli/main.ts"), "control", "--config", file("mesh.json")]);
    let output = "";
    for (const stream of [job.stdout, job.stderr]) stream.on("data", (text: Buffer) => (output += text.toString()));
    try {
      const get = async (path: string) => {
        const response = await fetch(`http://127.0.0.1:${apiPort}${path}`).catch(() => undefined);
        return response?.ok === true ? response.text() : undefined;
      };
      expect(await eventually(() => get("/ready"))).toBe("ready\n");
      const metrics = await eventually(() => get("/metrics"));
      expect(metrics).toContain('cf_mesh_source_state{source="routing-api",state="following"} 1');
      expect(metrics).toContain('cf_mesh_source_messages_refused_total{source="routing-api"} 0');
      const status = JSON.parse(await eventually(() => get("/status"))) as Mesh["status"];
      expect(status.sources).toMatchObject([{ name: "routing-api", role: "leader", state: "following" }]);
      expect(status.sources[0]?.messages?.registered).toBeGreaterThan(0);
      const token = "eyJ";
      for (const secret of [READER.secret, token]) expect(output + JSON.stringify(status)).not.toContain(secret);
    } finally {
      const ended = once(job, "exit");
      job.kill("SIGTERM");
      expect((await ended)[0]).toBe(0);
      await rm(home, { recursive: true, force: true });
    }
  });
});
