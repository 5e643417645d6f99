import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseConfig } from "../../src/config/config.js";
import { type NatsServer, startNatsServer } from "../../src/emulator/nats/nats-server.js";
import { type Mesh, startMesh } from "../../src/jobs/up.js";
import { silentLogger } from "../../src/lib/logger.js";
import { Client } from "../support/client.js";
import { eventually } from "../support/eventually.js";
import { freePort } from "../support/free-port.js";

let directory: string;
let nats: NatsServer;
let jobs: Mesh;
let client: Client;
let publisher: NatsConnection;
const apps: Server[] = [];

/** A plain listener that answers with its name; resolves with its port. */
async function listen(name: string): Promise<number> {
  const server = createServer((_, response) => response.end(JSON.stringify({ app: name })));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  apps.push(server);
  return (server.address() as AddressInfo).port;
}

function say(
  subject: "router.register" | "router.unregister",
  port: number,
  uris: readonly string[],
  more: object = {},
) {
  publisher.publish(subject, JSON.stringify({ host: "127.0.0.1", port, uris, ...more }));
}

/** What a host and path answer: the app's name, or the status. */
async function answer(host: string, path = "/"): Promise<string> {
  const answered = await client.get(host, path);
  return answered.status === 200 ? answered.json.app : String(answered.status);
}

async function answers(expected: string, host: string, path = "/"): Promise<void> {
  await eventually(async () => (await answer(host, path)) === expected);
}

/** Neither Cloud Controller nor Diego: the router stands where Gorouter stood. */
describe("NATS alone", () => {
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "cf-mesh-nats-only-"));
    nats = await startNatsServer({ settings: { authorization: { user: "router", password: "secret" } } });
    const servers = `127.0.0.1:${nats.port}`;
    const routerPort = await freePort();
    jobs = await startMesh(
      parseConfig(
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
          nats: { servers: [`nats://${servers}`], user: "router", password: "secret" },
        },
        "test",
        ["router"],
      ),
      silentLogger,
    );
    client = new Client(routerPort);
    publisher = await connect({
      servers,
      user: "router",
      pass: "secret",
      maxReconnectAttempts: -1,
      reconnectTimeWait: 50,
    });
    await eventually(() => jobs.status.sources.every(({ state }) => state === "following"));
  });

  afterAll(async () => {
    client.close();
    await publisher.close();
    await jobs.stop();
    for (const app of apps) {
      app.closeAllConnections();
      app.close();
    }
    await nats.close();
    await rm(directory, { recursive: true, force: true });
  });

  it("routes what is registered, until it is unregistered", async () => {
    const port = await listen("system");
    await answers("404", "api.sys.example.test");
    say("router.register", port, ["api.sys.example.test"]);
    await answers("system", "api.sys.example.test");
    expect(await answer("API.sys.example.test", "/v3/info?x=1")).toBe("system");
    say("router.unregister", port, ["api.sys.example.test"]);
    await answers("404", "api.sys.example.test");
  });

  it("balances over the endpoints of a URI, and goes on with what is left", async () => {
    const [first, second] = [await listen("first"), await listen("second")];
    say("router.register", first, ["two.example.test"]);
    await answers("first", "two.example.test");
    say("router.register", second, ["two.example.test"]);
    await answers("second", "two.example.test");
    expect(await client.shares("two.example.test", { count: 20 })).toEqual({ first: 10, second: 10 });
    say("router.unregister", first, ["two.example.test"]);
    await eventually(async () => (await client.shares("two.example.test", { count: 4 }))["second"] === 4);
  });

  it("takes wildcards and paths: the longest path, then the nearest wildcard", async () => {
    const [wild, path, exact] = [await listen("wild"), await listen("path"), await listen("exact")];
    say("router.register", wild, ["*.wild.example.test"]);
    say("router.register", exact, ["a.wild.example.test"]);
    say("router.register", path, ["a.wild.example.test/cart"]);
    await answers("path", "a.wild.example.test", "/cart/1");
    await answers("exact", "a.wild.example.test", "/carts");
    await answers("wild", "b.wild.example.test", "/cart");
    expect(await answer("x.y.wild.example.test")).toBe("wild");
    expect(await answer("wild.example.test")).toBe("404");
  });

  it("follows an endpoint that moves to another app", async () => {
    const port = await listen("moved");
    const tags = { component: "route-emitter", process_id: "process" };
    say("router.register", port, ["old.example.test"], { app: "old", private_instance_id: "one", tags });
    await answers("moved", "old.example.test");
    say("router.unregister", port, ["old.example.test"], { app: "old" });
    say("router.register", port, ["new.example.test"], { app: "new", private_instance_id: "two", tags });
    await answers("moved", "new.example.test");
    await answers("404", "old.example.test");
  });

  it("serves on while NATS is gone, and takes what is registered when it is back", async () => {
    const port = await listen("kept");
    say("router.register", port, ["kept.example.test"]);
    await answers("kept", "kept.example.test");
    await nats.stop("SIGKILL");
    await eventually(() => jobs.status.sources.some(({ state }) => state === "retrying"));
    expect(await answer("kept.example.test")).toBe("kept");
    await nats.start();
    await eventually(() => jobs.status.sources.every(({ state }) => state === "following"));
    await eventually(() => publisher.flush().then(() => true));
    say("router.register", port, ["later.example.test"]);
    await answers("kept", "later.example.test");
    expect(await answer("kept.example.test")).toBe("kept");
  });
});
