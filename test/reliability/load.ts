/** Requests at a steady rate through both routers, as behind a load balancer, with every answer looked at. */
import { Agent, request } from "node:http";
import { text } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";
import { systemCode } from "../../src/lib/errors.js";

/** A host, and the apps that may answer for it. */
export interface LoadTarget {
  readonly host: string;
  readonly apps: readonly string[];
}

export interface LoadCounts {
  readonly requests: number;
  /** What was no 200, or no answer in time, as a text each. */
  readonly failures: readonly string[];
  /** Connections that broke with a request on them. */
  readonly broken: readonly string[];
  /** Answers of apps that the host does not lead to, as a text each. */
  readonly wrong: readonly string[];
  /** Requests that another router took, since the first one refused the connection. */
  readonly moved: number;
  readonly slowestMs: number;
  /** How many requests each app of each host answered: "host app". */
  readonly answered: ReadonlyMap<string, number>;
}

const CONNECTIONS = 8;
/** Of each router. */
const REQUESTS_PER_SECOND = 50;
/** Every so many requests use a connection of their own. */
const FRESH_EVERY = 10;
const TICK_MS = 10;
const ANSWER_TIMEOUT_MS = 10_000;

interface Counting {
  requests: number;
  failures: string[];
  broken: string[];
  wrong: string[];
  moved: number;
  slowestMs: number;
  answered: Map<string, number>;
}

const none = (): Counting => ({
  requests: 0,
  failures: [],
  broken: [],
  wrong: [],
  moved: 0,
  slowestMs: 0,
  answered: new Map(),
});

export class Load {
  readonly #ports: readonly number[];
  readonly #targets: readonly LoadTarget[];
  readonly #agents: readonly Agent[];
  readonly #open = new Set<Promise<void>>();
  readonly #over = new AbortController();
  readonly #running: Promise<unknown>;
  #counts = none();
  #sent = 0;

  constructor(ports: readonly number[], targets: readonly LoadTarget[]) {
    this.#ports = ports;
    this.#targets = targets;
    this.#agents = ports.map(() => new Agent({ keepAlive: true, maxSockets: CONNECTIONS }));
    this.#running = Promise.all(ports.map((_, index) => this.#run(index)));
  }

  /** What happened since it was asked last, requests that are under way included: they are waited for. */
  async take(): Promise<LoadCounts> {
    const counts = this.#counts;
    const open = [...this.#open];
    await Promise.all(open);
    this.#counts = none();
    return counts;
  }

  async close(): Promise<void> {
    this.#over.abort();
    await this.#running;
    await Promise.all(this.#open);
    for (const agent of this.#agents) agent.destroy();
  }

  async #run(router: number): Promise<void> {
    const { signal } = this.#over;
    const beganMs = performance.now();
    let sent = 0;
    while (!signal.aborted) {
      const due = ((performance.now() - beganMs) * REQUESTS_PER_SECOND) / 1_000;
      // A machine that was busy elsewhere makes no burst of what it missed.
      if (due - sent > REQUESTS_PER_SECOND) sent = due - 1;
      for (; sent < due; sent += 1) {
        const call = this.#send(router).finally(() => this.#open.delete(call));
        this.#open.add(call);
      }
      await delay(TICK_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  async #send(router: number): Promise<void> {
    const target = this.#targets[this.#sent % this.#targets.length];
    this.#sent += 1;
    if (!target) return;
    const isFresh = this.#sent % FRESH_EVERY === 0;
    const counts = this.#counts;
    counts.requests += 1;
    const startedMs = performance.now();
    try {
      const answer = await this.#ask(router, target.host, isFresh).catch((error: unknown) => {
        if (systemCode(error) !== "ECONNREFUSED") throw error;
        counts.moved += 1;
        return this.#ask(1 - router, target.host, true);
      });
      if (answer.status !== 200) {
        counts.failures.push(`${target.host}: ${answer.status} ${answer.routerError} ${answer.body.trim()}`);
      } else {
        const app = appOf(answer) ?? "";
        if (!target.apps.includes(app)) counts.wrong.push(`${target.host}: ${app}`);
        const who = `${target.host} ${app}`;
        counts.answered.set(who, (counts.answered.get(who) ?? 0) + 1);
      }
    } catch (error) {
      if (error instanceof TimeoutError) counts.failures.push(`${target.host}: no answer in ${ANSWER_TIMEOUT_MS} ms`);
      else counts.broken.push(`${target.host}: ${String(error)}`);
    }
    counts.slowestMs = Math.max(counts.slowestMs, performance.now() - startedMs);
  }

  #ask(router: number, host: string, isFresh: boolean): Promise<GivenAnswer> {
    return ask(this.#ports[router] ?? 0, host, isFresh ? false : (this.#agents[router] ?? false));
  }
}

class TimeoutError extends Error {}

export interface GivenAnswer {
  readonly status: number;
  readonly routerError: string;
  readonly body: string;
}

/** Which app gave it; undefined for an answer of the router's. */
export function appOf({ status, body }: GivenAnswer): string | undefined {
  return status === 200 ? (JSON.parse(body) as { app: string }).app : undefined;
}

/** One GET of "/". Rejects when the connection breaks, and when the answer takes too long. */
export async function ask(port: number, host: string, agent: Agent | false): Promise<GivenAnswer> {
  return new Promise((resolve, reject) => {
    const call = request({ host: "127.0.0.1", port, agent, headers: { host } }, (response) => {
      text(response).then(
        (body) =>
          resolve({
            status: response.statusCode ?? 0,
            routerError: String(response.headers["x-cf-routererror"] ?? ""),
            body,
          }),
        reject,
      );
    });
    call.setTimeout(ANSWER_TIMEOUT_MS, () => call.destroy(new TimeoutError("no answer")));
    call.once("error", reject);
    call.end();
  });
}
