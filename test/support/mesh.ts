/** A whole mesh for a test: an emulated foundation, the jobs, a real Envoy, and apps that run. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseConfig } from "../../src/config/config.js";
import { type Certificates, createCertificates } from "../../src/emulator/certificates.js";
import { type EmulatedDiego, startDiego } from "../../src/emulator/diego/emulated-diego.js";
import { type Foundation, startFoundation } from "../../src/emulator/foundation.js";
import type { NatsOptions } from "../../src/emulator/route-emitter/nats-link.js";
import { type Mesh, startMesh as startJobs } from "../../src/jobs/up.js";
import { silentLogger } from "../../src/lib/logger.js";
import { groupOf } from "../../src/model/hosts.js";
import type { ProxyStatus } from "../../src/xds/server.js";
import { Api } from "./api.js";
import { built } from "./built.js";
import { Client } from "./client.js";
import { eventually } from "./eventually.js";
import { freePort } from "./free-port.js";

/** Domains of every test mesh; none is special. */
export const DOMAIN = "mesh.localhost";
export const OTHER_DOMAIN = "apps.example.test";
export const INTERNAL_DOMAIN = "apps.internal";

export interface Destination {
  readonly app: string;
  readonly weight?: number;
  readonly protocol?: "http1" | "http2";
}

export interface TestMesh {
  readonly api: Api;
  readonly foundation: Foundation;
  readonly diego: EmulatedDiego;
  /** Of the foundation's CA, which also signs for the instances of apps. */
  readonly certificates: Certificates;
  readonly jobs: Mesh;
  readonly routerPort: number;
  /** Where HTTPS requests come in, with `clientDomains`. */
  readonly tlsPort: number;
  /** The jobs' configuration, for a job that runs as a process of its own. */
  readonly configFile: string;
  /** One connection: one Envoy worker sees all its requests. */
  readonly client: Client;
  /** Pushes a sample app. */
  app(name: string, options?: { instances?: number }): Promise<void>;
  /** An app whose only instance is a listener of the test; it answers with the app's name. */
  stubApp(name: string): Promise<void>;
  appGuid(name: string): string;
  /** Diego's guid of the app's web process, as it is now. */
  lrpProcessGuid(name: string): Promise<string>;
  /** Makes a route, and its domain when there is none yet; one with destinations is known to the router when this resolves. Returns its guid. */
  route(host: string, options?: { path?: string; domain?: string; to?: readonly Destination[] }): Promise<string>;
  /** Replaces the destinations of a route. */
  map(routeGuid: string, to: readonly Destination[]): Promise<void>;
  /** Resolves when requests of this host and path get that status. */
  answers(host: string, status: number, path?: string): Promise<void>;
  proxy(): ProxyStatus;
  /** How many responses of each kind Envoy got while `work` went on. */
  pushesDuring(work: () => Promise<void>): Promise<Readonly<Record<string, number>>>;
  stop(): Promise<void>;
}

export interface MeshOptions {
  /** Envoy's worker threads; 1 when left out. */
  readonly concurrency?: number;
  /** Leaves the router to a process that the test starts with the configuration file. */
  readonly separateRouter?: boolean;
  /** Where the foundation's route-emitter registers what runs; the mesh itself does not look there. */
  readonly nats?: NatsOptions;
  /** The router sends lines of requests to the logs of the apps. */
  readonly appLogs?: boolean;
  /** Domains whose clients show certificates of the foundation's CA. */
  readonly clientDomains?: readonly string[];
}

