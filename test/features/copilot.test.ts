/** Routes that clients push to the copilot API, with no Cloud Controller anywhere. */
import { randomUUID } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Config, parseConfig } from "../../src/config/config.js";
import { createCertificates } from "../../src/emulator/certificates.js";
import { type EmulatedDiego, startDiego } from "../../src/emulator/diego/emulated-diego.js";
import { CloudControllerCopilot } from "../../src/gen/copilot/cloud_controller_pb.js";
import { type Mesh, startMesh } from "../../src/jobs/up.js";
import { silentLogger } from "../../src/lib/logger.js";
import { Client, startLoad } from "../support/client.js";
import { clientTls, CopilotClient } from "../support/copilot-client.js";
import { eventually } from "../support/eventually.js";
import { freePort } from "../support/free-port.js";

const { method } = CloudControllerCopilot;

/** A process that Diego runs: its only instance is a listener of this test, which answers with the name. */
interface Running {
  readonly processGuid: string;
  readonly lrpProcessGuid: string;
}

describe("routes that are pushed over the copilot API", () => {
  let directory: string;
  let diego: EmulatedDiego;
  let config: Config;
  let mesh: Mesh;
  let copilot: CopilotClient;
  let client: Client;
  const listeners: Server[] = [];

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "cf-mesh-"));
    const certificates = await createCertificates();
    diego = await startDiego({ host: "127.0.0.1", bbsPort: 0, certificates, stopGraceMs: 0, logger: silentLogger });
    const file = async (name: string, content: string) => {
      const path = join(directory, name);
      await writeFile(path, content);
      return path;
    };
    const caFile = await file("ca.crt", certificates.ca);
    const [routerPort, port, vipPort] = [await freePort(), await freePort(), await freePort()];
    config = parseConfig(
      {
        log: { directory: join(directory, "log") },
        router: {
          listenAddress: "127.0.0.1",
          port: routerPort,
          runDirectory: join(directory, "run"),
          concurrency: 1,
          drainWaitMs: 0,
          drainTimeMs: 0,
          orphanTimeoutMs: 2_000,
        },
        diego: {
          urls: [diego.bbsUrl],
          caFile,
          certificateFile: await file("bbs.crt", certificates.client.certificate),
          keyFile: await file("bbs.key", certificates.client.key),
        },
        copilot: {
          listenAddress: "127.0.0.1",
          port,
          vipPort,
          caFile,
          certificateFile: await file("copilot.crt", certificates.server.certificate),
          keyFile: await file("copilot.key", certificates.server.key),
        },
      },
      "test",
      [],
    );
    mesh = await startMesh(config, silentLogger);
    copilot = new CopilotClient(port, clientTls({ ca: certificates.ca, ...certificates.client }));
    client = new Client(routerPort);
  });
  afterAll(async () => {
    client.close();
    copilot.close();
    await mesh.stop();
    for (const listener of listeners) {
      listener.closeAllConnections();
      listener.close();
    }
    await diego.close();
    await rm(directory, { recursive: true, force: true });
  });

  async function run(name: string, processGuid: string = randomUUID()): Promise<Running> {
    const listener = createServer((_request, response) => response.end(JSON.stringify({ app: name })));
    await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
    listeners.push(listener);
    const lrpProcessGuid = `${processGuid}-${randomUUID()}`;
    const { port: hostPort } = listener.address() as AddressInfo;
    await diego.addSyntheticProcesses([{ lrpProcessGuid, appGuid: processGuid, instances: 1, routes: {}, hostPort }]);
    return { processGuid, lrpProcessGuid };
  }

  const associate = ({ processGuid, lrpProcessGuid }: Running) =>
    copilot.call(method.upsertCapiDiegoProcessAssociation, {
      capiDiegoProcessAssociation: { capiProcessGuid: processGuid, diegoProcessGuids: [lrpProcessGuid] },
    });
  const map = (routeGuid: string, { processGuid }: Running, routeWeight = 1) =>
    copilot.call(method.mapRoute, { routeMapping: { routeGuid, capiProcessGuid: processGuid, routeWeight } });
  const upsert = (guid: string, host: string) => copilot.call(method.upsertRoute, { route: { guid, host } });
  const answers = (host: string, status: number) => eventually(async () => (await client.get(host)).status === status);
  const appOf = async (host: string) => {
    const answer = await client.get(host);
    return answer.status === 200 ? answer.json.app : answer.status;
  };

  it("split their requests 10 to 90 by weight, however often a mapping is made", async () => {
    const [blue, green] = [await run("blue"), await run("green")];
    await upsert("weighted", "Weighted.example.com");
    for (const weight of [50, 10, 10]) await map("weighted", blue, weight);
    await map("weighted", green, 90);
    await Promise.all([associate(blue), associate(green)]);
    await eventually(async () => {
      expect(await client.shares("weighted.example.com")).toEqual({ blue: 10, green: 90 });
      return true;
    });
  });

  it("may come in any order: a mapping and an association before their route", async () => {
    const blue = await run("early");
    await map("late", blue);
    await associate(blue);
    expect(await appOf("late.example.com")).toBe(404);
    await upsert("late", "late.example.com");
    await eventually(async () => (await appOf("late.example.com")) === "early");
    await copilot.call(method.deleteRoute, { guid: "late" });
    await answers("late.example.com", 404);
  });

  it("lead to the associated version of a process alone", async () => {
    const old = await run("version-1");
    const fresh = await run("version-2", old.processGuid);
    await upsert("versioned", "versioned.example.com");
    await map("versioned", old);
    await associate(old);
    await eventually(async () => (await appOf("versioned.example.com")) === "version-1");
    expect(await client.shares("versioned.example.com", { count: 20 })).toEqual({ "version-1": 20 });
    await associate(fresh);
    await eventually(async () => (await appOf("versioned.example.com")) === "version-2");
    expect(await client.shares("versioned.example.com", { count: 20 })).toEqual({ "version-2": 20 });
  });

  it("fail no request when BulkSync replaces them all, and are there again after a restart", async () => {
    const [blue, green] = [await run("before"), await run("after")];
    const bulk = (guid: string, { processGuid, lrpProcessGuid }: Running) =>
      copilot.bulkSync({
        routes: [{ guid, host: "bulk.example.com" }],
        routeMappings: [{ routeGuid: guid, capiProcessGuid: processGuid, routeWeight: 0 }],
        capiDiegoProcessAssociations: [{ capiProcessGuid: processGuid, diegoProcessGuids: [lrpProcessGuid] }],
      });
    await bulk("bulk-1", blue);
    await eventually(async () => (await appOf("bulk.example.com")) === "before");
    const load = startLoad(config.router?.port ?? 0, "bulk.example.com");
    for (const [index, one] of [green, blue, green, blue, green].entries()) await bulk(`bulk-${index + 2}`, one);
    await eventually(async () => (await appOf("bulk.example.com")) === "after");
    expect((await load.stop()).failures).toEqual([]);
    await answers("weighted.example.com", 404);

    await mesh.stop();
    mesh = await startMesh(config, silentLogger);
    expect((await copilot.call(method.listCfRoutes, {})).routes).toEqual({ "bulk-6": "bulk.example.com" });
    await eventually(async () => (await appOf("bulk.example.com")) === "after");
  });
});
