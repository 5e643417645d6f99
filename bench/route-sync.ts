/** The route-syncer at an emulated foundation with as many routes: reading all of it, and from a change to the log. */
import { randomUUID } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { CloudControllerSchema, type DiegoConfig, DiegoSchema } from "../src/config/config.js";
import { createCertificates } from "../src/emulator/certificates.js";
import { startDiego } from "../src/emulator/diego/emulated-diego.js";
import { type Foundation, type FoundationOptions, startFoundation } from "../src/emulator/foundation.js";
import { FoundationFiles } from "../src/emulator/persistence/foundation-files.js";
import { KEY_SPACES } from "../src/entries/keys.js";
import { openLog } from "../src/jobs/open-log.js";
import { startRouteSyncer } from "../src/jobs/route-syncer.js";
import type { SourceJobs } from "../src/jobs/source-job.js";
import { silentLogger } from "../src/lib/logger.js";
import type { MeshLog } from "../src/log/log.js";
import type { Measurement } from "./measurement.js";
import type { Stage } from "./stage.js";
import { quantile } from "./statistics.js";

const SAMPLE_APP = fileURLToPath(new URL("../src/emulator/sample-app/main.js", import.meta.url));
const DOMAIN = "apps.example.com";
const SAMPLES = 45;
/** Pauses of random length from this to twice this: timestamps have whole seconds, and nobody falls into step. */
const PAUSE_MS = 1_000;
/** One full read is in it. */
const STEADY_MS = 70_000;
const POLL_MS = 20;

export async function measureRouteSync(stage: Stage): Promise<readonly Measurement[]> {
  const { directory, routeCount, goals, progress, signal } = stage;
  const home = join(directory, "route-sync");
  await mkdir(home, { mode: 0o700 });
  const certificates = await createCertificates();
  const diego = await startDiego({ host: "127.0.0.1", bbsPort: 0, certificates, logger: silentLogger });
  const opened = await openLog({ directory: join(home, "log") }, silentLogger);
  const { log } = opened;
  let foundation: Foundation | undefined;
  let syncer: SourceJobs | undefined;
  try {
    progress("  filling the foundation");
    const options: FoundationOptions = {
      appDomains: [DOMAIN],
      diego,
      dataDirectory: join(home, "foundation"),
      droplets: [
        { name: "sample", command: [process.execPath, SAMPLE_APP, "hello"], workingDirectory: dirname(SAMPLE_APP) },
      ],
      logger: silentLogger,
    };
    const first = await startFoundation(options);
    const apps = [await pushed(first, "one"), await pushed(first, "two")] as const;
    await first.close();
    await fill(join(home, "foundation"), routeCount);
    foundation = await startFoundation(options);
    const { requests } = foundation;

    const files = { caFile: join(home, "ca"), certificateFile: join(home, "certificate"), keyFile: join(home, "key") };
    await writeFile(files.caFile, certificates.ca);
    await writeFile(files.certificateFile, certificates.client.certificate);
    await writeFile(files.keyFile, certificates.client.key, { mode: 0o600 });
    const { apiUrl: url, clientId, clientSecret } = foundation;
    const cloudController = CloudControllerSchema.parse({ url, clientId, clientSecret });
    const bbs = DiegoSchema.parse({ urls: [diego.bbsUrl], ...files });
    const start = async (withDiego: DiegoConfig | undefined) => {
      const startedMs = performance.now();
      const { jobs } = (syncer = await startRouteSyncer({ cloudController, diego: withDiego }, opened, silentLogger));
      while (jobs.some(({ status }) => status.lastSyncMs === undefined)) await delay(POLL_MS, undefined, { signal });
      return performance.now() - startedMs;
    };

    progress("  reading all of it, twice");
    const firstMs = await start(undefined);
    const requestCount = requests.all.length;
    await syncer?.stop();
    const sequence = await log.lastSequence();
    const secondMs = await start(undefined);
    const writes = (await log.lastSequence()) - sequence;

    progress("  doing nothing");
    requests.clear();
    const steadyFromMs = performance.now();
    await delay(STEADY_MS, undefined, { signal });
    const perSecond = (requests.count(/^\/v3/) * 1_000) / (performance.now() - steadyFromMs);

    const api = new Changes(foundation, log, apps);
    await api.prepare();
    progress(`  ${SAMPLES} changes without Diego`);
    const withoutDiego = await api.measure(signal);
    await syncer?.stop();
    await start(bbs);
    progress(`  ${SAMPLES} changes with Diego`);
    const withDiego = await api.measure(signal);

    const note = `${SAMPLES} changes: map, unmap, weights`;
    return [
      {
        what: "sync: all routes into the log",
        value: firstMs,
        unit: "ms",
        goal: goals.syncMs,
        note: `${requestCount} requests`,
      },
      { what: "sync: the same again", value: secondMs, unit: "ms", goal: goals.syncMs },
      { what: "sync: writes by that", value: writes, unit: "", goal: { atMost: 0 } },
      { what: "sync: requests per second while nothing changes", value: perSecond, unit: "", goal: { atMost: 2 } },
      { what: "change to log: by audit events, p50", value: quantile(withoutDiego, 0.5), unit: "ms" },
      {
        what: "change to log: by audit events, p99",
        value: quantile(withoutDiego, 0.99),
        unit: "ms",
        goal: goals.changeToLogMs,
        note,
      },
      { what: "change to log: by Diego's events, p50", value: quantile(withDiego, 0.5), unit: "ms" },
      {
        what: "change to log: by Diego's events, p99",
        value: quantile(withDiego, 0.99),
        unit: "ms",
        goal: goals.hintedChangeToLogMs,
        note,
      },
    ];
  } finally {
    await syncer?.stop();
    await foundation?.close();
    await diego.close();
    await opened.close();
  }
}

