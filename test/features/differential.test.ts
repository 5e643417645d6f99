import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseConfig } from "../../src/config/config.js";
import { type NatsServer, startNatsServer } from "../../src/emulator/nats/nats-server.js";
import { type Mesh, startMesh as startJobs } from "../../src/jobs/up.js";
import { silentLogger } from "../../src/lib/logger.js";
import { Client } from "../support/client.js";
import { eventually } from "../support/eventually.js";
import { freePort } from "../support/free-port.js";
import { DOMAIN, startMesh, type TestMesh } from "../support/mesh.js";

let directory: string;
let nats: NatsServer;
let mesh: TestMesh;
let natsAlone: Mesh;
let natsClient: Client;

/** Hosts and paths that have routes, and neighbours of theirs that have none. */
const REQUESTS: readonly (readonly [host: string, path: string])[] = [
  [`shop.${DOMAIN}`, "/"],
  [`SHOP.${DOMAIN}`, "/"],
  [`shop.${DOMAIN}:8080`, "/any?query=1"],
  [`shop.${DOMAIN}`, "/cart"],
  [`shop.${DOMAIN}`, "/cart/1"],
  [`shop.${DOMAIN}`, "/cart?x=/cartel"],
  [`shop.${DOMAIN}`, "/cartel"],
  [`path-only.${DOMAIN}`, "/"],
  [`path-only.${DOMAIN}`, "/api/v1"],
  [`path-only.${DOMAIN}`, "/api"],
  [`anything.wild.${DOMAIN}`, "/"],
  [`two.words.wild.${DOMAIN}`, "/"],
  [`exact.wild.${DOMAIN}`, "/"],
  [`wild.${DOMAIN}`, "/"],
  [`nobody.${DOMAIN}`, "/"],
  ["nobody.example.com", "/"],
];

/** What a client sees of an answer, and what the app saw of the request. */
async function seen(client: Client, host: string, path: string) {
  const answer = await client.get(host, path);
  const { status, headers } = answer;
  const names = Object.keys(headers).filter((name) => name !== "date" && name !== "x-envoy-upstream-service-time");
  if (status !== 200) return { status, routerError: headers["x-cf-routererror"] };
  const { json } = answer;
  const { app, url, httpVersion } = json;
  return { status, names: names.sort(), app, url, httpVersion, host: json.headers["host"] };
}

async function differences(): Promise<readonly object[]> {
  const found: object[] = [];
  for (const [host, path] of REQUESTS) {
    const platform = await seen(mesh.client, host, path);
    const registered = await seen(natsClient, host, path);
    if (JSON.stringify(platform) !== JSON.stringify(registered)) found.push({ host, path, platform, registered });
  }
  return found;
}

/** Both routers hear of a change at moments of their own. */
async function answerAlike(): Promise<void> {
  await eventually(async () => {
    expect(await differences()).toEqual([]);
    return true;
  });
}

const status = async (host: string, path = "/") => (await natsClient.get(`${host}.${DOMAIN}`, path)).status;

