import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, expect, it, onTestFinished } from "vitest";
import { Api } from "../support/api.js";
import { built } from "../support/built.js";
import { cfCli, newCf } from "../support/cf-cli.js";
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

interface LaptopOptions {
  readonly ports?: { readonly port: number; readonly apiPort: number };
  readonly flags?: readonly string[];
}

/** `cf-mesh dev` as a process of its own; ended with the test. */
async function startLaptop(state: string, { ports, flags = [] }: LaptopOptions = {}): Promise<Laptop> {
  const { port, apiPort } = ports ?? { port: await freePort(), apiPort: await freePort() };
  const child = spawn(
    process.execPath,
    [MAIN, "dev", "--state", state, "--port", String(port), "--api-port", String(apiPort), ...flags],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  onTestFinished(() => end(child));
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
  return { process: child, port, apiPort, state, printed: () => output };
}

const CF = cfCli();
const MAIN = built("src/cli/main.ts");

/** Waits for its end, so that nothing writes to its directory any more. */
async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
}

const ready = (laptop: Laptop) => eventually(() => laptop.printed().includes("Ctrl-C stops all of it"), 30_000);

/** Resolves with its exit code when it stopped as asked. */
async function stop(laptop: Laptop): Promise<number | null> {
  laptop.process.kill("SIGINT");
  const [code] = (await once(laptop.process, "exit")) as [number | null];
  return code;
}

/** What it says when it refuses to start. */
async function complaint(laptop: Laptop): Promise<string> {
  if (!laptop.process.stderr) throw new Error("stderr is a pipe");
  const [said] = await Promise.all([text(laptop.process.stderr), once(laptop.process, "exit")]);
  expect(laptop.process.exitCode).toBe(1);
  return said;
}

/** Another command of the program, until it ends. */
function run(...words: readonly string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [MAIN, ...words], (_, stdout, stderr) =>
      resolve({ code: child.exitCode, stdout, stderr }),
    );
  });
}

function clientOf({ port }: Pick<Laptop, "port">): Client {
  const client = new Client(port);
  onTestFinished(() => client.close());
  return client;
}

/** The weights of the split route as the introduction tells to change them. */
function halving(laptop: Laptop): { readonly path: string; readonly body: unknown; readonly token: string } {
  const token = /export CF_TOKEN='Authorization: (.+)'/.exec(laptop.printed())?.[1] ?? "";
  const [, path = "", body = ""] = /(\/v3\/routes\/[\w-]+\/destinations) -d '(.+)'/.exec(laptop.printed()) ?? [];
  return { path, body: JSON.parse(body), token };
}

