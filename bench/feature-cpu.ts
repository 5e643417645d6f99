/** What a request costs that makes use of something: CPU of Envoy, and of the agent, against one that does not. */
import { randomUUID } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { createCertificates } from "../src/emulator/certificates.js";
import { startLoggregatorAgent } from "../src/emulator/log-cache/loggregator-agent.js";
import { AppLogs } from "../src/emulator/logs.js";
import { encodeRoute } from "../src/entries/entries.js";
import { KEY_SPACES } from "../src/entries/keys.js";
import type { Write } from "../src/log/log.js";
import {
  deriveKey,
  FORWARDED_URL_HEADER,
  METADATA_HEADER,
  sign,
  SIGNATURE_HEADER,
} from "../src/route-services/signature.js";
import { Connection, hitEach } from "./connection.js";
import type { Measurement } from "./measurement.js";
import { cpuSeconds } from "./process-usage.js";
import type { RouterProcess } from "./router-process.js";
import type { Stage } from "./stage.js";
import { median } from "./statistics.js";
import { appWrites, instanceGuid, processWrite, routeWrite } from "./synthetic.js";

const ROUNDS = 15;
const REQUESTS = 2_000;
const CONNECTIONS = 8;
const WARM_UP_REQUESTS = 500;
const SCOPE_PAUSE_MS = 5_000;
const SERVED_TIMEOUT_MS = 30_000;
const SIGNATURE_LIFE_MS = 3_600_000;

const host = (name: string) => `${name}.features.example.com`;
const PLAIN = host("plain");
const GUARDED = host("guarded");

interface Case {
  readonly what: string;
  readonly router: RouterProcess;
  readonly host: string;
  /** Each request is for another host below the domain of `host`. */
  readonly isVaried?: boolean;
  readonly headers?: readonly string[];
  readonly status?: number;
}

interface Cpu {
  readonly envoy: number;
  readonly agent: number;
}

export async function measureFeatures(stage: Stage, router: RouterProcess): Promise<readonly Measurement[]> {
  if (!router.pids) {
    stage.progress("what features cost is not measured: this system has no /proc as Linux has it");
    return [];
  }
  const app = randomUUID();
  await stage.log.append(writesFor(stage, app));
  const secret = randomUUID();
  const measurements = await besides(stage, await routeServices(stage, secret), (other) =>
    compare(casesOf(router, other, app, secret), stage),
  );
  const plain = { what: "nothing of these", router, host: PLAIN };
  for (const { what, section, close } of await accessLogs(stage)) {
    const [, compared] = await besides(stage, section, (other) =>
      compare([plain, { what, router: other, host: PLAIN }], stage),
    );
    close();
    if (compared) measurements.push(compared);
  }
  return measurements;
}

/** With another router, of such a section; one at a time, since with many routes each takes much memory. */
async function besides<T>(stage: Stage, section: object, work: (other: RouterProcess) => Promise<T>): Promise<T> {
  const other = await stage.startRouter({ section });
  try {
    return await work(other);
  } finally {
    await other.stop();
  }
}

interface LoggingRouter {
  readonly what: string;
  readonly section: object;
  readonly close: () => void;
}

/** Sections of routers that write lines of requests: into a file, and into the logs of apps besides. */
async function accessLogs({ directory }: Stage): Promise<readonly LoggingRouter[]> {
  const folder = join(directory, "access-logs");
  await mkdir(folder, { mode: 0o700 });
  const certificates = await createCertificates();
  const { certificate, key } = await certificates.issue({ commonName: "gorouter", usages: ["client"] });
  const [caFile, certificateFile, keyFile] = ["ca", "certificate", "key"].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  await writeFile(caFile, certificates.ca);
  await writeFile(certificateFile, certificate);
  await writeFile(keyFile, key, { mode: 0o600 });
  const agent = await startLoggregatorAgent("127.0.0.1", certificates, new AppLogs());
  const file = join(folder, "access.log");
  const loggregator = { address: agent.address, caFile, certificateFile, keyFile };
  return [
    { what: "an access log", section: { accessLog: { file } }, close: () => undefined },
    {
      what: "an access log, and lines in the app's log",
      section: { accessLog: { file, loggregator } },
      close: () => agent.close(),
    },
  ];
}

function writesFor({ appPorts }: Stage, app: string): readonly Write[] {
  const processes = [randomUUID(), randomUUID()] as const;
  const services = `https://${host("service")}/`;
  return [
    ...appWrites(PLAIN, appPorts[0]),
    ...appWrites("*.features.example.org", appPorts[0]),
    ...appWrites(host("service"), appPorts[0]),
    ...processes.map((guid, index) => processWrite(guid, [appPorts[index === 0 ? 0 : 1]])),
    routeWrite({ guid: randomUUID(), host: host("weighted") }, [
      { processGuid: processes[0], weight: 90 },
      { processGuid: processes[1], weight: 10 },
    ]),
    processWrite(app, appPorts),
    ...[
      { name: "several" },
      { name: "hashed", options: { loadbalancing: "hash", hashHeader: "x-user" } },
      { name: "guarded", routeServiceUrl: services },
    ].map(({ name, ...more }) => ({
      key: KEY_SPACES.cloudControllerRoutes + name,
      value: encodeRoute({
        guid: name,
        host: host(name),
        protocol: "http",
        destinations: [{ processGuid: app, appGuid: app, port: 8_080, protocol: "http1" }],
        ...more,
      }),
    })),
  ];
}

