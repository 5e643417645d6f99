/** The route-syncer's ways to a Cloud Controller: several of them, behind mutual TLS, with hints from Diego. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { CloudControllerSchema, DiegoSchema } from "../../src/config/config.js";
import { type Certificates, createCertificates } from "../../src/emulator/certificates.js";
import { type EmulatedDiego, startDiego } from "../../src/emulator/diego/emulated-diego.js";
import { decodeRoute, type Route } from "../../src/entries/entries.js";
import { KEY_SPACES } from "../../src/entries/keys.js";
import { Credentials } from "../../src/jobs/credentials.js";
import { openLog } from "../../src/jobs/open-log.js";
import { startRouteSyncer } from "../../src/jobs/route-syncer.js";
import { silentLogger } from "../../src/lib/logger.js";
import { built } from "../support/built.js";
import { type EmulatedFoundation, startEmulatedFoundation } from "../support/emulated-foundation.js";
import { systemClock } from "../../src/lib/clock.js";
import { eventually } from "../support/eventually.js";

let cf: EmulatedFoundation;
let diego: EmulatedDiego;
let certificates: Certificates;
let directory: string;
let files: { caFile: string; certificateFile: string; keyFile: string };
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "route-syncer-"));
  certificates = await createCertificates();
  files = { caFile: join(directory, "ca"), certificateFile: join(directory, "crt"), keyFile: join(directory, "key") };
  await writeFile(files.caFile, certificates.ca);
  await writeFile(files.certificateFile, certificates.client.certificate);
  await writeFile(files.keyFile, certificates.client.key);
  diego = await startDiego({ host: "127.0.0.1", bbsPort: 0, certificates, logger: silentLogger, stopGraceMs: 1_000 });
  const sample = built("src/emulator/sample-app/main.ts");
  cf = await startEmulatedFoundation({
    diego,
    clock: systemClock,
    droplets: [{ name: "hello", command: [process.execPath, sample, "hello"], workingDirectory: directory }],
  });
});
afterAll(async () => {
  await cf.close();
  await diego.close();
  await rm(directory, { recursive: true, force: true });
});

/** A TLS listener before Cloud Controller and UAA that takes clients with a certificate of ours only. */
async function mutualTls(): Promise<{ readonly url: string; readonly server: Server }> {
  const { ca, server: identity } = certificates;
  const server = createServer(
    { ca, cert: identity.certificate, key: identity.key, requestCert: true, rejectUnauthorized: true },
    (incoming, response) => {
      const { method, url = "", headers } = incoming;
      const outgoing = request(new URL(url, cf.foundation.apiUrl), { method, headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      });
      outgoing.on("error", () => response.destroy());
      incoming.pipe(outgoing);
    },
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`, server };
}

async function start(section: object, options: { readonly withDiego?: boolean } = {}) {
  const { clientId, clientSecret } = cf.foundation;
  const credentials = new Credentials(silentLogger);
  const opened = await openLog({ directory: await mkdtemp(join(directory, "log-")) }, credentials, silentLogger);
  const cloudController = CloudControllerSchema.parse({ clientId, clientSecret, ...section });
  const bbs = options.withDiego ? DiegoSchema.parse({ urls: [diego.bbsUrl], ...files }) : undefined;
  const syncer = await startRouteSyncer({ cloudController, diego: bbs }, opened, credentials, silentLogger);
  onTestFinished(async () => {
    await syncer.stop();
    await opened.close();
    await credentials.close();
  });
  const status = (name = "cloud-controller") => {
    const found = syncer.jobs.find((job) => job.name === name)?.status;
    if (!found) throw new Error(`no source ${name}`);
    return found;
  };
  const route = async (guid: string): Promise<Route | undefined> => {
    const entry = await opened.log.get(KEY_SPACES.cloudControllerRoutes + guid);
    return entry?.value && decodeRoute(entry.value);
  };
  return { status, route };
}

describe("the route-syncer", () => {
  it("asks the next Cloud Controller and the next UAA when one fails, and says nothing of it", async () => {
    const { apiUrl } = cf.foundation;
    const first = await cf.route("first");
    const gone = "http://127.0.0.1:1";
    const { route, status } = await start({ url: [gone, apiUrl], uaaUrl: [gone, apiUrl], requestsPerSecond: 20 });
    await eventually(() => route(first.guid));
    expect(status()).toMatchObject({ state: "following", lastError: undefined });
  });

  it("moves to the other one when the first dies under it, and misses no change", async () => {
    const { url, server } = await mutualTls();
    const { apiUrl, uaaUrl } = cf.foundation;
    const { route, status } = await start({ url: [url, apiUrl], uaaUrl, ...files, requestsPerSecond: 20 });
    await eventually(() => status().state === "following");
    server.closeAllConnections();
    server.close();
    const second = await cf.route("second");
    await eventually(() => route(second.guid));
    expect(status().state).toBe("following");
  });

  it("shows its client certificate, without which it is told why it is not let in", async () => {
    const { url } = await mutualTls();
    const third = await cf.route("third");
    const { route } = await start({ url, uaaUrl: url, ...files });
    await eventually(() => route(third.guid));
    const { status } = await start({ url, uaaUrl: url, caFile: files.caFile });
    await eventually(() => status().state === "retrying");
    expect(status().lastError).toContain("MESH_SOURCE_UNREACHABLE");
  });

  it("keeps to its budget while nothing changes, and reports what it used", async () => {
    const { requests } = cf.foundation;
    const { status } = await start({ url: cf.foundation.apiUrl, requestsPerSecond: 10 });
    await eventually(() => status().state === "following");
    // The first look shows what was going on before the start.
    for (let look = 0; look < 2; look += 1) await requests.next(/^\/v3\/audit_events/);
    requests.clear();
    const startedMs = performance.now();
    for (let look = 0; look < 30; look += 1) await requests.next(/^\/v3/);
    const seconds = (performance.now() - startedMs) / 1_000;
    // The two kinds of looks may both be due at the beginning, and at the end.
    expect(requests.count(/^\/v3/)).toBeLessThanOrEqual(10 * seconds + 2);
    expect(status().requests?.lastMinute).toBeGreaterThanOrEqual(30);
  });

  it("slows down before a rate limit is reached, and reports what it is", async () => {
    cf.foundation.faults.rateLimit = { requestCount: 60, intervalMs: 4_000 };
    onTestFinished(() => (cf.foundation.faults.rateLimit = undefined));
    const { requests } = cf.foundation;
    requests.clear();
    const { status } = await start({ url: cf.foundation.apiUrl, requestsPerSecond: 100 });
    // More than one interval allows.
    for (let look = 0; look < 90; look += 1) await requests.next(/^\/v3/);
    expect(requests.all.filter((asked) => asked.status === 429)).toEqual([]);
    expect(status()).toMatchObject({ state: "following", lastError: undefined, requests: { rateLimit: 60 } });
  });

  it("reads a change when Diego is told of it, long before its next look", async () => {
    const blue = await cf.app("blue");
    const green = await cf.app("green");
    const shop = await cf.route("shop");
    const slow = { url: cf.foundation.apiUrl, requestsPerSecond: 0.2 };
    const { route, status } = await start(slow, { withDiego: true });
    await eventually(() => route(shop.guid));
    await eventually(() => status("diego-routes").state === "following");
    const map = (...destinations: readonly object[]) =>
      cf.patch(`/v3/routes/${shop.guid}/destinations`, { destinations });
    const weightsAre = (...weights: readonly number[]) =>
      eventually(async () => {
        const found = (await route(shop.guid))?.destinations.map(({ weight }) => weight).sort((a, b) => a - b);
        return found?.join() === weights.join();
      }, 3_000);
    await map({ app: { guid: blue } });
    await weightsAre(0);
    await map({ app: { guid: blue }, weight: 90 }, { app: { guid: green }, weight: 10 });
    await weightsAre(10, 90);
    await map();
    await weightsAre();
  });
});