const apiOf = (laptop: Laptop, token: string) => new Api(`http://127.0.0.1:${laptop.apiPort}`, token);

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
    const client = clientOf(laptop);
    expect(await client.shares("greet.mesh.localhost")).toEqual({ hello: 90, hola: 10 });
    expect((await client.get("greet.mesh.localhost", "/es")).json.app).toBe("hola");
    expect((await client.get("hello.mesh.localhost")).json.app).toBe("hello");
    expect((await client.get("hola.mesh.localhost")).json.app).toBe("hola");
    expect((await client.get("anything.at.all.wild.mesh.localhost")).json.app).toBe("hello");

    const { path, body, token } = halving(laptop);
    await apiOf(laptop, token).call("PATCH", path, body);
    await eventually(async () => (await client.shares("greet.mesh.localhost", { count: 10 }))["hola"] === 5);
    expect(await client.shares("greet.mesh.localhost")).toEqual({ hello: 50, hola: 50 });
    expect((await client.get("nobody.mesh.localhost")).status).toBe(404);
    // The traffic comes as plain lines into a pipe.
    await eventually(() => /greet\.mesh\.localhost +[\d.]+ req\/s +hello \d+ % +hola \d+ %/.test(laptop.printed()));
    await eventually(() => /all answers .* 4xx \d+ % +\(1 without a route\)/.test(laptop.printed()));
  });

  it("serves Cloud Controller and UAA through the router, by the names of its system domain", async () => {
    const laptop = await startLaptop(await temporaryDirectory(), { flags: ["--system-domain", "cf.localhost"] });
    await ready(laptop);
    const client = clientOf(laptop);
    const root = await client.get(`api.cf.localhost:${laptop.port}`);
    const { links } = JSON.parse(root.body.toString()) as { links: Record<string, { href: string }> };
    expect(links["cloud_controller_v3"]?.href).toBe(`http://api.cf.localhost:${laptop.port}/v3`);
    expect((await client.get("login.cf.localhost", "/login", { headers: { accept: "application/json" } })).status).toBe(
      200,
    );
    expect(laptop.printed()).toContain(`cf api http://api.cf.localhost:${laptop.port}`);
    expect(laptop.printed()).toContain("cf login -u admin -p admin -o laptop -s dev");
  });

  it.skipIf(CF === undefined)("takes the stock cf CLI through its router, for a push and for a canary", async () => {
    const laptop = await startLaptop(await temporaryDirectory());
    await ready(laptop);
    // As the introduction says where the system's resolver knows no names below localhost.
    const cf = await newCf(CF ?? "", { http_proxy: `http://127.0.0.1:${laptop.port}` });
    onTestFinished(() => cf.close());
    const [, target = ""] = /cf api (\S+)/.exec(laptop.printed()) ?? [];
    await cf("api", target);
    await cf(...(/cf (login .*)/.exec(laptop.printed())?.[1] ?? "").split(" "));
    const folder = await temporaryDirectory();
    await writeFile(join(folder, "Staticfile"), "");
    await writeFile(join(folder, "index.html"), "<h1>pushed</h1>");
    await cf.in(folder)("push", "site");
    const client = clientOf(laptop);
    expect((await client.get("site.mesh.localhost")).body.toString()).toBe("<h1>pushed</h1>");
    await eventually(async () =>
      (await cf("logs", "site", "--recent")).includes("[RTR/0] OUT site.mesh.localhost - ["),
    );

    const [, path = "", body = ""] = /cf curl -X PATCH (\S+) -d '(.+)'/.exec(laptop.printed()) ?? [];
    await cf("curl", "-X", "PATCH", path, "-d", body);
    await eventually(async () => (await client.shares("greet.mesh.localhost", { count: 10 }))["hola"] === 5);
  });

  it("tells its status and injects faults by commands that name its state directory", async () => {
    const laptop = await startLaptop(await temporaryDirectory());
    await ready(laptop);
    const at = ["-d", laptop.state];
    for (const directory of [laptop.state, join(laptop.state, "run")]) {
      const { stdout } = await run("status", "-d", directory);
      expect(JSON.parse(stdout)).toMatchObject({ router: { node: "router" } });
    }

    const list = await run("fault", "list", ...at);
    expect(list.stdout).toMatch(/^instance-crash +kills an instance[^\n]*\n +app= +name or guid of the app; needed$/m);
    expect(list.stdout).toContain("none is active");
    const injected = await run("fault", "inject", "http-status", "path=/v3/info", "status=500", ...at);
    expect(injected.stdout).toContain("1 http-status path=/v3/info status=500");
    expect((await fetch(`http://127.0.0.1:${laptop.apiPort}/v3/info`)).status).toBe(500);
    expect((await run("fault", "list", ...at)).stdout).toContain("active:\n  1 http-status");
    expect((await run("fault", "clear", ...at)).code).toBe(0);
    expect((await fetch(`http://127.0.0.1:${laptop.apiPort}/v3/info`)).status).toBe(200);

    const client = clientOf(laptop);
    const before = (await client.get("hello.mesh.localhost")).json.guid;
    expect((await run("fault", "inject", "instance-crash", "app=hello", ...at)).stdout).toContain("it happened");
    await eventually(async () => {
      const answer = await client.get("hello.mesh.localhost");
      return answer.status === 200 && answer.json.guid !== before;
    });

    for (const [words, reason] of [
      [["inject", "nope"], /there is no fault "nope"/],
      [["inject", "bbs-stall", "what"], /"what" is no parameter/],
      [["inject", "bbs-stall", "what=all"], /what: /],
      [["inject", "instance-crash", "app=nobody"], /not found/],
      [["clear", "77"], /not found/],
    ] as const) {
      const { code, stderr } = await run("fault", ...words, ...at);
      expect([code, stderr]).toEqual([1, expect.stringMatching(reason)]);
      expect(stderr).toContain("fix: cf-mesh fault list tells");
    }
    expect(await stop(laptop)).toBe(0);
    const { stderr } = await run("fault", "clear", ...at);
    expect(stderr).toMatch(/MESH_STATUS_UNAVAILABLE.*no foundation.*\n.*--state/);
  });

  it("stops everything that it started when it is interrupted, and says what stays", async () => {
    const laptop = await startLaptop(await temporaryDirectory());
    await ready(laptop);
    expect(await stop(laptop)).toBe(0);
    expect(await refused(laptop.port)).toBe(true);
    expect(await refused(laptop.apiPort)).toBe(true);
    expect(laptop.printed()).toMatch(/stopped in [\d.]+ s; .* keeps what was made.*--fresh begins anew\n$/);
  });

  it("goes on after a restart with what was made, and begins anew with --fresh", async () => {
    const state = await temporaryDirectory();
    const first = await startLaptop(state);
    await ready(first);
    const { path, body, token } = halving(first);
    await apiOf(first, token).call("PATCH", path, body);
    // The token of before is good for the foundation of after.
    await stop(first);

    const second = await startLaptop(state);
    await ready(second);
    expect(await clientOf(second).shares("greet.mesh.localhost")).toEqual({ hello: 50, hola: 50 });
    expect(halving(second).path).toBe(path);
    expect((await apiOf(second, token).send("GET", "/v3/apps")).status).toBe(200);
    // A kill leaves the state as it was too.
    second.process.kill("SIGKILL");
    await once(second.process, "exit");

    const third = await startLaptop(state, { flags: ["--fresh"] });
    await ready(third);
    expect(await clientOf(third).shares("greet.mesh.localhost")).toEqual({ hello: 90, hola: 10 });
    expect(halving(third).path).not.toBe(path);
  });

  it("gives just the foundation when asked, with a configuration for a mesh beside it", async () => {
    const laptop = await startLaptop(await temporaryDirectory(), { flags: ["--foundation-only"] });
    await ready(laptop);
    expect(await refused(laptop.port)).toBe(true);
    expect(laptop.printed()).toMatch(/BBS +https:\/\/127\.0\.0\.1:\d+\n/);
    expect(laptop.printed()).toMatch(/NATS +nats:\/\/127\.0\.0\.1:\d+\n/);
    const [, config = ""] = /cf-mesh up --config (\S+)/.exec(laptop.printed()) ?? [];

    const mesh = spawn(process.execPath, [MAIN, "up", "--config", config], { stdio: ["ignore", "ignore", "inherit"] });
    onTestFinished(async () => {
      await end(mesh);
      await eventually(() => refused(laptop.port));
    });
    const client = clientOf(laptop);
    await eventually(async () => (await client.get("api.sys.mesh.localhost", "/v3/info")).status === 200, 30_000);
  });

  it("ends at once when it is interrupted twice, and when it is killed, and leaves no Envoy behind", async () => {
    for (const signals of [["SIGINT", "SIGINT"], ["SIGKILL"]] as const) {
      const laptop = await startLaptop(await temporaryDirectory());
      await ready(laptop);
      for (const signal of signals) laptop.process.kill(signal);
      await once(laptop.process, "exit");
      await eventually(() => refused(laptop.port));
    }
  });

  it("refuses a taken port and a state directory in use, and says what to do", async () => {
    const first = await startLaptop(await temporaryDirectory());
    await ready(first);
    const second = await startLaptop(first.state, { flags: ["--fresh"] });
    expect(await complaint(second)).toMatch(/MESH_STATE_IN_USE[\s\S]*fix: /);
    const third = await startLaptop(await temporaryDirectory(), {
      ports: { port: first.port, apiPort: await freePort() },
    });
    expect(await complaint(third)).toMatch(new RegExp(`MESH_PORT_TAKEN.*:${first.port}[\\s\\S]*fix: .*--port`));
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void taken.close());
    const { port: apiPort } = taken.address() as { port: number };
    const fourth = await startLaptop(await temporaryDirectory(), { ports: { port: await freePort(), apiPort } });
    expect(await complaint(fourth)).toMatch(/MESH_PORT_TAKEN[\s\S]*--api-port/);
    // The one that runs has lost nothing by all that.
    expect((await clientOf(first).get("hello.mesh.localhost")).status).toBe(200);
  });

  it.each([
    [["--domain", "Bad_Domain!"], /--domain .*Bad_Domain!.* is invalid/],
    [["--system-domain", "nodots"], /--system-domain .* is invalid/],
    [["--system-domain", "mesh.localhost"], /MESH_CONFIG_INVALID.*--system-domain and --domain.*\n.*fix/],
    [["--host", "300.1.1.1"], /--host .*300\.1\.1\.1.* is invalid/],
    [["--host", "203.0.113.1"], /MESH_CONFIG_INVALID.*no address of this machine.*\n.*--host/],
    [["--port", "70000"], /--port .*70000.* is invalid/],
    [["--api-port", "7", "--port", "7"], /MESH_CONFIG_INVALID.*--port and --api-port are both 7/],
    [["--concurrency", "0"], /--concurrency .* is invalid/],
    [["--envoy", "/bin/ls"], /MESH_ENVOY_MISSING.*--envoy.*\/bin\/ls.*\n.*--envoy/],
    [["--state", "/dev/null/x"], /MESH_CONFIG_INVALID.*\/dev\/null\/x.*\n.*--state/],
  ])("refuses %j in words, without a stack, and starts nothing", async (flags, words) => {
    const laptop = await startLaptop(await temporaryDirectory(), { flags });
    const said = await complaint(laptop);
    expect(said).toMatch(words);
    expect(said).not.toMatch(/^ +at /m);
    expect(laptop.printed()).toBe("");
  });

  it("leaves a directory alone that holds something else", async () => {
    const state = await temporaryDirectory();
    await mkdir(join(state, "log"));
    await writeFile(join(state, "log/precious"), "");
    for (const flags of [[], ["--fresh"]]) {
      expect(await complaint(await startLaptop(state, { flags }))).toMatch(/holds something else \(log\).*\n.*--state/);
    }
    expect(await readdir(join(state, "log"))).toEqual(["precious"]);
  });
}, 60_000);
