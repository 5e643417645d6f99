import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { built } from "../support/built.js";
import { startLoad } from "../support/client.js";
import { eventually } from "../support/eventually.js";
import { startMesh, type TestMesh } from "../support/mesh.js";

describe("when Envoy is killed", () => {
  let mesh: TestMesh;
  beforeAll(async () => {
    mesh = await startMesh();
    await mesh.app("blue");
  });
  afterAll(() => mesh.stop());

  it("is started again, and serves all routes", async () => {
    await mesh.route("used", { to: [{ app: "blue" }] });
    await mesh.route("unused", { to: [{ app: "blue" }] });
    await mesh.answers("used.mesh.localhost", 200);
    const { pid } = mesh.jobs.router?.envoy ?? {};
    if (pid === undefined) throw new Error("no Envoy runs");
    process.kill(pid, "SIGKILL");
    await eventually(() => mesh.jobs.router?.envoy.pid !== pid);
    await mesh.answers("used.mesh.localhost", 200);
    expect((await mesh.client.get("unused.mesh.localhost")).status).toBe(200);
  });
});

describe("when the agent is killed", () => {
  let mesh: TestMesh;
  const agents: ChildProcess[] = [];
  beforeAll(async () => {
    mesh = await startMesh({ separateRouter: true });
    await mesh.app("blue");
  });
  afterAll(async () => {
    for (const agent of agents) agent.kill("SIGKILL");
    await mesh.stop();
  });

  /** Resolves when the router says that it is ready. */
  async function startAgent(): Promise<ChildProcess> {
    const agent = spawn(process.execPath, [built("src/cli/main.ts"), "router", "--config", mesh.configFile], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    agents.push(agent);
    for await (const line of createInterface(agent.stdout)) if (line.includes('"ready"')) return agent;
    throw new Error("the router ended before it was ready");
  }

  it("leaves Envoy serving, and the next agent brings what changed meanwhile", async () => {
    await mesh.route("used", { to: [{ app: "blue" }] });
    await mesh.route("unused", { to: [{ app: "blue" }] });
    const first = await startAgent();
    await mesh.answers("used.mesh.localhost", 200);

    const load = startLoad(mesh.routerPort, "used.mesh.localhost");
    first.kill("SIGKILL");
    await once(first, "exit");
    await mesh.route("meanwhile", { to: [{ app: "blue" }] });
    const second = await startAgent();
    await mesh.answers("meanwhile.mesh.localhost", 200);
    expect((await mesh.client.get("unused.mesh.localhost")).status).toBe(200);
    const report = await load.stop();
    expect(report.failures).toEqual([]);
    expect(report.total).toBeGreaterThan(10);

    second.kill("SIGTERM");
    await once(second, "exit");
    await expect(mesh.client.get("used.mesh.localhost")).rejects.toThrow("ECONNREFUSED");
  });
});
