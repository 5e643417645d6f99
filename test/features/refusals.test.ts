import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeProcess, encodeRoute } from "../../src/entries/entries.js";
import { RouterSchema } from "../../src/config/router.js";
import { type Router, startRouter } from "../../src/jobs/router.js";
import { Credentials } from "../../src/jobs/credentials.js";
import { silentLogger } from "../../src/lib/logger.js";
import { openEmbeddedLog } from "../../src/log/embedded.js";
import type { MeshLog } from "../../src/log/log.js";
import { Client } from "../support/client.js";
import { eventually } from "../support/eventually.js";
import { freePort } from "../support/free-port.js";

describe("a router over a log", () => {
  let directory: string;
  let log: MeshLog;
  const credentials = new Credentials(silentLogger);
  let router: Router;
  let backend: Server;
  let client: Client;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "cf-mesh-"));
    backend = createServer((_request, response) => response.end("served"));
    await new Promise<void>((resolve) => backend.listen(0, "127.0.0.1", resolve));
    log = await openEmbeddedLog({ directory: join(directory, "log") });
    const port = await freePort();
    router = await startRouter(
      RouterSchema.parse({
        nodeId: "test",
        listenAddress: "127.0.0.1",
        port,
        runDirectory: join(directory, "run"),
        concurrency: 1,
        drainWaitMs: 0,
        drainTimeMs: 0,
        sweepIntervalMs: 100,
        orphanTimeoutMs: 2_000,
      }),
      { log, isShared: false },
      credentials,
      silentLogger,
    );
    client = new Client(port);
  });
  afterAll(async () => {
    await credentials.close();
    client.close();
    await router.stop();
    await log.close();
    backend.close();
    await rm(directory, { recursive: true, force: true });
  });

  const route = (name: string) => ({
    key: `route.cc.${name}`,
    value: encodeRoute({ guid: name, host: `${name}.example.com`, destinations: [{ processGuid: name, port: 8080 }] }),
  });
  const processAt = (name: string, address: string) => ({
    key: `process.bbs.${name}`,
    value: encodeProcess({
      processGuid: name,
      instances: [{ address, ports: [{ containerPort: 8080, hostPort: (backend.address() as AddressInfo).port }] }],
    }),
  });
  const status = async (host: string) => (await client.get(host)).status;

  it("goes on with what Envoy had when Envoy refuses a resource, tells of it, and recovers", async () => {
    await log.append([route("good"), processAt("good", "127.0.0.1"), route("bad"), processAt("bad", "127.0.0.1")]);
    await eventually(async () => (await status("bad.example.com")) === 200);
    await eventually(async () => (await status("good.example.com")) === 200);

    await log.append([processAt("bad", "no-address")]);
    const refusals = () => router.status.proxies[0]?.refusals ?? [];
    await eventually(() => refusals().length === 1);
    expect(refusals()[0]).toMatchObject({ name: "bad.example.com|http1" });
    expect(refusals()[0]?.reason).toContain("no-address");
    expect(await status("bad.example.com")).toBe(200);
    expect(await status("good.example.com")).toBe(200);

    await log.append([processAt("bad", "127.0.0.1")]);
    await eventually(() => refusals().length === 0);
    expect(await status("bad.example.com")).toBe(200);
  });

  it("rids Envoy of a removed route's cluster, and serves the route when it is back", async () => {
    await log.append([route("back"), processAt("back", "127.0.0.1")]);
    await eventually(async () => (await status("back.example.com")) === 200);
    const held = async () => (await router.envoy.admin.clusters()).some(({ cluster }) => cluster.startsWith("back."));
    expect(await held()).toBe(true);
    await log.append([{ key: "route.cc.back", value: undefined }]);
    await eventually(async () => !(await held()));
    expect(await status("back.example.com")).toBe(404);
    await log.append([route("back")]);
    await eventually(async () => (await status("back.example.com")) === 200);
  });

  it("uses no more memory after ten thousand hosts that nobody has", async () => {
    const ask = async (count: number, prefix: string) => {
      for (let sent = 0; sent < count; sent += 1) expect(await status(`${prefix}${sent}.unknown.test`)).toBe(404);
      return (await router.envoy.admin.memory()).allocatedBytes;
    };
    const before = await ask(1_000, "warm-up");
    const after = await ask(10_000, "host");
    expect(after - before).toBeLessThan(1_000_000);
  });
});
