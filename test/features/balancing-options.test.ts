import { once } from "node:events";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeRegistration, encodeRoute, type RegistrationInit, type RouteInit } from "../../src/entries/entries.js";
import { Client } from "../support/client.js";
import { eventually } from "../support/eventually.js";
import { startTestRouter, type TestRouter } from "../support/router.js";

const TENANTS = Array.from({ length: 40 }, (_, index) => `tenant-${index}`);

describe("options of a route", () => {
  let mesh: TestRouter;
  const servers: Server[] = [];
  /** Answers that wait until the test lets them go, by the app. */
  const held = new Map<string, ServerResponse[]>();

  beforeAll(async () => {
    mesh = await startTestRouter();
  });
  afterAll(async () => {
    await mesh.stop();
    for (const server of servers) {
      server.close();
      server.closeAllConnections();
    }
  });

  async function app(name: string): Promise<number> {
    const server = createServer((request, response) => {
      if (request.url === "/held") held.set(name, [...(held.get(name) ?? []), response]);
      else response.end(JSON.stringify({ app: name }));
    });
    servers.push(server);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return (server.address() as AddressInfo).port;
  }

  /** Starts an app of each name, registered for `host` as a process of that name; resolves when the host answers. */
  async function register(host: string, names: readonly string[], init: RegistrationInit = {}): Promise<void> {
    const registrations = names.map(async (name) => ({
      key: `registration.nats.${host.replaceAll(".", "-")}-${name}`,
      value: encodeRegistration({
        host,
        address: "127.0.0.1",
        port: await app(name),
        processGuid: name,
        protocol: "http1",
        ...init,
      }),
    }));
    await mesh.log.append(await Promise.all(registrations));
    await eventually(async () => (await mesh.client.get(host)).status === 200);
  }
  const addRoute = (init: RouteInit) =>
    mesh.log.append([{ key: `route.cc.${(init.host ?? "").replaceAll(".", "-")}`, value: encodeRoute(init) }]);

  /** How many requests wait for each endpoint of a host. */
  const activeAt = async (host: string) =>
    (await mesh.router.envoy.admin.clusters())
      .filter(({ cluster }) => cluster.startsWith(host))
      .map(({ stats }) => stats.get("rq_active") ?? 0);

  const HASH = { loadbalancing: "hash", hashHeader: "X-Tenant" };
  const appOf = async (host: string, tenant?: string) =>
    (await mesh.client.get(host, "/", tenant === undefined ? {} : { headers: { "x-tenant": tenant } })).json.app;
  const appsOf = async (host: string) => {
    const apps = new Map<string, string>();
    for (const tenant of TENANTS) apps.set(tenant, await appOf(host, tenant));
    return apps;
  };

  it("hash: sends requests with the same header to the same endpoint, and those without to any", async () => {
    const host = "hash.example.com";
    await register(host, ["a", "b", "c"], { options: HASH });
    const apps = await appsOf(host);
    expect(new Set(apps.values())).toEqual(new Set(["a", "b", "c"]));
    expect(await appsOf(host)).toEqual(apps);
    const shares = await mesh.client.shares(host, { count: 60 });
    expect(Object.keys(shares).sort()).toEqual(["a", "b", "c"]);
  });

  it("hash: holds the shares of weighted destinations, and moves few requests when they change", async () => {
    const host = "hash-weighted.example.com";
    await register(host, ["many", "few"], { options: HASH });
    const weighted = (many: number, few: number) => ({
      host,
      options: { ...HASH, hashBalance: "1.5" },
      destinations: [
        { processGuid: "many", port: 8080, weight: many },
        { processGuid: "few", port: 8080, weight: few },
      ],
    });
    await addRoute(weighted(75, 25));
    const countOfFew = async () => [...(await appsOf(host)).values()].filter((name) => name === "few").length;
    await eventually(async () => (await countOfFew()) < TENANTS.length / 2);
    expect(await countOfFew()).toBeGreaterThan(0);
    const before = await appsOf(host);
    await addRoute(weighted(50, 50));
    await eventually(async () => (await countOfFew()) > [...before.values()].filter((name) => name === "few").length);
    const after = await appsOf(host);
    const stayed = TENANTS.filter((tenant) => before.get(tenant) === after.get(tenant));
    expect(stayed.length).toBeGreaterThan(TENANTS.length / 2);
  });

  it("least-connection: keeps requests away from an endpoint that is busy", async () => {
    const host = "least.example.com";
    await register(host, ["x", "y"], { options: { loadbalancing: "least-connection" } });
    const clients = Array.from({ length: 6 }, () => new Client(mesh.port));
    const waiting: Promise<unknown>[] = [];
    const responses = () => ["x", "y"].map((name) => held.get(name) ?? []);
    for (const client of clients) {
      waiting.push(client.get(host, "/held"));
      // Envoy counts a request of an endpoint from when it has a connection on.
      await eventually(() => responses().flat().length === waiting.length);
    }
    const [ofX = [], ofY = []] = responses();
    // The least busy of some that are picked at random: nearly always of all.
    expect(Math.min(ofX.length, ofY.length)).toBeGreaterThanOrEqual(2);
    for (const response of ofX) response.end("{}");
    await eventually(async () => (await activeAt(host)).sort().join() === `0,${ofY.length}`);
    expect((await mesh.client.shares(host, { count: 20 }))["x"]).toBeGreaterThanOrEqual(19);
    for (const response of ofY) response.end("{}");
    await Promise.all(waiting);
    for (const client of clients) client.close();
  });

  it("weights: hold for processes that are known from NATS alone", async () => {
    const host = "nats-weighted.example.com";
    await register(host, ["nine", "one"]);
    await addRoute({
      host,
      destinations: [
        { processGuid: "nine", port: 8080, weight: 90 },
        { processGuid: "one", port: 8080, weight: 10 },
      ],
    });
    await eventually(async () => (await mesh.client.shares(host, { count: 10 }))["nine"] === 9);
    expect(await mesh.client.shares(host)).toEqual({ nine: 90, one: 10 });
  });

  it("take effect when a newer registration brings others", async () => {
    const host = "change.example.com";
    await register(host, ["one", "two"]);
    await register(host, ["three"], { options: HASH, updatedAtNs: 1n });
    await eventually(async () => {
      const apps = await Promise.all(["t", "t", "t", "t"].map((tenant) => appOf(host, tenant)));
      return new Set(apps).size === 1;
    });
  });
});