/** To be stopped by the test that started it. */
export async function startMesh({
  concurrency = 1,
  separateRouter = false,
  nats,
  appLogs = false,
  clientDomains = [],
}: MeshOptions = {}): Promise<TestMesh> {
  const directory = await mkdtemp(join(tmpdir(), "cf-mesh-"));
  const logger = silentLogger;
  const certificates = await createCertificates();
  const diego = await startDiego({ host: "127.0.0.1", bbsPort: 0, certificates, stopGraceMs: 2_000, logger });
  const sample = built("src/emulator/sample-app/main.ts");
  const foundation = await startFoundation({
    appDomains: [DOMAIN, OTHER_DOMAIN],
    diego,
    ...(appLogs && { certificates }),
    ...(nats && { nats }),
    droplets: ["hello", "hola"].map((name) => ({
      name,
      command: [process.execPath, sample, name],
      workingDirectory: dirname(sample),
    })),
    logger,
  });
  const files = {
    ca: join(directory, "ca.crt"),
    certificate: join(directory, "bbs.crt"),
    key: join(directory, "bbs.key"),
  };
  await writeFile(files.ca, certificates.ca);
  await writeFile(files.certificate, certificates.client.certificate);
  await writeFile(files.key, certificates.client.key);
  const [routerPort, tlsPort] = [await freePort(), await freePort()];
  const { certificate, key } = await certificates.issue({ commonName: "router", usages: ["server"] });
  const keypair = { certificateFile: join(directory, "router.crt"), keyFile: join(directory, "router.key") };
  await writeFile(keypair.certificateFile, certificate);
  await writeFile(keypair.keyFile, key);
  const config = parseConfig(
    {
      log: { directory: join(directory, "log") },
      router: {
        listenAddress: "127.0.0.1",
        port: routerPort,
        runDirectory: join(directory, "run"),
        concurrency,
        ...(clientDomains.length > 0 && {
          tls: {
            port: tlsPort,
            keypairs: [keypair],
            domains: clientDomains.map((name) => ({ name, caFile: files.ca })),
          },
        }),
        drainWaitMs: 0,
        drainTimeMs: 0,
        // A test that ends the agent starts the next one within this.
        orphanTimeoutMs: separateRouter ? 20_000 : 2_000,
        ...(appLogs && {
          accessLog: {
            loggregator: {
              address: foundation.loggregatorAddress,
              caFile: files.ca,
              certificateFile: files.certificate,
              keyFile: files.key,
            },
          },
        }),
      },
      cloudController: {
        url: foundation.apiUrl,
        clientId: foundation.clientId,
        clientSecret: foundation.clientSecret,
        requestsPerSecond: 20,
      },
      diego: { urls: [diego.bbsUrl], caFile: files.ca, certificateFile: files.certificate, keyFile: files.key },
    },
    "test",
    ["router"],
  );
  const configFile = join(directory, "mesh.json");
  await writeFile(configFile, JSON.stringify(config));
  const jobs = await startJobs(separateRouter ? { ...config, router: undefined } : config, logger);
  const api = new Api(foundation.apiUrl, await foundation.adminToken());
  await api.create("/v3/domains", { name: INTERNAL_DOMAIN, internal: true });
  const spaceGuid = await api.find("/v3/spaces?names=dev");
  const client = new Client(routerPort);
  const appGuids = new Map<string, string>();
  const instancesOf = new Map<string, number>();

  const domainGuid = async (name: string) =>
    (await api.list(`/v3/domains?names=${name}`))[0] ?? (await api.create("/v3/domains", { name }));
  const appGuid = (name: string) => {
    const guid = appGuids.get(name);
    if (guid === undefined) throw new Error(`no app ${name} in this test`);
    return guid;
  };
  const lrpGuid = async (name: string) => {
    const found = await api.call("GET", `/v3/apps/${appGuid(name)}/processes/web`);
    const { guid, version } = found as { guid: string; version: string };
    return `${guid}-${version}`;
  };
  const listeners: Server[] = [];
  const proxy = () => {
    const [only] = jobs.router?.status.proxies ?? [];
    if (!only) throw new Error("no Envoy is connected");
    return only;
  };
  const pushes = () => Object.fromEntries(proxy().types.map(({ typeUrl, pushes: count }) => [typeUrl, count]));
  const map = async (routeGuid: string, to: readonly Destination[]) => {
    const destinations = to.map(({ app, weight, protocol }) => ({ app: { guid: appGuid(app) }, weight, protocol }));
    await api.call("PATCH", `/v3/routes/${routeGuid}/destinations`, { destinations });
  };

  return {
    api,
    foundation,
    diego,
    certificates,
    jobs,
    routerPort,
    tlsPort,
    configFile,
    client,
    appGuid,
    map,
    proxy,
    async stubApp(name) {
      appGuids.set(
        name,
        await api.create("/v3/apps", { name, relationships: { space: { data: { guid: spaceGuid } } } }),
      );
      instancesOf.set(name, 1);
      const listener = createServer((_request, response) => response.end(JSON.stringify({ app: name })));
      await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
      listeners.push(listener);
      const { port: hostPort } = listener.address() as AddressInfo;
      const lrpProcessGuid = await lrpGuid(name);
      await diego.addSyntheticProcesses([
        { lrpProcessGuid, appGuid: appGuid(name), instances: 1, routes: {}, hostPort },
      ]);
    },
    lrpProcessGuid: lrpGuid,
    async app(name, { instances = 1 } = {}) {
      instancesOf.set(name, instances);
      const { guid } = await foundation.pushSample(name, "hello", { instances });
      appGuids.set(name, guid);
    },
    async route(host, { path, domain = DOMAIN, to = [] } = {}) {
      // A host of Cloud Controller is one word; the others are a domain's.
      const [word = "", ...rest] = host.split(".");
      const fullDomain = [...rest, domain].join(".");
      const guid = await api.create("/v3/routes", {
        host: word,
        ...(path !== undefined && { path }),
        relationships: {
          space: { data: { guid: spaceGuid } },
          domain: { data: { guid: await domainGuid(fullDomain) } },
        },
      });
      if (to.length === 0) return guid;
      await map(guid, to);
      if (!jobs.router) return guid;
      // The router knows of the route and of every instance that was asked for.
      await eventually(
        () =>
          instanceCount(jobs, guid, `${host}.${domain}`) ===
          to.reduce((sum, { app }) => sum + (instancesOf.get(app) ?? 0), 0),
      );
      return guid;
    },
    async answers(host, status, path = "/") {
      await eventually(async () => (await client.get(host, path)).status === status);
    },
    async pushesDuring(work) {
      const before = pushes();
      await work();
      const after = Object.entries(pushes()).map(([type, count]) => [
        type.split(".").at(-1),
        count - (before[type] ?? 0),
      ]);
      return Object.fromEntries(after) as Record<string, number>;
    },
    async stop() {
      client.close();
      await jobs.stop();
      for (const listener of listeners) {
        listener.closeAllConnections();
        listener.close();
      }
      await foundation.close();
      await diego.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** How many instances the router's table has for a route; undefined while it has no such route. */
function instanceCount(jobs: Mesh, routeGuid: string, host: string): number | undefined {
  const paths = jobs.router?.table.group(groupOf(host))?.hosts.flatMap((entry) => entry.paths) ?? [];
  const path = paths.find(({ routeGuid: guid }) => guid === routeGuid);
  return path?.shares.reduce((sum, { endpoints }) => sum + endpoints.length, 0);
}
