import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, expect, it, onTestFinished } from "vitest";
import { Api } from "../support/api.js";
import { built } from "../support/built.js";
import { Client } from "../support/client.js";
import { eventually } from "../support/eventually.js";
import { freePort } from "../support/free-port.js";

interface Laptop {
  readonly process: ChildProcess;
  readonly port: number;
  readonly apiPort: number;
  readonly state: string;
  /** All that it printed until now. */
  readonly printed: () => string;
}

async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "cf-mesh-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** `cf-mesh dev` as a process of its own; ended with the test. */
async function startLaptop(state: string, ports?: { port: number; apiPort: number }): Promise<Laptop> {
  const { port, apiPort } = ports ?? { port: await freePort(), apiPort: await freePort() };
  const child = spawn(
    process.execPath,
    [built("src/cli/main.ts"), "dev", "--state", state, "--port", String(port), "--api-port", String(apiPort)],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  onTestFinished(() => void child.kill("SIGKILL"));
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
  return { process: child, port, apiPort, state, printed: () => output };
}

const ready = (laptop: Laptop) => eventually(() => laptop.printed().includes("Ctrl-C stops all of it"), 30_000);

async function refused(port: number): Promise<boolean> {
  const client = new Client(port);
  const error: unknown = await client.get("x").then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  client.close();
  return String(error).includes("ECONNREFUSED");
}

describe("a laptop", () => {
  it("says when it is ready, serves its sample routes, and moves shares by the commands that it prints", async () => {
    const laptop = await startLaptop(await temporaryDirectory());
    await ready(laptop);
    const client = new Client(laptop.port);
    onTestFinished(() => client.close());
    expect(await client.shares("greet.mesh.localhost")).toEqual({ hello: 90, hola: 10 });
    expect((await client.get("greet.mesh.localhost", "/es")).json.app).toBe("hola");
    expect((await client.get("hello.mesh.localhost")).json.app).toBe("hello");
    expect((await client.get("hola.mesh.localhost")).json.app).toBe("hola");
    expect((await client.get("anything.at.all.wild.mesh.localhost")).json.app).toBe("hello");

    const token = /export CF_TOKEN='Authorization: (.+)'/.exec(laptop.printed())?.[1] ?? "";
    const [, path = "", body = ""] = /(\/v3\/routes\/[\w-]+\/destinations) -d '(.+)'/.exec(laptop.printed()) ?? [];
    await new Api(`http://127.0.0.1:${laptop.apiPort}`, token).call("PATCH", path, JSON.parse(body));
    await eventually(async () => (await client.shares("greet.mesh.localhost", { count: 10 }))["hola"] === 5);
    expect(await client.shares("greet.mesh.localhost")).toEqual({ hello: 50, hola: 50 });
    // The traffic comes as plain lines into a pipe.
    await eventually(() => /greet\.mesh\.localhost +[\d.]+ req\/s +hello \d+ % +hola \d+ %/.test(laptop.printed()));
  });

  it("stops everything that it started when it is interrupted", async () => {
    const laptop = await startLaptop(await temporaryDirectory());
    await ready(laptop);
    laptop.process.kill("SIGINT");
    const [code] = (await once(laptop.process, "exit")) as [number];
    expect(code).toBe(0);
    expect(await refused(laptop.port)).toBe(true);
    expect(await refused(laptop.apiPort)).toBe(true);
  });

  it("ends at once when it is interrupted twice, and when it is killed, and leaves no Envoy behind", async () => {
    for (const end of [["SIGINT", "SIGINT"], ["SIGKILL"]] as const) {
      const laptop = await startLaptop(await temporaryDirectory());
      await ready(laptop);
      for (const signal of end) laptop.process.kill(signal);
      await once(laptop.process, "exit");
      await eventually(() => refused(laptop.port));
    }
  });

  it("refuses a taken port and a state directory in use, and says what to do", async () => {
    const first = await startLaptop(await temporaryDirectory());
    await ready(first);
    const complaint = async (laptop: Laptop) => {
      if (!laptop.process.stderr) throw new Error("stderr is a pipe");
      const [said] = await Promise.all([text(laptop.process.stderr), once(laptop.process, "exit")]);
      expect(laptop.process.exitCode).toBe(1);
      return said;
    };
    const second = await startLaptop(first.state);
    expect(await complaint(second)).toMatch(/MESH_STATE_IN_USE[\s\S]*fix: /);
    const third = await startLaptop(await temporaryDirectory(), { port: first.port, apiPort: await freePort() });
    expect(await complaint(third)).toMatch(new RegExp(`MESH_PORT_TAKEN.*:${first.port}[\\s\\S]*fix: .*--port`));
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void taken.close());
    const { port: apiPort } = taken.address() as { port: number };
    const fourth = await startLaptop(await temporaryDirectory(), { port: await freePort(), apiPort });
    expect(await complaint(fourth)).toMatch(/MESH_PORT_TAKEN[\s\S]*--api-port/);
  });
}, 60_000);
