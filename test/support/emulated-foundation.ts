/** The emulated Cloud Controller and UAA over real HTTP, before a Diego that keeps all in memory. */
import type { DesiredProcess, Diego, RunningInstance } from "../../src/emulator/diego/diego.js";
import { AppLogs } from "../../src/emulator/logs.js";
import { type Foundation, type FoundationOptions, startFoundation } from "../../src/emulator/foundation.js";
import type { Clock } from "../../src/lib/clock.js";
import { silentLogger } from "../../src/lib/logger.js";

/** Accepts what is desired. It runs at once, unless `runsAtOnce` is false: then when the test says so. */
export class MemoryDiego implements Diego {
  readonly logs = new AppLogs();
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

type Some<T> = [T, ...T[]];
interface ToOne {
  readonly data: { readonly guid: string };
}

/** What tests look at in answers, of whatever kind they are; a field that an answer lacks fails the test that needs it. */
export interface Shown {
  readonly guid: string;
  readonly name: string;
  readonly state: string;
  readonly created_at: string;
  readonly updated_at: string;
  readonly pagination: {
    readonly total_results: number;
    readonly next: { readonly href: string };
    readonly previous: { readonly href: string };
  };
  readonly resources: Some<Shown>;
  readonly included: Readonly<
    Record<"apps" | "domains" | "spaces" | "organizations" | "service_instances" | "routes", Shown[]>
  >;
  readonly errors: Some<{ readonly code: number; readonly title: string; readonly detail: string }>;
  readonly links: Readonly<Record<"self" | "login" | "uaa" | "cloud_controller_v3", { readonly href: string }>>;
  readonly relationships: { readonly organization: ToOne };
  readonly url: string;
  readonly protocol: string;
  readonly options: object;
  readonly destinations: Some<Shown>;
  readonly weight: number | null;
  readonly app: { readonly guid: string; readonly process: { readonly type: string } };
  readonly hostnames: Some<string>;
  readonly type: string;
  readonly data: { readonly route_guid: string };
  readonly route_service_url: string;
  readonly version: string;
  readonly command: string;
  readonly instances: number;
  readonly health_check: { readonly type: string };
  readonly operation: string;
  readonly status: { readonly reason: string };
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  /** Empty when the answer was no JSON object. */
  readonly body: Shown;
  readonly text: string;
}

export interface EmulatedFoundation {
  readonly foundation: Foundation;
  readonly diego: MemoryDiego;
  readonly clock: StillClock;
  /** As admin, unless `headers` say otherwise. A string body goes as it is. */
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
  /** The resource that a GET, POST or PATCH answers with; throws unless it succeeds. */
  get(path: string): Promise<Shown>;
  post(path: string, body: unknown): Promise<Shown>;
  patch(path: string, body: unknown): Promise<Shown>;
  /** The detail of the only error of an answer, after its status and title: "422 CF-UnprocessableEntity: ...". */
  refusal(method: string, path: string, body?: unknown): Promise<string>;
  /** Guids that every test needs. */
  readonly spaceGuid: string;
  readonly organizationGuid: string;
  domainGuid(name?: string): Promise<string>;
  route(host: string, fields?: object): Promise<Shown>;
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
    const shown = (text.startsWith("{") ? JSON.parse(text) : {}) as Shown;
    return { status: response.status, headers: response.headers, body: shown, text };
  }
  async function succeed(method: string, path: string, body?: unknown): Promise<Shown> {
    const answer = await call(method, path, body);
    if (answer.status < 300) return answer.body;
    throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  }
  const get = (path: string) => succeed("GET", path);
  const post = (path: string, body: unknown) => succeed("POST", path, body);
  const spaceGuid: string = (await get("/v3/spaces?names=dev")).resources[0].guid;
  const organizationGuid: string = (await get("/v3/organizations?names=laptop")).resources[0].guid;
  const domainGuid = async (name = APP_DOMAIN): Promise<string> =>
    (await get(`/v3/domains?names=${name}`)).resources[0].guid;

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
      return `${status} ${answer.errors.map((error) => `${error.title}: ${error.detail}`).join("; ")}`;
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