/** The section of a router that sends requests to route services which are apps of its own. */
async function routeServices({ directory }: Stage, secret: string): Promise<object> {
  const folder = join(directory, "route-services");
  await mkdir(folder, { mode: 0o700 });
  const [secretFile, caFile] = [join(folder, "secret"), join(folder, "ca")];
  await writeFile(secretFile, secret, { mode: 0o600 });
  await writeFile(caFile, (await createCertificates()).ca);
  return { routeServices: { secretFile, caFile, hairpinning: true, timeoutMs: SIGNATURE_LIFE_MS } };
}

function casesOf(router: RouterProcess, other: RouterProcess, app: string, secret: string): readonly Case[] {
  const forwardedUrl = `https://${GUARDED}/`;
  const { signature, metadata } = sign({ forwardedUrl, requestedMs: Date.now() }, deriveKey(secret));
  const instance = instanceGuid(app, 2);
  return [
    { what: "nothing of these", router, host: PLAIN },
    { what: "several instances", router, host: host("several") },
    { what: "weights", router, host: host("weighted") },
    { what: "hash by a header", router, host: host("hashed"), headers: ["x-user: 17"] },
    {
      what: "a session's instance",
      router,
      host: host("several"),
      headers: [`cookie: JSESSIONID=a; __VCAP_ID__=${instance}`],
    },
    { what: "X-CF-App-Instance", router, host: host("several"), headers: [`x-cf-app-instance: ${app}:2`] },
    { what: "a host below a wildcard that is used much", router, host: "any.features.example.org" },
    { what: "hosts below a wildcard, another one each time", router, host: "any.features.example.org", isVaried: true },
    { what: "an unknown host (404)", router, host: host("unknown"), status: 404 },
    { what: "route services set up, none bound", router: other, host: PLAIN },
    { what: "to a route service that is an app here", router: other, host: GUARDED },
    {
      what: "back from its route service",
      router: other,
      host: GUARDED,
      headers: [
        `${SIGNATURE_HEADER}: ${signature}`,
        `${METADATA_HEADER}: ${metadata}`,
        `${FORWARDED_URL_HEADER}: ${forwardedUrl}`,
      ],
    },
  ];
}

async function untilAnswered({ router, host, headers, status = 200 }: Case, signal: AbortSignal): Promise<void> {
  const connection = await Connection.open(router.port, signal);
  await connection.until(host, SERVED_TIMEOUT_MS, (answer) => answer.status === status, headers);
  connection.close();
}

async function compare(cases: readonly Case[], { signal }: Stage): Promise<Measurement[]> {
  for (const one of cases) await untilAnswered(one, signal);
  for (const one of cases) await cpuPerRequest(one, WARM_UP_REQUESTS, signal);
  // A host that is used much below a wildcard has a scope of its own by then.
  await delay(SCOPE_PAUSE_MS, undefined, { signal });
  const rounds: ReadonlyMap<Case, Cpu[]> = new Map(cases.map((one) => [one, []]));
  const order = [...rounds];
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [one, cpus] of order) cpus.push(await cpuPerRequest(one, REQUESTS, signal));
    // Who follows another process finds the caches cold: each takes its turn at being first.
    order.push(...order.splice(0, 1));
  }
  const [[, plain] = [undefined, []], ...others] = rounds;
  const microseconds = (cpus: readonly Cpu[]) =>
    `Envoy ${median(cpus.map(({ envoy }) => envoy)).toFixed(0)} µs, agent ${median(cpus.map(({ agent }) => agent)).toFixed(0)} µs`;
  return [
    {
      what: "CPU per request: agent's part, exact host",
      value: median(plain.map(({ agent }) => agent)),
      unit: "µs",
      note: `metrics of requests; ${microseconds(plain)}`,
    },
    ...others.map(([{ what }, cpus]) => ({
      what: `CPU per request: ${what}, against an exact host`,
      value: median(cpus.map(({ envoy, agent }, round) => (envoy + agent) / sumOf(plain[round]))),
      unit: "×",
      note: microseconds(cpus),
    })),
  ];
}

const sumOf = (cpu: Cpu | undefined): number => (cpu ? cpu.envoy + cpu.agent : NaN);

/** In microseconds, user and system. */
async function cpuPerRequest(one: Case, requests: number, signal: AbortSignal): Promise<Cpu> {
  const { pids, port } = one.router;
  if (!pids) throw new Error("its processes were seen before");
  const before = await Promise.all([cpuSeconds(pids.envoy), cpuSeconds(pids.agent)]);
  const hosts = Array.from({ length: requests }, () => (one.isVaried ? `${randomUUID()}.${one.host}` : one.host));
  await hitEach(port, hosts, CONNECTIONS, signal, one);
  const after = await Promise.all([cpuSeconds(pids.envoy), cpuSeconds(pids.agent)]);
  const each = (index: 0 | 1) => (1e6 * (after[index] - before[index])) / requests;
  return { envoy: each(0), agent: each(1) };
}