describe("the same apps over Cloud Controller and Diego, and over NATS alone", () => {
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "cf-mesh-differential-"));
    nats = await startNatsServer();
    const servers = [`nats://127.0.0.1:${nats.port}`];
    mesh = await startMesh({ nats: { servers } });
    const port = await freePort();
    const config = {
      log: { directory: join(directory, "log") },
      router: {
        ...{ listenAddress: "127.0.0.1", port, runDirectory: join(directory, "run"), concurrency: 1 },
        ...{ drainWaitMs: 0, drainTimeMs: 0, orphanTimeoutMs: 2_000 },
      },
      nats: { servers },
    };
    natsAlone = await startJobs(parseConfig(config, "test", ["router"]), silentLogger);
    natsClient = new Client(port);
    await Promise.all([mesh.app("hello", { instances: 2 }), mesh.app("hola")]);
  });

  afterAll(async () => {
    natsClient.close();
    await natsAlone.stop();
    await mesh.stop();
    await nats.close();
    await rm(directory, { recursive: true, force: true });
  });

  it("answer alike for hosts, paths and wildcards", async () => {
    await mesh.route("shop", { to: [{ app: "hello" }] });
    await mesh.route("shop", { path: "/cart", to: [{ app: "hola" }] });
    await mesh.route("path-only", { path: "/api", to: [{ app: "hola" }] });
    await mesh.route("*.wild", { to: [{ app: "hello" }] });
    await mesh.route("exact.wild", { to: [{ app: "hola" }] });
    await eventually(async () => (await status("exact.wild")) === 200 && (await status("path-only", "/api")) === 200);
    await answerAlike();
  });

  it("answer alike once a route leads to another app, and once it is gone", async () => {
    const guid = await mesh.route("moved", { to: [{ app: "hello" }] });
    const both = async () => [
      await seen(mesh.client, `moved.${DOMAIN}`, "/"),
      await seen(natsClient, `moved.${DOMAIN}`, "/"),
    ];
    await eventually(async () => (await both()).every((answer) => answer.app === "hello"));
    await mesh.map(guid, [{ app: "hola" }]);
    await eventually(async () => (await both()).every((answer) => answer.app === "hola"));
    await mesh.api.call("DELETE", `/v3/routes/${guid}`);
    await eventually(async () => (await both()).every((answer) => answer.status === 404));
    await answerAlike();
  });

  it("answer alike while an app is scaled, and spread its requests over the same instances", async () => {
    await mesh.api.call("POST", `/v3/apps/${mesh.appGuid("hola")}/processes/web/actions/scale`, { instances: 2 });
    const instances = async (client: Client) => {
      const indexes = new Set<number>();
      for (let asked = 0; asked < 10; asked += 1) indexes.add((await client.get(`shop.${DOMAIN}`, "/cart")).json.index);
      return indexes.size;
    };
    await eventually(async () => (await instances(mesh.client)) === 2 && (await instances(natsClient)) === 2);
    await answerAlike();
  });

  it("answer alike over HTTP/2 to the app", async () => {
    const guid = await mesh.route("second", { to: [{ app: "hello", protocol: "http2" }] });
    const both = async () => [
      await seen(mesh.client, `second.${DOMAIN}`, "/"),
      await seen(natsClient, `second.${DOMAIN}`, "/"),
    ];
    const everywhere = (version: string) =>
      eventually(async () => (await both()).every(({ httpVersion }) => httpVersion === version));
    await everywhere("2.0");
    await mesh.map(guid, [{ app: "hello", protocol: "http1" }]);
    await everywhere("1.1");
    await answerAlike();
  });

  it("leave a stopped app's siblings alone, know its own route as their source does, and have it back when it starts", async () => {
    await mesh.map(await mesh.route("stopping"), [{ app: "hola" }]);
    await mesh.map(await mesh.route("sibling"), [{ app: "hello" }, { app: "hola" }]);
    const statuses = async () => [
      (await mesh.client.get(`stopping.${DOMAIN}`, "/")).status,
      await status("stopping"),
      (await mesh.client.get(`sibling.${DOMAIN}`, "/")).status,
      await status("sibling"),
    ];
    const become = (...expected: readonly number[]) =>
      eventually(async () => (await statuses()).every((one, index) => one === expected[index]));
    await become(200, 200, 200, 200);
    const act = (action: string) => mesh.api.call("POST", `/v3/apps/${mesh.appGuid("hola")}/actions/${action}`);
    await act("stop");
    // Cloud Controller still has the route; over NATS nothing tells of it any more, and Gorouter has no other answer.
    await become(503, 404, 200, 200);
    for (const client of [mesh.client, natsClient]) {
      expect(await client.shares(`sibling.${DOMAIN}`, { count: 10 })).toEqual({ hello: 10 });
    }
    await act("start");
    await become(200, 200, 200, 200);
    await answerAlike();
  });
});
