/** The stock cf CLI against what stands around Cloud Controller: logs, network policies, router groups. */
import { tmpdir } from "node:os";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createCertificates } from "../../src/emulator/certificates.js";
import { startDiego } from "../../src/emulator/diego/emulated-diego.js";
import { type Foundation, startFoundation } from "../../src/emulator/foundation.js";
import { silentLogger } from "../../src/lib/logger.js";
import { type Cf, cfCli, newCf } from "../support/cf-cli.js";
import { eventually } from "../support/eventually.js";

const program = cfCli();
const TALK = `
console.log("the app says hello");
console.error("and complains");
require("net").createServer().listen(process.env.PORT, "127.0.0.1");
`;

describe.skipIf(program === undefined)("the stock cf CLI and the platform", { timeout: 120_000 }, () => {
  const cleanups: (() => Promise<unknown>)[] = [];
  let foundation: Foundation;
  let cf: Cf;

  beforeAll(async () => {
    const certificates = await createCertificates();
    const diego = await startDiego({
      ...{ host: "127.0.0.1", bbsPort: 0, certificates, logger: silentLogger, stopGraceMs: 500 },
    });
    cleanups.push(() => diego.close());
    foundation = await startFoundation({
      ...{ appDomains: ["apps.test"], diego, certificates, logger: silentLogger },
      droplets: [{ name: "talker", command: [process.execPath, "-e", TALK], workingDirectory: tmpdir() }],
    });
    cleanups.push(() => foundation.close());
    await foundation.pushSample("talker", "talker", { instances: 1 });
    await foundation.pushSample("other", "talker", { instances: 1 });
    cf = await newCf(program ?? "");
    cleanups.push(() => cf.close());
    await cf("api", foundation.apiUrl);
    await cf("login", "-u", "admin", "-p", "admin", "-o", "laptop", "-s", "dev");
  });
  afterAll(async () => {
    for (const cleanup of cleanups.reverse()) await cleanup();
  });

  it("shows the recent lines of an app, with who wrote them", async () => {
    const logs = await eventually(async () => {
      const output = await cf("logs", "talker", "--recent");
      return /hello[^]*complains|complains[^]*hello/.test(output) ? output : undefined;
    });
    expect(logs).toMatch(/\[APP\/PROC\/WEB\/0\] OUT the app says hello/);
    expect(logs).toMatch(/\[APP\/PROC\/WEB\/0\] ERR and complains/);
  });

  it("adds, lists and removes network policies", async () => {
    await cf("add-network-policy", "talker", "other", "--protocol", "udp", "--port", "8000-9000");
    await cf("add-network-policy", "talker", "other");
    const listed = await cf("network-policies");
    expect(listed).toMatch(/talker\s+other\s+udp\s+8000-9000\s+dev\s+laptop/);
    expect(listed).toMatch(/talker\s+other\s+tcp\s+8080\s+dev\s+laptop/);
    await cf("remove-network-policy", "talker", "other", "--protocol", "udp", "--port", "8000-9000");
    expect(await cf("network-policies", "--source", "talker")).not.toContain("8000-9000");
    const refused = await cf.run(["add-network-policy", "talker", "other", "--protocol", "tcp", "--port", "70000"]);
    expect(refused).toMatchObject({ exitCode: 1, output: expect.stringContaining("invalid end port 70000") as string });
  });

  it("makes TCP domains and routes for a router group", async () => {
    expect(await cf("router-groups")).toMatch(/default-tcp\s+tcp/);
    await cf("create-shared-domain", "tcp.test", "--router-group", "default-tcp");
    expect(await cf("domains")).toMatch(/tcp\.test\s+shared\s+tcp/);
    const unknown = await cf.run(["create-shared-domain", "other.test", "--router-group", "none"]);
    expect(unknown.exitCode).toBe(1);
    expect(unknown.output).toContain("not found");
    await cf("create-route", "tcp.test", "--port", "1030");
    expect(await cf("map-route", "talker", "tcp.test", "--port", "1030")).toContain("OK");
    expect(await cf("routes")).toMatch(/tcp\.test\s+1030\s+tcp\s+tcp\s+talker/);
  });

  it("binds a route to a route service, and shows both", async () => {
    await cf("create-user-provided-service", "guard", "-r", "https://guard.example.test");
    expect(await cf("services")).toMatch(/guard\s+user-provided/);
    await cf("create-route", "apps.test", "--hostname", "guarded");
    expect(await cf("bind-route-service", "apps.test", "guard", "--hostname", "guarded")).toContain("OK");
    expect(await cf("routes")).toMatch(/guarded\s+apps\.test\s+http\s+(http1\s+)?guard/);
    await cf("update-user-provided-service", "guard", "-r", "https://other.example.test");
    expect(await cf("service", "guard")).toContain("https://other.example.test");
    await cf("unbind-route-service", "apps.test", "guard", "--hostname", "guarded", "-f");
    expect(await cf("routes")).not.toMatch(/guarded.*guard$/m);
    await cf("delete-service", "guard", "-f");
    expect(await cf("services")).toContain("No service instances found");
  });

  it("reaches the door for faults", async () => {
    const fault = '{"name":"http-status","parameters":{"path":"/v3/feature_flags","status":418}}';
    await cf("curl", "-X", "POST", "/emulator/faults", "-d", fault);
    expect((await cf.run(["curl", "-f", "/v3/feature_flags"])).exitCode).toBe(22);
    await cf("curl", "-X", "DELETE", "/emulator/faults");
    expect((await cf.run(["curl", "-f", "/v3/feature_flags"])).exitCode).toBe(0);
  });
});
