/** Requests at a steady rate whose every answer is looked at: what a change does to clients, one by one. */
import { type Answer, Client, type SampleAnswer } from "./client.js";
import { eventually } from "./eventually.js";

export interface SteadyLoadOptions {
  readonly port: number;
  readonly host: string;
  readonly path?: string;
  /** 200 when left out. */
  readonly requestsPerSecond?: number;
  /** Kept open; a request takes one that is free. 8 when left out. */
  readonly connections?: number;
  /** Sent by turns; when left out GET, and POST with a body, which a router may not send twice. */
  readonly methods?: readonly string[];
  /** What of an answer tells who gave it; "app" when left out. */
  readonly by?: keyof Pick<SampleAnswer, "app" | "guid">;
}

export interface SteadyLoadReport {
  readonly total: number;
  /** What was no 200, as a text each. */
  readonly failures: readonly string[];
  /** From the first byte sent to the last one read, in milliseconds. */
  readonly slowestMs: number;
}

export interface SteadyLoad {
  /** Who gave the latest 20 answers, a status for what was no 200; nobody before there are so many. */
  answerers(): ReadonlySet<string>;
  /** Resolves when the latest 20 answers came from all of these, and nobody else; fails after 20 s. */
  answeredBy(...names: readonly string[]): Promise<void>;
  /** Resolves when so many more were answered, in whatever way. */
  more(count: number): Promise<void>;
  /** Resolves when all requests were answered. */
  stop(): Promise<SteadyLoadReport>;
}

const TIMEOUT_MS = 20_000;
const TICK_MS = 5;
const MS_PER_S = 1_000;
const RECENT = 20;

export function startSteadyLoad(options: SteadyLoadOptions): SteadyLoad {
  const {
    port,
    host,
    path = "/",
    requestsPerSecond = 200,
    connections = 8,
    methods = ["GET", "POST"],
    by = "app",
  } = options;
  const client = new Client(port, connections);
  const failures: string[] = [];
  const recent: string[] = [];
  const open = new Set<Promise<void>>();
  let total = 0;
  let answered = 0;
  let slowestMs = 0;

  const note = (method: string, answer: Answer) => {
    if (answer.status === 200) recent.push(answer.json[by]);
    else {
      const { status, headers, body } = answer;
      failures.push(`${method}: ${status} ${String(headers["x-cf-routererror"])} ${body.toString()}`);
      recent.push(String(status));
    }
    if (recent.length > RECENT) recent.shift();
  };
  const send = async (method: string) => {
    const startedMs = performance.now();
    try {
      note(method, await client.get(host, path, { method, ...(method === "POST" && { body: "some text" }) }));
    } catch (error) {
      failures.push(`${method}: ${String(error)}`);
    }
    slowestMs = Math.max(slowestMs, performance.now() - startedMs);
    answered += 1;
  };
  const beganMs = performance.now();
  const timer = setInterval(() => {
    const due = ((performance.now() - beganMs) * requestsPerSecond) / MS_PER_S;
    // A machine that was busy elsewhere makes no burst of what it missed.
    for (let sent = 0; total < due && sent < connections && open.size < connections; sent += 1) {
      const call = send(methods[total % methods.length] ?? "GET").finally(() => open.delete(call));
      open.add(call);
      total += 1;
    }
  }, TICK_MS);

  const answerers = () => new Set(recent.length < RECENT ? [] : recent);

  return {
    answerers,
    async answeredBy(...names) {
      const wanted = [...names].sort().join();
      await eventually(() => [...answerers()].sort().join() === wanted, TIMEOUT_MS);
    },
    async more(count) {
      const goal = answered + count;
      await eventually(() => answered >= goal, TIMEOUT_MS);
    },
    async stop() {
      clearInterval(timer);
      await Promise.all(open);
      client.close();
      return { total, failures, slowestMs };
    },
  };
}
