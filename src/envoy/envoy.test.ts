import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { built } from "../../test/support/built.js";
import { silentLogger } from "../lib/logger.js";
import { type Envoy, type EnvoyOptions, type EnvoyState, superviseEnvoy } from "./envoy.js";
import { findEnvoy } from "./find-envoy.js";

const WAIT = { timeout: 15_000, interval: 20 };
const ORPHAN_TIMEOUT_MS = 20_000;

let envoyPath: string;
const undo: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  envoyPath = (await findEnvoy()).path;
});

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

describe("an Envoy under supervision", () => {
  it("is started, is ready, and serves", async () => {
    const place = await newPlace();
    const envoy = await supervise(place);
    await envoy.whenReady(soon());
    expect(await place.ask()).toBe("one");
    expect(envoy.state).toMatchObject({ kind: "running", adopted: false });
    expect((await envoy.admin.serverInfo()).version).toMatch(/^1\.40\./);
  });

  it("listens on sockets that only its user may open", async () => {
    const place = await newPlace();
    await supervise(place);
    expect((await stat(place.directory)).mode & 0o777).toBe(0o700);
    for (const name of ["keeper.sock", "admin.sock", "envoy.json", "envoy.log", "keeper.log"]) {
      expect([name, (await stat(join(place.directory, name))).mode & 0o777]).toEqual([name, 0o600]);
    }
  });

  it("is started again when it crashes", async () => {
    const place = await newPlace();
    const states: EnvoyState[] = [];
    const envoy = await supervise(place, { onState: (state) => states.push(state) });
    const crashed = pidOf(envoy);
    process.kill(crashed, "SIGKILL");
    await anotherRuns(envoy, crashed);
    await envoy.whenReady(soon());
    expect(await place.ask()).toBe("one");
    expect(states.map(({ kind }) => kind)).toEqual(["running", "restarting", "running"]);
    expect(states[1]).toMatchObject({ error: { code: "MESH_ENVOY_FAILED" } });
  });

  it("serves on while its agent is killed, and the next agent adopts it", async () => {
    const place = await newPlace();
    const agent = await startAgent(place);
    const traffic = place.steadyTraffic();
    agent.child.kill("SIGKILL");
    await once(agent.child, "exit");
    const envoy = await supervise(place);
    expect(envoy.state).toEqual({ kind: "running", pid: agent.envoyPid, adopted: true });
    const { failed, answeredCount } = await traffic.stop();
    expect(failed).toEqual([]);
    expect(answeredCount).toBeGreaterThan(0);
  });

  it("is stopped when no agent comes back within the orphan timeout", async () => {
    const place = await newPlace();
    const agent = await startAgent(place, { orphanTimeoutMs: 300 });
    agent.child.kill("SIGKILL");
    await vi.waitFor(() => expect([isAlive(agent.envoyPid), isAlive(agent.keeperPid)]).toEqual([false, false]), WAIT);
    expect(await place.sockets()).toEqual([]);
  });

  it("goes on for the next agent when this one detaches", async () => {
    const place = await newPlace();
    const first = await supervise(place);
    const pid = pidOf(first);
    await first.detach();
    expect(first.state).toEqual({ kind: "detached" });
    expect(await place.ask()).toBe("one");
    const second = await supervise(place);
    expect(second.pid).toBe(pid);
  });

  it("leaves no process and no socket behind when it is stopped", async () => {
    const place = await newPlace();
    const envoy = await supervise(place);
    const pids = [pidOf(envoy), place.keeperPid()];
    await envoy.stop();
    expect(envoy.state).toEqual({ kind: "stopped" });
    await vi.waitFor(() => expect(pids.map(isAlive)).toEqual([false, false]), WAIT);
    expect(await place.sockets()).toEqual([]);
  });

  it("does not outlive its keeper, and the agent starts both again", async () => {
    const place = await newPlace();
    const envoy = await supervise(place);
    const [envoyPid, keeperPid] = [pidOf(envoy), place.keeperPid()];
    process.kill(keeperPid, "SIGKILL");
    await vi.waitFor(() => expect(isAlive(envoyPid)).toBe(false), WAIT);
    await anotherRuns(envoy, envoyPid);
    await envoy.whenReady(soon());
    expect(await place.ask()).toBe("one");
  });

  it("does not outlive a keeper that is killed with its agent", async () => {
    const place = await newPlace();
    const agent = await startAgent(place);
    agent.child.kill("SIGKILL");
    process.kill(agent.keeperPid, "SIGKILL");
    await vi.waitFor(() => expect(isAlive(agent.envoyPid)).toBe(false), WAIT);
    const envoy = await supervise(place);
    expect(await place.ask()).toBe("one");
    expect(envoy.state).toMatchObject({ kind: "running", adopted: false });
  });

  it("is replaced when an agent comes with another bootstrap", async () => {
    const place = await newPlace();
    const first = await supervise(place);
    const pid = pidOf(first);
    await first.detach();
    const states: EnvoyState[] = [];
    const second = await supervise(place, {
      bootstrap: place.bootstrap("two"),
      drainTimeMs: 200,
      onState: (state) => states.push(state),
    });
    await second.whenReady(soon());
    expect(await place.ask()).toBe("two");
    expect(isAlive(pid)).toBe(false);
    expect(states.map(({ kind }) => kind)).toEqual(["replacing", "replacing", "running"]);
  });

  it("has one agent at a time", async () => {
    const place = await newPlace();
    await supervise(place);
    await expect(supervise(place)).rejects.toMatchObject({
      code: "MESH_STATE_IN_USE",
      message: expect.stringContaining(`pid ${process.pid}`) as string,
    });
    expect(await place.ask()).toBe("one");
  });

  it("waits for active requests when it drains, and fails its health check meanwhile", async () => {
    const app = await slowApp();
    const place = await newPlace({ upstreamPort: app.port });
    const envoy = await supervise(place);
    await envoy.whenReady(soon());
    const answer = place.ask("/slow");
    await app.requested;
    const drained = envoy.drain();
    await vi.waitFor(async () => expect(await envoy.admin.ready()).toBe("DRAINING"), WAIT);
    expect(await envoy.admin.requests()).toMatchObject({ active: 1 });
    app.answer("late");
    expect(await answer).toBe("late");
    expect(await drained).toBe(0);
  });

  it("gives a drain up after its time, and says how many requests are left", async () => {
    const app = await slowApp();
    const place = await newPlace({ upstreamPort: app.port });
    const envoy = await supervise(place, { drainTimeMs: 300 });
    await envoy.whenReady(soon());
    const answer = place.ask("/slow");
    await app.requested;
    expect(await envoy.drain()).toBe(1);
    app.answer("late");
    expect(await answer).toBe("late");
  });
});

