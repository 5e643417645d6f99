/** The route-syncer at an emulated foundation with as many routes: reading all of it, and from a change to the log. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { CloudControllerSchema, DiegoSchema } from "../src/config/config.js";
import { KEY_SPACES } from "../src/entries/keys.js";
import { Credentials } from "../src/jobs/credentials.js";
import { openLog } from "../src/jobs/open-log.js";
import { startRouteSyncer } from "../src/jobs/route-syncer.js";
import type { SourceJobs } from "../src/jobs/source-job.js";
import { silentLogger } from "../src/lib/logger.js";
import type { MeshLog } from "../src/log/log.js";
import { type BenchFoundation, FOUNDATION_DOMAIN } from "./foundation-main.js";
import type { Goal, Measurement } from "./measurement.js";
import type { Stage } from "./stage.js";
import { quantile } from "./statistics.js";

const FOUNDATION = join(import.meta.dirname, "foundation-main.js");
const SAMPLES = 45;
/** Pauses of random length from this to twice this: timestamps have whole seconds, and nobody falls into step. */
const PAUSE_MS = 1_000;
/** The minute that the syncer counts over, and none of its first full read. */
const STEADY_MS = 75_000;
/** The emulated Cloud Controller has one thread, and works on a page of thousands for half a second: nothing else is answered. */
const NEVER_MS = 3_600_000;
const POLL_MS = 20;

export async function measureRouteSync(stage: Stage): Promise<readonly Measurement[]> {
  const { children, directory, routeCount, goals, progress } = stage;
  const home = join(directory, "route-sync");
  await mkdir(home, { mode: 0o700 });
  const credentials = new Credentials(silentLogger);
  const opened = await openLog({ directory: join(home, "log") }, credentials, silentLogger);
  const { log } = opened;
  let syncer: SourceJobs | undefined;
  const stopSyncer = async () => {
    await syncer?.stop();
    syncer = undefined;
  };
  try {
    progress("  filling the foundation");
    const child = children.start("the foundation", process.execPath, [FOUNDATION, home, String(routeCount)], home);
    const foundation = JSON.parse(await child.firstLine) as BenchFoundation;
    const signal = AbortSignal.any([stage.signal, child.ended]);
    const { apiUrl: url, clientId, clientSecret } = foundation;
    const cloudController = CloudControllerSchema.parse({ url, clientId, clientSecret });
    /** Returns how long it took until all was in the log, and how many requests. */
    const startSyncer = async (options: { readonly withDiego: boolean; readonly resyncIntervalMs?: number }) => {
      const startedMs = performance.now();
      const diego = options.withDiego ? DiegoSchema.parse(foundation.diego) : undefined;
      const { resyncIntervalMs = cloudController.resyncIntervalMs } = options;
      const section = { ...cloudController, resyncIntervalMs };
      syncer = await startRouteSyncer({ cloudController: section, diego }, opened, credentials, silentLogger);
      const { jobs } = syncer;
      while (jobs.some(({ status }) => status.lastSyncMs === undefined)) await delay(POLL_MS, undefined, { signal });
      return { tookMs: performance.now() - startedMs, requestsOfLastMinute: () => requestsOf(jobs) };
    };

    progress("  reading all of it, twice");
    const first = await startSyncer({ withDiego: false });
    const requestCount = first.requestsOfLastMinute();
    await stopSyncer();
    const sequence = await log.lastSequence();
    const second = await startSyncer({ withDiego: false });
    const writes = (await log.lastSequence()) - sequence;

    progress("  doing nothing");
    await delay(STEADY_MS, undefined, { signal });
    const perSecond = second.requestsOfLastMinute() / 60;

    const changes = new Changes(foundation, log);
    await changes.prepare();
    progress(`  ${SAMPLES} changes without Diego`);
    await stopSyncer();
    await startSyncer({ withDiego: false, resyncIntervalMs: NEVER_MS });
    const byLooks = await changes.measure(signal);
    await stopSyncer();
    await startSyncer({ withDiego: true, resyncIntervalMs: NEVER_MS });
    progress(`  ${SAMPLES} changes with Diego`);
    const byHints = await changes.measure(signal);

    return [
      {
        ...{ what: "sync: all routes into the log", value: first.tookMs, unit: "ms" },
        ...{ goal: goals.syncMs, note: `${requestCount} requests` },
      },
      { what: "sync: the same again", value: second.tookMs, unit: "ms", goal: goals.syncMs },
      { what: "sync: writes by that", value: writes, unit: "", note: "to be 0" },
      { what: "sync: requests per second while nothing changes", value: perSecond, unit: "", goal: { atMost: 2 } },
      ...quantiles("change to log, by audit events", byLooks, goals.changeToLogMs),
      ...quantiles("change to log, by Diego's events", byHints, goals.hintedChangeToLogMs),
    ];
  } finally {
    await stopSyncer();
    await opened.close();
    await credentials.close();
  }
}

function requestsOf(jobs: SourceJobs["jobs"]): number {
  return jobs.reduce((sum, { status }) => sum + (status.requests?.lastMinute ?? 0), 0);
}

function quantiles(what: string, tookMs: readonly number[], goal: Goal | undefined): readonly Measurement[] {
  const note = `${SAMPLES} changes: map, weights, unmap; no full read meanwhile`;
  return [
    { what: `${what}, p50`, value: quantile(tookMs, 0.5), unit: "ms" },
    { what: `${what}, p90`, value: quantile(tookMs, 0.9), unit: "ms" },
    { what: `${what}, p99`, value: quantile(tookMs, 0.99), unit: "ms", goal, note },
  ];
}

/** Changes through the API, each followed until it is in the log. */
class Changes {
  readonly #foundation: BenchFoundation;
  readonly #log: MeshLog;
  #routeGuid = "";

  constructor(foundation: BenchFoundation, log: MeshLog) {
    this.#foundation = foundation;
    this.#log = log;
  }

  async prepare(): Promise<void> {
    const [space, domain] = await Promise.all([
      this.#guid("/v3/spaces?names=dev"),
      this.#guid(`/v3/domains?names=${FOUNDATION_DOMAIN}`),
    ]);
    const relationships = { space: { data: { guid: space } }, domain: { data: { guid: domain } } };
    const route = (await this.#call("POST", "/v3/routes", { host: "changing", relationships })) as { guid: string };
    this.#routeGuid = route.guid;
    await this.#untilAfter(0);
  }

  /** Milliseconds from the request to the entry, of each change. */
  async measure(signal: AbortSignal): Promise<readonly number[]> {
    const [one, two] = this.#foundation.apps;
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
      headers: { authorization: this.#foundation.token },
      ...(body && { body: JSON.stringify(body) }),
    });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }
}
