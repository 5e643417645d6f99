/** The stock cf CLI against the emulated foundation, and its apps through the mesh. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { z } from "zod";
import { createCertificates } from "../../src/emulator/certificates.js";
import { startDiego } from "../../src/emulator/diego/emulated-diego.js";
import { type Foundation, startFoundation } from "../../src/emulator/foundation.js";
import { silentLogger } from "../../src/lib/logger.js";
import { type Cf, cfCli, newCf } from "../support/cf-cli.js";
import { eventually } from "../support/eventually.js";
import { DOMAIN, type MeshOptions, startMesh, type TestMesh } from "../support/mesh.js";

const program = cfCli();

const StatsSchema = z.looseObject({
  resources: z.array(
    z.looseObject({ host: z.string(), instance_ports: z.array(z.looseObject({ external: z.number() })) }),
  ),
});

const SERVER = `
const { createServer } = require("node:http");
const { PORT, CF_INSTANCE_INDEX, GREETING = "hello" } = process.env;
console.log("listening on", PORT);
const server = createServer((request, response) => response.end(JSON.stringify({ app: GREETING, index: CF_INSTANCE_INDEX })));
server.listen(PORT);
process.once("SIGTERM", () => server.close());
`;

describe("the stock cf CLI", { timeout: 180_000 }, () => {
  let cf: Cf;
  let folder: string;
  let foundation: Foundation;
  /** In the order in which they are to be called. */
  let cleanups: (() => Promise<void>)[] = [];
  beforeEach(async (context) => {
    if (program === undefined) {
      context.skip("no cf CLI v8: scripts/setup --for-tests builds it where there is Go, and CF_CLI names another");
      return;
    }
    folder = await mkdtemp(join(tmpdir(), "cf-mesh-push-"));
    cleanups.unshift(() => rm(folder, { recursive: true, force: true }));
    cf = await newCf(program);
    cleanups.unshift(() => cf.close());
  });
  afterEach(async () => {
    const due = cleanups;
    cleanups = [];
    for (const cleanup of due) await cleanup();
  }, 60_000);

  /** A foundation alone: nothing routes to its apps. */
  async function startLaptop(): Promise<void> {
    const certificates = await createCertificates();
    const diego = await startDiego({
      host: "127.0.0.1",
      bbsPort: 0,
      certificates,
      stopGraceMs: 2_000,
      logger: silentLogger,
    });
    cleanups.unshift(() => diego.close());
    foundation = await startFoundation({ appDomains: [DOMAIN], diego, logger: silentLogger });
    cleanups.unshift(() => foundation.close());
    await cf("api", foundation.apiUrl);
  }
  async function startWithRouter(options: MeshOptions = {}): Promise<TestMesh> {
    const mesh = await startMesh(options);
    cleanups.unshift(() => mesh.stop());
    foundation = mesh.foundation;
    await cf("api", foundation.apiUrl);
    return mesh;
  }
  /** What an instance answers at the address that Diego gave it. */
  async function instanceAnswer(name: string, index = 0): Promise<string> {
    const guid = (await cf("app", name, "--guid")).trim().split("\n").at(-1) ?? "";
    const stats: unknown = JSON.parse(await cf("curl", `/v3/apps/${guid}/processes/web/stats`));
    const { host, instance_ports: ports } = StatsSchema.parse(stats).resources[index] ?? {};
    return await (await fetch(`http://${host ?? ""}:${ports?.[0]?.external ?? 0}/`)).text();
  }
  const logIn = () => cf("login", "-u", "admin", "-p", "admin", "-o", "laptop", "-s", "dev");
  async function app(name: string, files: Readonly<Record<string, string>>): Promise<string> {
    for (const [path, content] of Object.entries(files)) {
      await mkdir(dirname(join(folder, name, path)), { recursive: true });
      await writeFile(join(folder, name, path), content);
    }
    return join(folder, name);
  }
  const nodeApp = () => app("node", { Procfile: "web: node server.js\n", "server.js": SERVER });

  it("takes an app from login to deletion, and each step shows in what the router serves", async () => {
    const mesh = await startWithRouter();
    const greeting = async (host: string, path = "/") => {
      const { status, body } = await mesh.client.get(host, path);
      return status === 200 ? (JSON.parse(body.toString()) as { app: string; index: string }) : undefined;
    };
    await logIn();
    await cf("create-space", "shop");
    expect(await cf("target", "-s", "shop")).toMatch(/space:\s+shop/);

    const pushed = await cf("push", "web", "-p", await nodeApp());
    expect(pushed).toMatch(/instances:\s+1\/1/);
    expect(pushed).toContain(`routes:            web.${DOMAIN}`);
    expect(await eventually(() => greeting(`web.${DOMAIN}`))).toEqual({ app: "hello", index: "0" });
    expect(await cf("app", "web")).toMatch(/binary_buildpack[^]*#0\s+running/);
    expect(await cf("apps")).toMatch(new RegExp(`web\\s+started\\s+web:1/1\\s+web\\.${DOMAIN}`));

    await cf("scale", "web", "-i", "2");
    await eventually(async () => (await greeting(`web.${DOMAIN}`))?.index === "1");

    await cf("map-route", "web", DOMAIN, "--hostname", "other", "--path", "/cart");
    expect(await eventually(() => greeting(`other.${DOMAIN}`, "/cart"))).toMatchObject({ app: "hello" });
    expect(await cf("routes")).toMatch(/other\s+mesh\.localhost\s+\/cart\s+http\s+http1\s+web/);
    await cf("unmap-route", "web", DOMAIN, "--hostname", "other", "--path", "/cart");
    await eventually(async () => (await mesh.client.get(`other.${DOMAIN}`, "/cart")).status !== 200);

    await cf("set-env", "web", "GREETING", "hola");
    await cf("stop", "web");
    await eventually(async () => (await mesh.client.get(`web.${DOMAIN}`)).status === 503);
    await cf("start", "web");
    expect(await eventually(() => greeting(`web.${DOMAIN}`))).toMatchObject({ app: "hola" });
    expect(await cf("restart", "web")).toMatch(/#0\s+running/);
    expect(await eventually(() => greeting(`web.${DOMAIN}`))).toMatchObject({ app: "hola" });

    await cf("delete", "web", "-f", "-r");
    await eventually(async () => (await mesh.client.get(`web.${DOMAIN}`)).status === 404);
    expect(await cf("apps")).toContain("No apps found");
  });

  it("shows an app's requests in its log, beside its own lines", async () => {
    const mesh = await startWithRouter({ appLogs: true });
    await logIn();
    await cf("push", "web", "-p", await nodeApp());
    await eventually(async () => (await mesh.client.get(`web.${DOMAIN}`, "/seen?in=log")).status === 200);
    const logs = await eventually(async () => {
      const recent = await cf("logs", "web", "--recent");
      return recent.includes("/seen") ? recent : undefined;
    });
    expect(logs).toMatch(/\[APP\/PROC\/WEB\/0\] OUT listening on \d+/);
    expect(logs).toMatch(
      new RegExp(`\\[RTR/0\\] OUT web\\.${DOMAIN} - \\[[^\\]]+\\] "GET /seen\\?in=log HTTP/1\\.1" 200 0 \\d+ "-" "-" `),
    );
    expect(logs).toContain(`app_id:"${(await cf("app", "web", "--guid")).trim()}" app_index:"0" instance_id:"`);
  });

  it("makes what a manifest wants: several apps with processes, routes, environment and labels", async () => {
    await startLaptop();
    await logIn();
    await nodeApp();
    await app("site", { "index.html": "<h1>site</h1>" });
    await writeFile(
      join(folder, "manifest.yml"),
      `applications:
- name: shop
  path: node
  command: node server.js
  instances: 2
  memory: 128M
  env: { GREETING: shop }
  metadata: { labels: { team: blue } }
  routes:
  - route: shop.${DOMAIN}/cart
  - route: all.${DOMAIN}
    options: { loadbalancing: least-connection }
  processes:
  - { type: worker, command: sleep 600, instances: 1, memory: 64M }
- name: site
  path: site
  random-route: true
- name: quiet
  path: node
  no-route: true
`,
    );
    const first = await cf.in(folder)("push");
    expect(first).toMatch(/\+ {3}memory: 128M/);
    expect(await cf("app", "shop")).toMatch(/web[^]*instances:\s+2\/2[^]*worker[^]*instances:\s+1\/1/);
    expect(await instanceAnswer("shop", 1)).toBe('{"app":"shop","index":"1"}');
    expect(await cf("labels", "app", "shop")).toMatch(/team\s+blue/);
    const routes = await cf("routes");
    expect(routes).toMatch(/all\s+mesh\.localhost.*loadbalancing=least-connection/);
    expect(routes).toMatch(/site-[0-9a-f]+\s+mesh\.localhost/);
    expect(await instanceAnswer("site")).toBe("<h1>site</h1>");
    expect(await cf("app", "quiet")).toMatch(/routes:\s+\n/);
    // Nothing of the second push is a change but what no app can show.
    expect(await cf.in(folder)("push", "shop")).not.toMatch(/^[-+] .*(memory|env|labels|team)/m);
  });

  it("deploys without a gap, and takes a canary forth or back", async () => {
    await startLaptop();
    await logIn();
    const path = await nodeApp();
    await cf("push", "web", "-p", path, "-i", "2");
    expect(await cf("push", "web", "-p", path, "--strategy", "rolling")).toMatch(/instances:\s+2\/2/);
    expect(await cf("push", "web", "-p", path, "--strategy", "canary")).toContain(
      "Active deployment with status PAUSED",
    );
    expect(await cf("cancel-deployment", "web")).toContain("OK");
    expect(await cf("app", "web")).not.toContain("Active deployment");
    await cf("push", "web", "-p", path, "--strategy", "canary");
    expect(await cf("continue-deployment", "web")).toMatch(/instances:\s+2\/2/);
  });

  it("tells users in its own words what went wrong", async () => {
    await startLaptop();
    const denied = await cf.run(["auth", "admin", "wrong"]);
    expect(denied).toMatchObject({ exitCode: 1 });
    expect(denied.output).toContain("Credentials were rejected, please try again.");
    await logIn();

    const crash = await app("crash", { Procfile: "web: node server.js", "server.js": "process.exit(3);" });
    const crashed = await cf.run(["push", "crash", "-p", crash]);
    expect(crashed.exitCode).toBe(1);
    expect(crashed.output).toMatch(/#0\s+crashed[^]*Start unsuccessful/);

    const unknown = await cf.run(["push", "unknown", "-p", await app("unknown", { "readme.md": "hi" })]);
    expect(unknown.exitCode).toBe(1);
    expect(unknown.output).toContain("NoAppDetectedError - An app was not successfully detected");

    await writeFile(join(folder, "bad.yml"), "applications:\n- { name: a, memory: 1X, instances: -1 }\n");
    const bad = await cf.run(["push", "-f", "bad.yml"], { cwd: folder });
    expect(bad.output).toContain("Memory must use a supported unit");
    expect(bad.output).toContain("Instances must be greater than or equal to 0");

    const task = await cf.run(["run-task", "crash", "--command", "ls"]);
    expect(task).toMatchObject({ exitCode: 1 });
    expect(task.output).toContain("Tasks are not supported by this emulated foundation");
    expect((await cf.run(["ssh", "crash"])).exitCode).toBe(1);
  });

  it("says what to install when an app's runtime is missing", async () => {
    await startLaptop();
    await logIn();
    await app("gone", { "go.mod": "module gone\n" });
    const manifest = "applications:\n- { name: gone, path: gone, env: { PATH: /nothing/here } }\n";
    await writeFile(join(folder, "manifest.yml"), manifest);
    const pushed = await cf.run(["push"], { cwd: folder });
    expect(pushed.exitCode).toBe(1);
    expect(pushed.output).toContain("go is not installed. Install Go");
  });

  it("shows what the foundation has, and has not", async () => {
    await startLaptop();
    await logIn();
    await cf("create-org", "second");
    await cf("create-space", "inner", "-o", "second");
    await cf("create-private-domain", "laptop", "private.example.com");
    await cf("create-shared-domain", "mesh.internal", "--internal");
    await cf("create-route", "private.example.com", "--hostname", "lonely", "--path", "/p");
    expect(await cf("orgs")).toMatch(/laptop\nsecond/);
    expect(await cf("domains")).toMatch(/mesh\.internal\s+shared\s+true[^]*private\.example\.com\s+private/);
    expect(await cf("check-route", "private.example.com", "--hostname", "lonely", "--path", "/p")).toContain(
      "does exist",
    );
    await cf(
      "update-route",
      "private.example.com",
      "--hostname",
      "lonely",
      "--path",
      "/p",
      "-o",
      "loadbalancing=round-robin",
    );
    expect(await cf("route", "private.example.com", "--hostname", "lonely", "--path", "/p")).toContain("round-robin");
    await cf("delete-orphaned-routes", "-f");
    expect(await cf("routes")).toContain("No routes found");
    expect(await cf("stacks")).toContain("cflinuxfs4");
    expect(await cf("buildpacks")).toContain("nodejs_buildpack");
    expect(await cf("services")).toContain("No service instances found");
    expect(await cf("marketplace")).toContain("No service offerings found");
    expect(await cf("feature-flags")).toContain("route_creation");
    expect(await cf("space", "dev")).toContain("dev");
    await cf("delete-org", "second", "-f");
    expect(await cf("orgs")).not.toContain("second");
  });
});