describe("an Envoy that can't start", () => {
  it("fails with Envoy's own words when the bootstrap is bad, and leaves nothing running", async () => {
    const place = await newPlace();
    const bootstrap = JSON.stringify({ ...(JSON.parse(place.bootstrap("one")) as object), no_such_field: 1 });
    await expect(supervise(place, { bootstrap })).rejects.toMatchObject({
      code: "MESH_ENVOY_FAILED",
      message: expect.stringMatching(/no_such_field.*see envoy\.log/s) as string,
    });
    expect(await place.sockets()).toEqual([]);
  });

  it("names the port that another process listens on", async () => {
    const place = await newPlace();
    const other = createServer().listen(place.port, "127.0.0.1");
    undo.push(() => new Promise((resolve) => other.close(resolve)));
    await once(other, "listening");
    await expect(supervise(place)).rejects.toMatchObject({
      code: "MESH_PORT_TAKEN",
      message: expect.stringMatching(new RegExp(`127\\.0\\.0\\.1:${place.port}.*router\\.port`, "s")) as string,
    });
  });

  it("refuses a run directory whose sockets would have too long a name, before anything starts", async () => {
    const place = await newPlace();
    const runDirectory = join(place.directory, "x".repeat(100));
    await expect(supervise(place, { runDirectory })).rejects.toMatchObject({ code: "MESH_CONFIG_INVALID" });
    expect(existsSync(runDirectory)).toBe(false);
  });
});

