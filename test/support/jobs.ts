/** Jobs as operators run them: compiled, each a process of its own, before an emulated foundation and a real NATS. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type Certificates, createCertificates } from "../../src/emulator/certificates.js";
import { startDiego } from "../../src/emulator/diego/emulated-diego.js";
import { type Foundation, startFoundation } from "../../src/emulator/foundation.js";
import { startNatsServer } from "../../src/emulator/nats/nats-server.js";
import type { MeshStatus } from "../../src/jobs/up.js";
import { silentLogger } from "../../src/lib/logger.js";
import { Api } from "./api.js";
import { built } from "./built.js";
import { freePort } from "./free-port.js";
import { urlOf } from "./nats-cluster.js";

export const JOB_DOMAIN = "mesh.localhost";

export type JobName = "control" | "route-syncer" | "router" | "up";

export interface Job {
  readonly configFile: string;
  /** All that it said so far: standard output and standard error. */
  readonly output: string;
  /** Of a router. */
  readonly port: number;
  status(): Promise<MeshStatus>;
  /** The text of a path of its API; undefined while it does not answer with 200. */
  get(path: string): Promise<string | undefined>;
  signal(name: NodeJS.Signals): void;
  /** Ends it; resolves with its exit code when it has. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

export interface WeightedApp {
  readonly guid: string;
  readonly weight: number;
}

/** Of a configuration, with everything that a job needs to know. */
export interface JobSections {
  readonly cloudController: { readonly url: string };
  readonly diego: { readonly urls: readonly string[] };
  readonly nats: { readonly servers: readonly string[]; readonly user: string };
}

export interface JobFoundation {
  readonly foundation: Foundation;
  readonly certificates: Certificates;
  /** Paths of what the jobs' configuration names; every job has the same. */
  readonly files: Readonly<Record<keyof typeof FILES, string>>;
  /** Passwords and secrets that jobs know: of the UAA client, of NATS, and of the mesh log. */
  readonly secrets: readonly string[];
  readonly natsPassword: string;
  /** A started app with a route `<name>.mesh.localhost`. Returns the app's guid. */
  app(name: string): Promise<string>;
  /** The guid of an app that `app` started. */
  guidOf(name: string): string;
  /** Makes a route for an app of the foundation, or for several with their weights; one that exists leads there now. */
  route(host: string, to: string | readonly WeightedApp[]): Promise<void>;
  /** What every job's configuration says of the foundation. */
  readonly sections: JobSections;
  start(name: JobName, id: string, sections?: object): Promise<Job>;
  stop(): Promise<void>;
}

const FILES = {
  ca: "ca.crt",
  certificate: "client.crt",
  key: "client.key",
  clientSecret: "client-secret",
  natsPassword: "nats-password",
  logPassword: "log-password",
} as const;
const NATS_USER = "cf-mesh";
const NATS_PASSWORD = "nats-password-of-this-test";
const LOG_PASSWORD = "log-password-of-this-test";

/** Those that docs/operations.md tells, and no more. */
const LOG_RIGHTS = {
  publish: [
    "cf-mesh.>",
    "$JS.API.STREAM.INFO.cf-mesh",
    "$JS.API.STREAM.CREATE.cf-mesh",
    "$JS.API.STREAM.UPDATE.cf-mesh",
    "$JS.API.STREAM.MSG.GET.cf-mesh",
    "$JS.API.CONSUMER.CREATE.cf-mesh",
    "$JS.API.CONSUMER.MSG.NEXT.cf-mesh.>",
    "$JS.API.CONSUMER.DELETE.cf-mesh.>",
  ],
  subscribe: ["_INBOX.>"],
};

