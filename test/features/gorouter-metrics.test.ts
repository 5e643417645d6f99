import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { createServer as createHttps } from "node:https";
import { type AddressInfo, connect, createServer as createTcp } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Certificates, createCertificates } from "../../src/emulator/certificates.js";
import { encodeProcess, encodeRegistration, encodeRoute } from "../../src/entries/entries.js";
import { eventually } from "../support/eventually.js";
import { startTestRouter, type TestRouter } from "../support/router.js";

/** Sample of a metric, with its labels in the order in which they come: `responses{status_group="2xx"}`. */
type Sample = string;

describe("metrics by Gorouter's names", () => {
  let mesh: TestRouter;
  let certificates: Certificates;
  const servers: Server[] = [];

  beforeAll(async () => {
    certificates = await createCertificates();
    mesh = await startTestRouter({
      files: { "ca.crt": certificates.ca },
      config: (path) => ({ backends: { caFile: path("ca.crt") }, requestMetrics: { apps: 2, routes: 2 } }),
    });
  });
  afterAll(async () => {
    await mesh.stop();
    for (const server of servers) {
      server.close();
      server.closeAllConnections();
    }
  });

  async function listen(server: Server): Promise<number> {
    servers.push(server);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return (server.address() as AddressInfo).port;
  }
  const app = () =>
    listen(
      createServer((request, response) => {
        response.statusCode = Number(request.url?.slice(1)) || 200;
        response.end();
      }).on("upgrade", (_request, socket) => {
        socket.end("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
      }),
    );

  /** A route to an app of the same name with one instance. */
  const route = (name: string, { port = 0, tlsPort = 0, certSan = "" }) => [
    {
      key: `route.cc.${name}`,
      value: encodeRoute({
        guid: name,
        host: `${name}.example.com`,
        destinations: [{ processGuid: name, appGuid: name, port: 8080, protocol: "http1" }],
      }),
    },
    {
      key: `process.bbs.${name}`,
      value: encodeProcess({
        processGuid: name,
        appGuid: name,
        instances: [
          {
            guid: certSan || name,
            address: "127.0.0.1",
            certSan,
            ports: [{ containerPort: 8080, hostPort: port, hostTlsPort: tlsPort }],
          },
        ],
      }),
    },
  ];
  let sent = 0;
  let faults = 0;
  const count = (status: number) => {
    sent += 1;
    if (status >= 400 || status < 200) faults += 1;
  };
  const get = async (name: string, path = "/") => {
    const answer = await mesh.client.get(`${name}.example.com`, path);
    count(answer.status);
    return answer;
  };
  /** Records come in batches: waits for those of all requests so far. */
  const counted = () =>
    eventually(() => {
      const told = mesh.router.status.requestLog;
      return told?.requestCount === sent && told.faultCount === faults;
    });

  async function read(sample: Sample): Promise<number> {
    const line = (await mesh.router.metrics()).split("\n").find((each) => each.startsWith(`${sample} `));
    return line === undefined ? 0 : Number(line.slice(sample.length + 1));
  }
  /** By how much samples grow by what is done. */
  async function growth(samples: readonly Sample[], act: () => Promise<unknown>): Promise<readonly number[]> {
    await counted();
    const before = await Promise.all(samples.map(read));
    await act();
    await counted();
    const after = await Promise.all(samples.map(read));
    return after.map((value, place) => value - (before[place] ?? 0));
  }

  it("count requests, answers by their class, and how long they took", async () => {
    await mesh.log.append(route("plain", { port: await app() }));
    await eventually(async () => (await get("plain")).status === 200);
    const grown = await growth(
      [
        'total_requests{component="route-emitter"}',
        'responses{status_group="2xx"}',
        'responses{status_group="4xx"}',
        'responses{status_group="5xx"}',
        'latency_count{component="route-emitter"}',
        'latency_bucket{le="1000",component="route-emitter"}',
        "gorouter_time_count",
        'gorouter_time_bucket{le="1"}',
        "bad_gateways",
        "rejected_requests",
      ],
      async () => {
        for (const path of ["/", "/201", "/404", "/502"]) await get("plain", path);
      },
    );
    expect(grown).toEqual([4, 2, 1, 1, 4, 4, 4, 4, 0, 0]);
  });

  it("count what the router answers itself, apart from what apps do", async () => {
    await mesh.log.append(route("empty", {}));
    const gone = createTcp().listen(0, "127.0.0.1");
    await once(gone, "listening");
    const { port } = gone.address() as AddressInfo;
    gone.close();
    await mesh.log.append(route("refusing", { port }));
    await eventually(async () => [502, 503].includes((await get("refusing")).status));
    const samples = ["rejected_requests", "bad_gateways", 'responses{status_group="5xx"}'];
    expect(await growth(samples, () => get("nobody"))).toEqual([1, 0, 0]);
    expect(await growth(samples, () => get("empty"))).toEqual([1, 0, 0]);
    expect(await growth(samples, () => get("refusing"))).toEqual([0, 1, 1]);
  });

  it("tell faults of TLS apart: another's certificate, and none at all", async () => {
    const { certificate, key } = await certificates.issue({ commonName: "other", dnsNames: ["other"] });
    const secure = await listen(createHttps({ cert: certificate, key }, (_request, response) => response.end()));
    await mesh.log.append([
      ...route("mixed-up", { tlsPort: secure, certSan: "instance" }),
      ...route("no-tls", { tlsPort: await app(), certSan: "instance" }),
    ]);
    for (const name of ["mixed-up", "no-tls"]) await eventually(async () => (await get(name)).status >= 500);
    const kinds = ["backend_invalid_id", "backend_invalid_tls_cert", "backend_tls_handshake_failed"];
    expect(await growth(kinds, () => get("mixed-up"))).toEqual([1, 0, 0]);
    expect(await growth(kinds, () => get("no-tls"))).toEqual([0, 0, 1]);
  });

  it("count WebSockets and those that came to nothing", async () => {
    const upgrade = async (name: string) => {
      const socket = connect(mesh.port, "127.0.0.1");
      socket.write(
        `GET / HTTP/1.1\r\nhost: ${name}.example.com\r\nconnection: upgrade\r\nupgrade: websocket\r\n` +
          `sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`,
      );
      const [head] = (await once(socket, "data")) as [Buffer];
      count(Number(head.toString().split(" ")[1]));
      socket.destroy();
    };
    const samples = ["websocket_upgrades", "websocket_failures"];
    expect(await growth(samples, () => upgrade("plain"))).toEqual([1, 0]);
    expect(await growth(samples, () => upgrade("refusing"))).toEqual([0, 1]);
  });

  it("tell of the table and the process", async () => {
    expect(await read("total_routes")).toBe(mesh.router.table.routeCount);
    expect(await read("ms_since_last_registry_update")).toBe(0);
    if (process.platform === "linux") expect(await read("file_descriptors")).toBeGreaterThan(20);
  });

  it("have no place for what Envoy does not measure: the time of a look-up is within gorouter_time", async () => {
    const text = await mesh.router.metrics();
    expect(text).toContain("gorouter_time_sum");
    expect(text).not.toContain("route_lookup_time");
  });

  it("tell of so many apps and routes as are asked for, and of the others as one", async () => {
    await mesh.log.append([...route("second", { port: await app() }), ...route("third", { port: await app() })]);
    for (const name of ["second", "third"]) await eventually(async () => (await get(name)).status === 200);
    await counted();
    expect(await read('http_latency_seconds_count{source_id="other"}')).toBeGreaterThan(0);
    const text = await mesh.router.metrics();
    const values = (label: string) =>
      new Set([...text.matchAll(new RegExp(`${label}="([^"]*)"`, "g"))].map((found) => found[1]));
    expect([...values("app_id")].filter((name) => name !== "other")).toHaveLength(2);
    expect([...values("route")].filter((name) => name !== "other")).toHaveLength(2);
    expect([...values("source_id")].sort()).toEqual([...values("app_id")].sort());
    expect(await read('cf_mesh_app_requests_total{app_id="plain",status_group="2xx"}')).toBeGreaterThan(0);
    expect(await read('cf_mesh_route_requests_total{route="plain.example.com",status_group="2xx"}')).toBeGreaterThan(0);
    expect(await read('cf_mesh_route_latency_seconds_count{route="plain.example.com"}')).toBeGreaterThan(0);
  });

  it("are all that grows with the hosts in use: Envoy's own statistics do not", async () => {
    const hosts = ["first-of-two", "second-of-two"];
    for (const name of hosts) await mesh.log.append(route(name, { port: await app() }));
    const names: (readonly string[])[] = [];
    for (const name of hosts) {
      await eventually(async () => (await get(name)).status === 200);
      await counted();
      names.push([...(await mesh.router.envoy.admin.stats("")).keys()].sort());
    }
    expect(names[1]).toEqual(names[0]);
    expect(names[0]).toContain("http.router.downstream_rq_total");
    expect(names[0]?.filter((name) => name.includes("of-two"))).toEqual([]);
  });

  it("tell how long an endpoint takes from where it runs to the table, and not of those that were there before", async () => {
    const samples = ["route_registration_latency_count", "route_registration_latency_sum"];
    const added = (act: () => Promise<unknown>) => growth(samples, act);
    const port = await app();
    const instance = (guid: string, agoMs: number) => ({
      guid,
      address: "127.0.0.1",
      sinceNs: BigInt(Date.now() - agoMs) * 1_000_000n,
      ports: [{ containerPort: 8080, hostPort: port }],
    });
    const put = async (...instances: readonly ReturnType<typeof instance>[]) => {
      const [entry] = route("late", {});
      const value = encodeProcess({ processGuid: "late", appGuid: "late", instances: [...instances] });
      const { sequence } = mesh.router.status;
      await mesh.log.append([...(entry ? [entry] : []), { key: "process.bbs.late", value }]);
      await eventually(() => mesh.router.status.sequence > sequence + 1);
    };
    const [first, second] = [instance("late-0", 60_000), instance("late-1", 30_000)];
    const [count, sum = 0] = await added(() => put(first));
    expect(count).toBe(1);
    expect(sum).toBeGreaterThanOrEqual(60_000);
    expect(sum).toBeLessThan(90_000);
    expect((await added(() => put(first, second)))[0]).toBe(1);
    expect((await added(() => put(second)))[0]).toBe(0);
    const registered = encodeRegistration({
      host: "registered.example.com",
      address: "127.0.0.1",
      port,
      updatedAtNs: BigInt(Date.now()) * 1_000_000n,
    });
    const key = "registration.nats.registered";
    const append = async (value: Uint8Array | undefined) => {
      const { sequence } = mesh.router.status;
      await mesh.log.append([{ key, value }]);
      await eventually(() => mesh.router.status.sequence > sequence);
    };
    expect((await added(() => append(registered)))[0]).toBe(1);
    await append(undefined);
    // A router that starts has them at once: how old they are says nothing of how they came.
    await mesh.restartAgent();
    expect(await read("route_registration_latency_count")).toBe(0);
  });
});