describe("the admin API", () => {
  it("tells each endpoint's requests and connections", async () => {
    const app = await slowApp();
    const place = await newPlace({ upstreamPort: app.port });
    const envoy = await supervise(place);
    await envoy.whenReady(soon());
    const answer = place.ask("/slow");
    await app.requested;
    const [host] = await envoy.admin.clusters("^app$");
    expect(host).toMatchObject({ cluster: "app", address: "127.0.0.1", port: app.port });
    const count = (name: string) => host?.stats.get(name);
    expect([count("rq_total"), count("rq_active"), count("cx_active")]).toEqual([1, 1, 1]);
    expect(await envoy.admin.clusters("^none$")).toEqual([]);
    app.answer("late");
    expect(await answer).toBe("late");
  });

  it("tells memory and counters", async () => {
    const place = await newPlace();
    const envoy = await supervise(place);
    await envoy.whenReady(soon());
    await place.ask();
    const { allocatedBytes, physicalBytes } = await envoy.admin.memory();
    expect(allocatedBytes).toBeGreaterThan(1_000_000);
    expect(physicalBytes).toBeGreaterThan(1_000_000);
    expect(await envoy.admin.stats("^http\\.test\\.downstream_rq_total$")).toEqual(
      new Map([["http.test.downstream_rq_total", 1]]),
    );
  });

  it("fails with the reason when Envoy is gone, or refuses", async () => {
    const place = await newPlace();
    const envoy = await supervise(place);
    await expect(envoy.admin.get("/nowhere")).rejects.toMatchObject({ code: "MESH_ENVOY_FAILED" });
    await envoy.stop();
    await expect(envoy.admin.memory()).rejects.toMatchObject({ code: "MESH_ENVOY_FAILED" });
  });
});

const soon = () => AbortSignal.timeout(WAIT.timeout);

const anotherRuns = (envoy: Envoy, before: number) =>
  vi.waitFor(() => {
    expect(envoy.state.kind).toBe("running");
    expect(envoy.pid).not.toBe(before);
  }, WAIT);

function pidOf(envoy: Envoy): number {
  if (envoy.pid === undefined) throw new Error("no Envoy runs");
  return envoy.pid;
}

interface Place extends Awaited<ReturnType<typeof newPlace>> {
  readonly directory: string;
}

/** A run directory and a port for one Envoy. `upstreamPort`: requests for /slow go there. */
async function newPlace({ upstreamPort = 9 } = {}) {
  const directory = await mkdtemp(join(tmpdir(), "mesh-envoy-"));
  const runDirectory = join(directory, "run");
  undo.push(() => rm(directory, { recursive: true, force: true }));
  const port = await freePort();
  const adminSocketPath = join(runDirectory, "admin.sock");
  const ask = async (path = "/") =>
    (await fetch(`http://127.0.0.1:${port}${path}`, { headers: { connection: "close" } })).text();
  return {
    directory: runDirectory,
    port,
    adminSocketPath,
    ask,
    bootstrap: (answer: string) => JSON.stringify(bootstrap({ adminSocketPath, port, upstreamPort, answer })),
    sockets: async () => (await readdir(runDirectory)).filter((name) => name.endsWith(".sock")),
    keeperPid: () => lastKeeperPid(runDirectory),
    steadyTraffic: () => steadyTraffic(ask),
  };
}

function lastKeeperPid(runDirectory: string): number {
  const lines = readFileSync(join(runDirectory, "keeper.log"), "utf8").trim().split("\n");
  const pids = lines.map((line) => (JSON.parse(line) as { keeperPid?: number }).keeperPid);
  return pids.findLast((pid) => pid !== undefined) ?? Number.NaN;
}

/** One request after the other, until it is stopped. */
function steadyTraffic(ask: () => Promise<string>) {
  const failed: unknown[] = [];
  let answeredCount = 0;
  const end = new AbortController();
  const done = (async () => {
    while (!end.signal.aborted) {
      await ask().then(
        () => (answeredCount += 1),
        (error: unknown) => failed.push(error),
      );
    }
  })();
  return {
    stop: async () => {
      end.abort();
      await done;
      return { answeredCount, failed };
    },
  };
}