/** To be stopped by the test that started it; it ends the jobs, too. */
export async function startJobFoundation(): Promise<JobFoundation> {
  const directory = await mkdtemp(join(tmpdir(), "cf-mesh-jobs-"));
  const cleanups: (() => Promise<void>)[] = [() => rm(directory, { recursive: true, force: true })];
  const stop = async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  };
  try {
    const certificates = await createCertificates();
    const nats = await startNatsServer({ settings: { authorization: { user: NATS_USER, password: NATS_PASSWORD } } });
    cleanups.push(() => nats.close());
    const log = await startNatsServer({
      settings: {
        authorization: { users: [{ user: NATS_USER, password: LOG_PASSWORD, permissions: LOG_RIGHTS }] },
        jetstream: { store_dir: "jetstream" },
      },
    });
    cleanups.push(() => log.close());
    const logger = silentLogger;
    const diego = await startDiego({ host: "127.0.0.1", bbsPort: 0, certificates, stopGraceMs: 1_000, logger });
    cleanups.push(() => diego.close());
    const sample = built("src/emulator/sample-app/main.ts");
    const foundation = await startFoundation({
      appDomains: [JOB_DOMAIN],
      nats: { servers: [urlOf(nats)], user: NATS_USER, password: NATS_PASSWORD },
      diego,
      droplets: [{ name: "hello", command: [process.execPath, sample, "hello"], workingDirectory: dirname(sample) }],
      logger,
    });
    cleanups.push(() => foundation.close());
    const files = await writeFiles(directory, {
      ca: certificates.ca,
      ...certificates.client,
      clientSecret: foundation.clientSecret,
      natsPassword: NATS_PASSWORD,
      logPassword: LOG_PASSWORD,
    });
    const sections = {
      log: {
        jetstream: { servers: [urlOf(log)], replicas: 1, user: NATS_USER, passwordFile: files.logPassword },
      },
      cloudController: {
        url: foundation.apiUrl,
        clientId: foundation.clientId,
        clientSecretFile: files.clientSecret,
        requestsPerSecond: 20,
      },
      diego: { urls: [diego.bbsUrl], caFile: files.ca, certificateFile: files.certificate, keyFile: files.key },
      nats: { servers: [urlOf(nats)], user: NATS_USER, passwordFile: files.natsPassword },
    };
    const api = new Api(foundation.apiUrl, await foundation.adminToken());
    const spaceGuid = await api.find("/v3/spaces?names=dev");
    const domainGuid = await api.find(`/v3/domains?names=${JOB_DOMAIN}`);

    const appGuids = new Map<string, string>();
    const routeGuids = new Map<string, string>();

    async function route(host: string, to: string | readonly WeightedApp[]): Promise<void> {
      const relationships = { space: { data: { guid: spaceGuid } }, domain: { data: { guid: domainGuid } } };
      const guid = routeGuids.get(host) ?? (await api.create("/v3/routes", { host, relationships }));
      routeGuids.set(host, guid);
      const destinations =
        typeof to === "string"
          ? [{ app: { guid: to } }]
          : to.map(({ guid: appGuid, weight }) => ({ app: { guid: appGuid }, weight }));
      await api.call("PATCH", `/v3/routes/${guid}/destinations`, { destinations });
    }
    return {
      foundation,
      certificates,
      files,
      secrets: [foundation.clientSecret, NATS_PASSWORD, LOG_PASSWORD],
      natsPassword: NATS_PASSWORD,
      sections,
      route,
      stop,
      guidOf(name) {
        const guid = appGuids.get(name);
        if (guid === undefined) throw new Error(`no app ${name}`);
        return guid;
      },
      async app(name) {
        const { guid } = await foundation.pushSample(name, "hello", { instances: 1 });
        appGuids.set(name, guid);
        await route(name, guid);
        return guid;
      },
      async start(name, id, more = {}) {
        const job = await startJob(name, join(directory, id), { ...sections, ...more });
        cleanups.push(async () => {
          await job.stop("SIGKILL");
        });
        return job;
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function writeFiles(
  directory: string,
  texts: Readonly<Record<keyof typeof FILES, string>>,
): Promise<Readonly<Record<keyof typeof FILES, string>>> {
  const paths: Record<keyof typeof FILES, string> = { ...FILES };
  for (const name of Object.keys(FILES) as (keyof typeof FILES)[]) {
    paths[name] = join(directory, FILES[name]);
    await writeFile(paths[name], texts[name], { mode: 0o600 });
  }
  return paths;
}

async function startJob(name: JobName, home: string, sections: object): Promise<Job> {
  const [port, apiPort] = [await freePort(), await freePort()];
  await mkdir(home, { recursive: true, mode: 0o700 });
  const configFile = join(home, "mesh.json");
  const config = {
    logLevel: "debug",
    api: { port: apiPort },
    router: {
      nodeId: home,
      listenAddress: "127.0.0.1",
      port,
      runDirectory: join(home, "run"),
      mirrorDirectory: join(home, "mirror"),
      concurrency: 1,
      drainWaitMs: 0,
      drainTimeMs: 0,
      orphanTimeoutMs: 1_000,
    },
    ...sections,
  };
  await writeFile(configFile, JSON.stringify(config), { mode: 0o600 });
  const child: ChildProcess = spawn(process.execPath, [built("src/cli/main.ts"), name, "--config", configFile], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (text: Buffer) => (output += text.toString()));

  async function get(path: string): Promise<string | undefined> {
    const response = await fetch(`http://127.0.0.1:${apiPort}${path}`).catch(() => undefined);
    const text = await response?.text();
    return response?.ok === true ? text : undefined;
  }
  return {
    configFile,
    port,
    get,
    get output() {
      return output;
    },
    async status() {
      const text = await get("/status");
      if (text === undefined) throw new Error(`${name} tells no status: ${output.slice(-2_000)}`);
      return JSON.parse(text) as MeshStatus;
    },
    signal(signal) {
      child.kill(signal);
    },
    async stop(signal = "SIGTERM") {
      if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
      const ended = once(child, "exit");
      child.kill(signal);
      await ended;
      return child.exitCode;
    },
  };
}
