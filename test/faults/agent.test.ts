import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, request, type Server } from "node:http";
import { type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeProcess, encodeRoute } from "../../src/entries/entries.js";
import { RouterSchema } from "../../src/config/router.js";
import { type Router, startRouter } from "../../src/jobs/router.js";
import { TYPE_URLS } from "../../src/jobs/mesh-resources.js";
import { Credentials } from "../../src/jobs/credentials.js";
import { silentLogger } from "../../src/lib/logger.js";
import { openEmbeddedLog } from "../../src/log/embedded.js";
import type { MeshLog } from "../../src/log/log.js";
import { Client } from "../support/client.js";
import { eventually } from "../support/eventually.js";
import { freePort } from "../support/free-port.js";

/** Longer than a request waits for routes. */
const SLOW_MS = 5_500;
/** What a request that waits in vain may take: the wait, and a busy machine. */
const BOUND_MS = 8_000;

describe("while no agent runs", () => {
  let directory: string;
  let log: MeshLog;
  const credentials = new Credentials(silentLogger);
  let router: Router;
  let backend: Server;
  let port: number;
  let client: Client;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "cf-mesh-"));
    backend = createServer((call, response) => {
      setTimeout(() => response.end("served"), call.url === "/slow" ? SLOW_MS : 0);
    });
    backend.on("upgrade", (_call, socket) => {
      socket.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
      setTimeout(() => socket.end("late"), SLOW_MS);
    });
    await new Promise<void>((resolve) => backend.listen(0, "127.0.0.1", resolve));
    log = await openEmbeddedLog({ directory: join(directory, "log") });
    port = await freePort();
    router = await startAgent();
    client = new Client(port, 8);
  });
  afterAll(async () => {
    await credentials.close();
    client.close();
    await router.stop();
    await log.close();
    backend.close();
    await rm(directory, { recursive: true, force: true });
  });

  it("waits for its routes only: slow answers and silent WebSockets of a host's first requests go on", async () => {
    const hosts = ["slow-get", "slow-post", "slow-upgrade", "a.wild", "used", "unused"];
    const { port: hostPort } = backend.address() as AddressInfo;
    await log.append([
      {
        key: "process.bbs.p",
        value: encodeProcess({ instances: [{ address: "127.0.0.1", ports: [{ containerPort: 8080, hostPort }] }] }),
      },
      ...hosts.map((host) => ({
        key: `route.cc.${host}`,
        value: encodeRoute({
          guid: host,
          host: `${host.replace("a.", "*.")}.example.com`,
          destinations: [{ processGuid: "p", appGuid: "p", port: 8080 }],
        }),
      })),
    ]);
    await eventually(() => {
      const scopes = router.status.proxies[0]?.types.find(({ typeUrl }) => typeUrl === TYPE_URLS.scopes);
      return scopes?.heldCount === hosts.length && scopes.pending + scopes.unanswered === 0;
    });
    const answers = await Promise.all([
      client.get("slow-get.example.com", "/slow"),
      client.get("slow-post.example.com", "/slow", { method: "POST", body: "words" }),
      client.get("a.wild.example.com", "/slow", { method: "POST", body: "words" }),
      upgraded("slow-upgrade.example.com"),
      client.get("used.example.com"),
    ]);
    expect(answers.map((answer) => (typeof answer === "string" ? answer : answer.status))).toEqual([
      200,
      200,
      200,
      "late",
      200,
    ]);
  });

  it("serves hosts that were used, and answers 503 within seconds for those that never were", async () => {
    await router.detach();
    expect((await client.get("used.example.com")).status).toBe(200);
    const startedMs = performance.now();
    const answers = await Promise.all([
      client.get("unused.example.com"),
      client.get("unused.example.com", "/", { method: "POST", body: "words" }),
    ]);
    for (const answer of answers) {
      expect(answer.status).toBe(503);
      expect(answer.headers["x-cf-routererror"]).toBe("routes_unavailable");
      expect(answer.body.toString()).toContain("can not be looked up now");
    }
    expect(performance.now() - startedMs).toBeLessThan(BOUND_MS);
    expect((await client.get("nobody.example.com")).status).toBe(404);
  });

  it("serves all of them as soon as the next agent runs", async () => {
    router = await startAgent();
    await eventually(async () => (await client.get("unused.example.com")).status === 200);
  });

  function startAgent(): Promise<Router> {
    return startRouter(
      RouterSchema.parse({
        nodeId: "test",
        listenAddress: "127.0.0.1",
        port,
        runDirectory: join(directory, "run"),
        concurrency: 1,
        drainWaitMs: 0,
        drainTimeMs: 0,
        sweepIntervalMs: 60_000,
        orphanTimeoutMs: 60_000,
      }),
      { log, isShared: false },
      credentials,
      silentLogger,
    );
  }

  /** What comes over a WebSocket's connection after its upgrade. */
  async function upgraded(host: string): Promise<string> {
    const call = request({ host: "127.0.0.1", port, headers: { host, connection: "upgrade", upgrade: "websocket" } });
    call.end();
    const [, socket] = (await once(call, "upgrade")) as [unknown, NodeJS.ReadableStream];
    let received = "";
    for await (const chunk of socket) received += String(chunk);
    return received;
  }
}, 30_000);