function optionsFor(place: Place, changes: Partial<EnvoyOptions> = {}): EnvoyOptions {
  return {
    runDirectory: place.directory,
    envoyPath,
    bootstrap: place.bootstrap("one"),
    adminSocketPath: place.adminSocketPath,
    concurrency: 1,
    orphanTimeoutMs: ORPHAN_TIMEOUT_MS,
    drainTimeMs: 10_000,
    logger: silentLogger,
    ...changes,
  };
}

async function supervise(place: Place, changes?: Partial<EnvoyOptions>): Promise<Envoy> {
  const envoy = await superviseEnvoy(optionsFor(place, changes));
  undo.push(() => envoy.stop());
  return envoy;
}

/** An agent in a process of its own; resolves when its Envoy runs. */
async function startAgent(place: Place, changes?: Partial<EnvoyOptions>) {
  const options = { ...optionsFor(place, changes), logger: undefined };
  const program = `
    const { superviseEnvoy } = await import(${JSON.stringify(built("src/envoy/envoy.ts"))});
    const { silentLogger } = await import(${JSON.stringify(built("src/lib/logger.ts"))});
    const envoy = await superviseEnvoy({ ...${JSON.stringify(options)}, logger: silentLogger });
    await envoy.whenReady(AbortSignal.timeout(15_000));
    console.log(envoy.pid);`;
  const child: ChildProcess = spawn(process.execPath, ["--input-type=module", "-e", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  undo.push(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGKILL");
    await once(child, "exit");
  });
  if (!child.stdout) throw new Error("no output");
  const [line] = (await once(createInterface(child.stdout), "line")) as [string];
  const keeperPid = place.keeperPid();
  undo.push(async () => {
    if (isAlive(keeperPid)) process.kill(keeperPid, "SIGTERM");
    await vi.waitFor(() => expect(isAlive(keeperPid)).toBe(false), WAIT);
  });
  return { child, envoyPid: Number(line), keeperPid };
}

/** A process that ended and waits to be reaped is no more. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return process.platform !== "linux" || !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Answers when it is told to. */
async function slowApp() {
  let requested!: () => void;
  let answer!: (body: string) => void;
  const whenRequested = new Promise<void>((resolve) => (requested = resolve));
  const body = new Promise<string>((resolve) => (answer = resolve));
  const server = createServer((_, response) => {
    requested();
    void body.then((text) => response.end(text));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  undo.push(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  return { port: (server.address() as AddressInfo).port, requested: whenRequested, answer };
}

function bootstrap(options: { adminSocketPath: string; port: number; upstreamPort: number; answer: string }) {
  const type = (name: string) => `type.googleapis.com/envoy.extensions.filters.${name}`;
  const address = (port: number) => ({ socket_address: { address: "127.0.0.1", port_value: port } });
  const routes = [
    { match: { path: "/slow" }, route: { cluster: "app", timeout: "0s" } },
    { match: { prefix: "/" }, direct_response: { status: 200, body: { inline_string: options.answer } } },
  ];
  const connectionManager = {
    "@type": type("network.http_connection_manager.v3.HttpConnectionManager"),
    stat_prefix: "test",
    route_config: { virtual_hosts: [{ name: "all", domains: ["*"], routes }] },
    http_filters: [{ name: "router", typed_config: { "@type": type("http.router.v3.Router") } }],
  };
  return {
    admin: { address: { pipe: { path: options.adminSocketPath, mode: 0o600 } } },
    static_resources: {
      listeners: [
        {
          name: "http",
          address: address(options.port),
          enable_reuse_port: false,
          filter_chains: [{ filters: [{ name: "http", typed_config: connectionManager }] }],
        },
      ],
      clusters: [
        {
          name: "app",
          connect_timeout: "1s",
          load_assignment: {
            cluster_name: "app",
            endpoints: [{ lb_endpoints: [{ endpoint: { address: address(options.upstreamPort) } }] }],
          },
        },
      ],
    },
  };
}
