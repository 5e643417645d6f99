import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { request as requestByTls } from "node:https";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import type { PeerCertificate } from "node:tls";
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { createCertificates } from "../../src/emulator/certificates.js";
import { built } from "../support/built.js";
import { eventually } from "../support/eventually.js";
import { freePort } from "../support/free-port.js";
import { startMesh, type TestMesh } from "../support/mesh.js";

const DRAIN_WAIT_MS = 700;

let mesh: TestMesh;
let router: ChildProcess | undefined;
let ports: { readonly health: number; readonly api: number };

beforeAll(async () => {
  mesh = await startMesh({ separateRouter: true });
  await mesh.app("blue");
  await mesh.route("shop", { to: [{ app: "blue" }] });
});
afterEach(async () => {
  if (router?.exitCode === null && router.signalCode === null) {
    router.kill("SIGKILL");
    await once(router, "exit");
  }
  router = undefined;
});
afterAll(() => mesh.stop());

/** `cf-mesh router` as operators run it. */
async function startRouter(health: object = {}): Promise<ChildProcess> {
  ports = { health: await freePort(), api: await freePort() };
  const config = JSON.parse(await readFile(mesh.configFile, "utf8")) as { router: object };
  await writeFile(
    mesh.configFile,
    JSON.stringify({
      ...config,
      api: { port: ports.api },
      router: {
        ...config.router,
        drainWaitMs: DRAIN_WAIT_MS,
        drainTimeMs: 20_000,
        health: { listenAddress: "127.0.0.1", port: ports.health, ...health },
      },
    }),
  );
  router = spawn(process.execPath, [built("src/cli/main.ts"), "router", "--config", mesh.configFile], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  return router;
}

async function get(port: number, path: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const call = request({ host: "127.0.0.1", port, path, agent: false }, (response) => {
      text(response).then((body) => resolve({ status: response.statusCode ?? 0, body }), reject);
    });
    call.once("error", reject);
    call.end();
  });
}

const isHealthy = () =>
  get(ports.health, "/health").then(
    ({ status }) => status === 200,
    () => false,
  );

describe("cf-mesh router", () => {
  it("is healthy and ready once Envoy knows every route, and not before", async () => {
    await startRouter();
    const seen = new Set<string>();
    await eventually(async () => {
      const { status, body } = await get(ports.health, "/health").catch(() => ({ status: 0, body: "" }));
      if (status !== 0) seen.add(`${status} ${body}`);
      return status === 200;
    });
    expect([...seen].at(-1)).toBe("200 ok\n");
    for (const earlier of [...seen].slice(0, -1)) expect(earlier).toMatch(/^503 starting/);
    expect(await get(ports.api, "/ready")).toEqual({ status: 200, body: "ready\n" });
    expect((await mesh.client.get("shop.mesh.localhost")).status).toBe(200);
  });

  it("tells load balancers of its health, and nothing else", async () => {
    await startRouter();
    await eventually(isHealthy);
    for (const path of ["/status", "/metrics", "/ready"]) expect((await get(ports.health, path)).status).toBe(404);
  });

  it("tells its health by HTTPS as well, with a certificate that may be replaced", async () => {
    const [certificates, tlsPort] = [await createCertificates(), await freePort()];
    const directory = await mkdtemp(join(tmpdir(), "cf-mesh-"));
    onTestFinished(() => rm(directory, { recursive: true }));
    const [certificateFile, keyFile] = [join(directory, "health.crt"), join(directory, "health.key")];
    const issue = async (commonName: string) => {
      const { certificate, key } = await certificates.issue({ commonName, dnsNames: ["localhost"] });
      await Promise.all([writeFile(certificateFile, certificate), writeFile(keyFile, key)]);
    };
    const names = new Set<string>();
    const health = () =>
      new Promise<string>((resolve, reject) => {
        const options = { host: "127.0.0.1", port: tlsPort, path: "/health", agent: false, ca: certificates.ca };
        const checkServerIdentity = (_: string, { subject }: PeerCertificate) => {
          names.add(String(subject.CN));
          return undefined;
        };
        const call = requestByTls({ ...options, servername: "localhost", checkServerIdentity }, (response) => {
          text(response).then((body) => resolve(`${response.statusCode ?? 0} ${body}`), reject);
        });
        call.once("error", reject).end();
      });
    await issue("first");
    const process = await startRouter({ tls: { port: tlsPort, certificateFile, keyFile } });
    await eventually(isHealthy);
    expect(await health()).toBe("200 ok\n");
    expect([...names]).toEqual(["first"]);
    await issue("second");
    process.kill("SIGHUP");
    await eventually(async () => (await health()) === "200 ok\n" && names.has("second"));
  });

  it("tells Prometheus what it has and did", async () => {
    await startRouter();
    await eventually(isHealthy);
    const { body } = await get(ports.api, "/metrics");
    const values = new Map(
      body.split("\n").map((line) => [line.replace(/ [^ ]*$/, ""), Number(line.slice(line.lastIndexOf(" ")))]),
    );
    expect(values.get("cf_mesh_router_ready")).toBe(1);
    expect(values.get("cf_mesh_router_routes")).toBe(1);
    expect(values.get("cf_mesh_envoy_up")).toBe(1);
    expect(values.get("cf_mesh_xds_connected_proxies")).toBe(1);
    expect(values.get('cf_mesh_xds_held_resources{type="ScopedRouteConfiguration"}')).toBe(1);
    expect(values.get("cf_mesh_router_log_sequence")).toBeGreaterThan(0);
  });

  it("fails its health check first, then takes no connections, and ends when the last request has", async () => {
    const process = await startRouter();
    await eventually(isHealthy);
    await mesh.answers("shop.mesh.localhost", 200);
    // A request whose body is not there yet: it runs for as long as the test wants.
    const slow = connect(mesh.routerPort, "127.0.0.1");
    slow.write("POST / HTTP/1.1\r\nhost: shop.mesh.localhost\r\ncontent-length: 4\r\n\r\nab");
    const answer = text(slow);

    process.kill("SIGTERM");
    const askedMs = Date.now();
    await eventually(async () => (await get(ports.health, "/health")).body === "draining\n");
    expect((await get(ports.health, "/is-process-alive-do-not-use-for-loadbalancing")).body).toBe("ok\n");
    // Load balancers have not noticed yet.
    expect((await get(mesh.routerPort, "/")).status).toBe(404);
    await eventually(async () => {
      const refusal = await get(mesh.routerPort, "/").catch((error: unknown) => String(error));
      return typeof refusal === "string" && refusal.includes("ECONNREFUSED");
    });
    expect(Date.now() - askedMs).toBeGreaterThanOrEqual(DRAIN_WAIT_MS);
    expect(process.exitCode).toBeNull();

    slow.write("cd");
    expect(await answer).toMatch(/^HTTP\/1\.1 200 OK\r\n.*connection: close/is);
    expect(await once(process, "exit")).toEqual([0, null]);
  });

  it("ends at once when it is asked twice", async () => {
    const process = await startRouter();
    await eventually(isHealthy);
    process.kill("SIGTERM");
    await eventually(async () => (await get(ports.health, "/health")).body === "draining\n");
    process.kill("SIGTERM");
    expect(await once(process, "exit")).toEqual([130, null]);
  });
});
