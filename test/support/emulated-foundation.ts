/** The emulated Cloud Controller and UAA over real HTTP, before a Diego that keeps all in memory. */
import type { DesiredProcess, Diego, RunningInstance } from "../../src/emulator/diego/diego.js";
import { type Foundation, type FoundationOptions, startFoundation } from "../../src/emulator/foundation.js";
import type { Clock } from "../../src/lib/clock.js";
import { silentLogger } from "../../src/lib/logger.js";

/** Accepts what is desired. It runs at once, unless `runsAtOnce` is false: then when the test says so. */
export class MemoryDiego implements Diego {
  readonly desired = new Map<string, DesiredProcess>();
  /** What was called, in order: "desire <lrp>", "remove <lrp>", "restart <lrp>/<index>". */
  readonly calls: string[] = [];
  runsAtOnce = true;
  readonly #running = new Set<string>();
  readonly #waiting = new Map<string, { resolve: () => void; reject: (reason: Error) => void }>();

  desire(process: DesiredProcess): Promise<void> {
    this.calls.push(`desire ${process.lrpProcessGuid}`);
    this.desired.set(process.lrpProcessGuid, process);
    if (this.runsAtOnce) this.run(process.lrpProcessGuid);
    return Promise.resolve();
  }

  remove(lrpProcessGuid: string): Promise<void> {
    this.calls.push(`remove ${lrpProcessGuid}`);
    this.desired.delete(lrpProcessGuid);
    this.#running.delete(lrpProcessGuid);
    this.#waiting.get(lrpProcessGuid)?.reject(new Error("removed"));
    return Promise.resolve();
  }

  restartInstance(lrpProcessGuid: string, index: number): Promise<void> {
    this.calls.push(`restart ${lrpProcessGuid}/${index}`);
    return Promise.resolve();
  }

  run(lrpProcessGuid: string): void {
    this.#running.add(lrpProcessGuid);
    this.#waiting.get(lrpProcessGuid)?.resolve();
  }

  fail(lrpProcessGuid: string): void {
    this.#waiting.get(lrpProcessGuid)?.reject(new Error("it crashed"));
  }

  instances(lrpProcessGuid: string): readonly RunningInstance[] {
    const process = this.desired.get(lrpProcessGuid);
    if (process === undefined || !this.#running.has(lrpProcessGuid)) return [];
    return Array.from({ length: process.instances }, (_, index) => ({
      index,
      guid: `${lrpProcessGuid}-instance-${index}`,
      state: "RUNNING",
      host: "127.0.0.1",
      instanceAddress: "127.0.0.2",
      ports: [{ external: 60_000 + index, internal: process.ports[0] ?? 8080 }],
      sinceMs: 0,
    }));
  }

  whenRunning(lrpProcessGuid: string, _count: number, signal: AbortSignal): Promise<void> {
    if (this.#running.has(lrpProcessGuid)) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#waiting.set(lrpProcessGuid, { resolve, reject });
      signal.addEventListener("abort", () => reject(new Error("aborted")), { once: true });
    });
  }

  /** What it was told of the app's newest version. */
  processOf(appGuid: string): DesiredProcess {
    const process = [...this.desired.values()].filter((one) => one.appGuid === appGuid).at(-1);
    if (process === undefined) throw new Error(`nothing of app ${appGuid} is desired`);
    return process;
  }
}

/** Stands still until the test turns it. */
export class StillClock implements Clock {
  nowMs = Date.parse("2026-03-01T12:00:00Z");
  now(): number {
    return this.nowMs;
  }
  sleep(): Promise<void> {
    return Promise.resolve();
  }
  forward(seconds: number): void {
    this.nowMs += seconds * 1000;
  }
}

/** JSON that tests look into without ceremony. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type Json = any;

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Json;
}

export interface EmulatedFoundation {
  readonly foundation: Foundation;
  readonly diego: MemoryDiego;
  readonly clock: StillClock;
  /** As admin, unless `headers` say otherwise. A string body goes as it is. */
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
  /** The resource that a GET, POST or PATCH answers with; throws unless it succeeds. */
  get(path: string): Promise<Json>;
  post(path: string, body: unknown): Promise<Json>;
  patch(path: string, body: unknown): Promise<Json>;
  /** The detail of the only error of an answer, after its status and title: "422 CF-UnprocessableEntity: ...". */
  refusal(method: string, path: string, body?: unknown): Promise<string>;
  /** Guids that every test needs. */
  readonly spaceGuid: string;
  readonly organizationGuid: string;
  domainGuid(name?: string): Promise<string>;
  route(host: string, fields?: object): Promise<Json>;
  /** A started app. */
  app(name: string, instances?: number): Promise<string>;
  close(): Promise<void>;
}

export const APP_DOMAIN = "apps.example.test";

export async function startEmulatedFoundation(options: Partial<FoundationOptions> = {}): Promise<EmulatedFoundation> {
  const diego = new MemoryDiego();
  const clock = new StillClock();
  const foundation = await startFoundation({
    appDomains: [APP_DOMAIN],
    diego,
    clock,
    logger: silentLogger,
    droplets: [
      { name: "hello", command: ["node", "sample.js", "hello"], workingDirectory: "/samples" },
      { name: "hola", command: ["node", "sample.js", "hola"], workingDirectory: "/samples" },
    ],
    ...options,
  });
  const admin = await foundation.adminToken();

  async function call(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const response = await fetch(new URL(path, foundation.apiUrl), {
      method,
      headers: { authorization: admin, ...headers },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    const isJson = text.startsWith("{");
    return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text };
  }
  async function succeed(method: string, path: string, body?: unknown): Promise<Json> {
    const answer = await call(method, path, body);
    if (answer.status < 300) return answer.body as Json;
    throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  }
  const get = (path: string) => succeed("GET", path);
  const post = (path: string, body: unknown) => succeed("POST", path, body);
  const spaceGuid: string = (await get("/v3/spaces?names=dev")).resources[0].guid;
  const organizationGuid: string = (await get("/v3/organizations?names=laptop")).resources[0].guid;
  const domainGuid = async (name = APP_DOMAIN): Promise<string> =>
    (await get(`/v3/domains?names=${name}`)).resources[0].guid as string;

  return {
    foundation,
    diego,
    clock,
    call,
    get,
    post,
    patch: (path, body) => succeed("PATCH", path, body),
    async refusal(method, path, body) {
      const { status, body: answer } = await call(method, path, body);
      const errors: Json[] = answer.errors;
      return `${status} ${errors.map((error) => `${error.title}: ${error.detail}`).join("; ")}`;
    },
    spaceGuid,
    organizationGuid,
    domainGuid,
    async route(host, fields = {}) {
      const relationships = {
        space: { data: { guid: spaceGuid } },
        domain: { data: { guid: await domainGuid() } },
      };
      return post("/v3/routes", { host, relationships, ...fields });
    },
    app: async (name, instances = 1) => (await foundation.pushSample(name, "hello", { instances })).guid,
    close: () => foundation.close(),
  };
}