async function pushed(foundation: Foundation, name: string): Promise<string> {
  return (await foundation.pushSample(name, "sample", { instances: 1 })).guid;
}

/** Adds routes, each with an app of its own that is stopped, to what the foundation will start with. */
async function fill(directory: string, routeCount: number): Promise<void> {
  const files = await FoundationFiles.open(directory);
  const { state, secrets } = files;
  const [app] = state?.apps ?? [];
  const [process] = state?.processes ?? [];
  const domain = state?.domains.find(({ name }) => name === DOMAIN);
  if (!state || !secrets || !app || !process || !domain) throw new Error("the foundation did not keep its state");
  const metadata = { labels: {}, annotations: {} };
  const indexes = Array.from({ length: routeCount }, (_, index) => index);
  // Half a second apart from each other, as if they had come one by one.
  const times = (index: number) => {
    const createdAt = app.createdAt - (routeCount - index) / 2;
    return { createdAt: Math.floor(createdAt), updatedAt: Math.floor(createdAt) };
  };
  const guids = indexes.map(() => ({ app: randomUUID(), route: randomUUID() }));
  const filled = guids.map((guid, index) => {
    const common = { metadata, ...times(index) };
    const name = `app-${index}`;
    return {
      app: { ...app, ...common, guid: guid.app, name, state: "STOPPED" as const },
      process: { ...process, ...common, guid: guid.app, appGuid: guid.app },
      route: {
        ...{ ...common, guid: guid.route, host: name, path: "", port: null },
        ...{ spaceGuid: app.spaceGuid, domainGuid: domain.guid, options: {} },
      },
      destination: {
        ...{ ...times(index), guid: randomUUID(), routeGuid: guid.route, appGuid: guid.app },
        ...{ processType: "web", port: 8080, weight: null, protocol: "http1" as const },
      },
    };
  });
  await files.save(
    {
      ...state,
      apps: [...state.apps, ...filled.map((one) => one.app)],
      processes: [...state.processes, ...filled.map((one) => one.process)],
      routes: [...state.routes, ...filled.map((one) => one.route)],
      destinations: [...state.destinations, ...filled.map((one) => one.destination)],
    },
    secrets,
  );
}

/** Changes through the API, each followed until it is in the log. */
class Changes {
  readonly #foundation: Foundation;
  readonly #log: MeshLog;
  readonly #apps: readonly [string, string];
  #token = "";
  #routeGuid = "";

  constructor(foundation: Foundation, log: MeshLog, apps: readonly [string, string]) {
    this.#foundation = foundation;
    this.#log = log;
    this.#apps = apps;
  }

  async prepare(): Promise<void> {
    this.#token = await this.#foundation.adminToken();
    const [space, domain] = await Promise.all([
      this.#guid("/v3/spaces?names=dev"),
      this.#guid(`/v3/domains?names=${DOMAIN}`),
    ]);
    const relationships = { space: { data: { guid: space } }, domain: { data: { guid: domain } } };
    const route = (await this.#call("POST", "/v3/routes", { host: "changing", relationships })) as { guid: string };
    this.#routeGuid = route.guid;
    await this.#untilAfter(0);
  }

  /** Milliseconds from the request to the entry, of each change. */
  async measure(signal: AbortSignal): Promise<readonly number[]> {
    const [one, two] = this.#apps;
    const weighted = (weight: number) => [
      { app: { guid: one }, weight },
      { app: { guid: two }, weight: 100 - weight },
    ];
    const kinds = [() => [{ app: { guid: one } }], (round: number) => weighted(10 + round), () => []];
    const tookMs: number[] = [];
    for (let round = 0; round < SAMPLES; round += 1) {
      await delay(PAUSE_MS * (1 + Math.random()), undefined, { signal });
      const destinations = kinds[round % kinds.length]?.(round) ?? [];
      const { sequence = 0 } = (await this.#log.get(this.#key)) ?? {};
      const startedMs = performance.now();
      await this.#call("PATCH", `/v3/routes/${this.#routeGuid}/destinations`, { destinations });
      await this.#untilAfter(sequence);
      tookMs.push(performance.now() - startedMs);
    }
    return tookMs;
  }

  get #key(): string {
    return KEY_SPACES.cloudControllerRoutes + this.#routeGuid;
  }

  async #untilAfter(sequence: number): Promise<void> {
    const seen = new AbortController();
    for await (const { entries } of this.#log.follow(sequence, seen.signal)) {
      if (entries.some(({ key }) => key === this.#key)) seen.abort();
    }
  }

  async #guid(path: string): Promise<string> {
    const { resources } = (await this.#call("GET", path)) as { resources: { guid: string }[] };
    return resources[0]?.guid ?? "";
  }

  async #call(method: string, path: string, body?: object): Promise<unknown> {
    const answer = await fetch(`${this.#foundation.apiUrl}${path}`, {
      method,
      headers: { authorization: this.#token },
      ...(body && { body: JSON.stringify(body) }),
    });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }
}
