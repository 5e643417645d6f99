/** What operators replace under a running process, and that its logs never tell what it is. */
import { readFile, writeFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createCertificates } from "../../src/emulator/certificates.js";
import { Client } from "../support/client.js";
import { eventually } from "../support/eventually.js";
import { freePort } from "../support/free-port.js";
import { type Job, type JobFoundation, JOB_DOMAIN, startJobFoundation } from "../support/jobs.js";

const TIMEOUT_MS = 60_000;
const HOST = `shop.${JOB_DOMAIN}`;

let foundation: JobFoundation;
let up: Job;
let client: Client;

beforeAll(async () => {
  foundation = await startJobFoundation();
  await foundation.app("shop");
  const { ca: caFile, certificate: certificateFile, key: keyFile } = foundation.files;
  up = await foundation.start("up", "up", {
    copilot: {
      listenAddress: "127.0.0.1",
      port: await freePort(),
      vipPort: await freePort(),
      caFile,
      certificateFile,
      keyFile,
    },
  });
  client = new Client(up.port);
  await eventually(() => up.get("/ready"), 30_000);
  await eventually(async () => (await client.get(HOST)).status === 200);
}, TIMEOUT_MS);

afterAll(async () => {
  client.close();
  await foundation.stop();
}, TIMEOUT_MS);

const said = (text: string) => eventually(() => up.output.includes(text));

describe("a running process", () => {
  it("takes new certificates at SIGHUP, and drops no connection", async () => {
    const { certificates, files } = foundation;
    const fresh = await certificates.issue({ commonName: "cf-mesh rotated", usages: ["client", "server"] });
    await writeFile(files.certificate, fresh.certificate);
    await writeFile(files.key, fresh.key);
    up.signal("SIGHUP");
    await eventually(async () => (await up.status()).credentials.replacedCount >= 2);
    const { sources } = await up.status();
    expect(sources.map(({ state }) => state)).toEqual(sources.map(() => "following"));
    expect(up.output).not.toMatch(/connection was lost|MESH_SOURCE/);
  });

  it("refuses files that do not belong together, says so once, and shows it", async () => {
    const { files } = foundation;
    const good = await readFile(files.key, "utf8");
    const { client: foreign } = await createCertificates();
    await writeFile(files.key, foreign.key);
    up.signal("SIGHUP");
    await said("is not the key of certificateFile");
    expect((await up.status()).credentials.refused).toContain("diego.keyFile");
    expect(await up.get("/metrics")).toContain('cf_mesh_credentials_refused{file="diego.keyFile"} 1');
    await writeFile(files.key, good);
    up.signal("SIGHUP");
    await eventually(async () => (await up.status()).credentials.refused.length === 0);
    expect((await client.get(HOST)).status).toBe(200);
  });

  it("applies a new log level, and names the keys that need a restart", async () => {
    const config = JSON.parse(await readFile(up.configFile, "utf8")) as { router: object };
    await writeFile(
      up.configFile,
      JSON.stringify({ ...config, logLevel: "warn", router: { ...config.router, drainWaitMs: 1 } }),
    );
    up.signal("SIGHUP");
    await said("needs a restart: router.drainWaitMs");
    await writeFile(up.configFile, "router: [");
    up.signal("SIGHUP");
    await said("until then: it goes on with what it read before");
    expect((await client.get(HOST)).status).toBe(200);
    await writeFile(up.configFile, JSON.stringify(config));
    const before = up.output.length;
    up.signal("SIGHUP");
    await eventually(() => up.output.slice(before).includes("the configuration was read again"));
  });

  it("never tells a secret in its logs, at whatever level, nor in its status", async () => {
    const { secrets, files, foundation: cf } = foundation;
    const other = await foundation.start("route-syncer", "refused", {
      cloudController: { url: cf.apiUrl, clientId: cf.clientId, clientSecret: "a-secret-that-is-wrong" },
    });
    await eventually(async () => (await other.status()).sources.some(({ lastError }) => lastError?.includes("401")));
    const told = [up, other].map(({ output }) => output).join("\n");
    const all = `${told}\n${await up.get("/status")}\n${await up.get("/metrics")}\n${await other.get("/status")}`;
    expect(all).toContain("cf-mesh");
    const key = (await readFile(files.key, "utf8")).split("\n")[1] ?? "";
    for (const secret of [...secrets, key, "a-secret-that-is-wrong"]) {
      expect(secret.length).toBeGreaterThan(10);
      expect(all).not.toContain(secret);
    }
    expect(all).not.toMatch(/BEGIN [A-Z ]*PRIVATE KEY|bearer +[A-Za-z0-9._-]{20}|eyJ[A-Za-z0-9_-]{20}/i);
  });
});
