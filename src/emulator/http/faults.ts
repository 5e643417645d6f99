import type { FastifyInstance, FastifyReply } from "fastify";
import { type PathPattern, matchesPath, splitUrl } from "./request-log.js";

/** What a server does instead of answering. */
export type Fault =
  /** 401, as for a token that expired; from Cloud Controller CF-InvalidAuthToken. */
  | { readonly kind: "invalid-token" }
  /** 429 with Retry-After, and JSON under text/plain. */
  | { readonly kind: "rate-limited"; readonly retryAfterSeconds: number }
  /** This status, with the error body of the server that is asked. */
  | { readonly kind: "status"; readonly status: number }
  /** 200 with a body that is no JSON. */
  | { readonly kind: "garbage" }
  /** 200 with a body that ends before its Content-Length. */
  | { readonly kind: "truncated" }
  /** The real answer, once the fault is released. */
  | { readonly kind: "slow" }
  /** The connection is cut without an answer. */
  | { readonly kind: "drop" };

export interface FaultRule {
  readonly path: PathPattern;
  /** Left out: any. */
  readonly method?: string;
  /** How many requests it hits; left out: all, until it is cleared. */
  readonly times?: number;
  readonly fault: Fault;
}

/** An injected fault. */
export interface InjectedFault {
  readonly hitCount: number;
  /** Resolves at its next hit. */
  nextHit(): Promise<void>;
  /** Lets the slow answers go that it holds. It goes on hitting. */
  release(): void;
  /** Ends it, and releases what it holds. */
  clear(): void;
}

class Rule implements InjectedFault {
  readonly rule: FaultRule;
  readonly #onClear: (rule: Rule) => void;
  #waitingForHit: (() => void)[] = [];
  #held: (() => void)[] = [];
  hitCount = 0;

  constructor(rule: FaultRule, onClear: (rule: Rule) => void) {
    this.rule = rule;
    this.#onClear = onClear;
  }

  get isSpent(): boolean {
    return this.hitCount >= (this.rule.times ?? Infinity);
  }

  nextHit(): Promise<void> {
    return new Promise((resolve) => this.#waitingForHit.push(resolve));
  }

  released(): Promise<void> {
    return new Promise((resolve) => this.#held.push(resolve));
  }

  hit(): void {
    this.hitCount += 1;
    const waiting = this.#waitingForHit;
    this.#waitingForHit = [];
    for (const resolve of waiting) resolve();
  }

  release(): void {
    const held = this.#held;
    this.#held = [];
    for (const resolve of held) resolve();
  }

  clear(): void {
    this.#onClear(this);
    this.release();
  }
}

/** The faults of one HTTP server. The newest that matches a request hits it. */
export class HttpFaults {
  readonly #rules = new Set<Rule>();
  readonly #exempt: string;

  /** `exempt`: a path that no fault hits, so that faults can be ended over HTTP. */
  constructor(exempt: string) {
    this.#exempt = exempt;
  }

  inject(rule: FaultRule): InjectedFault {
    const injected = new Rule(rule, (cleared) => this.#rules.delete(cleared));
    this.#rules.add(injected);
    return injected;
  }

  clear(): void {
    for (const rule of [...this.#rules]) rule.clear();
  }

  /** To be called before any other hook, so that faults come before authentication. */
  install(server: FastifyInstance): void {
    server.addHook("onRequest", async (request, reply) => {
      const { path, query } = splitUrl(request.url);
      if (path.startsWith(this.#exempt)) return;
      const rule = [...this.#rules]
        .reverse()
        .find(
          (one) =>
            !one.isSpent &&
            (one.rule.method ?? request.method) === request.method &&
            matchesPath(one.rule.path, path, query),
        );
      if (rule === undefined) return;
      const released = rule.rule.fault.kind === "slow" ? rule.released() : undefined;
      rule.hit();
      await (released ?? answer(reply, rule.rule.fault, path));
    });
  }
}

async function answer(reply: FastifyReply, fault: Fault, path: string): Promise<void> {
  switch (fault.kind) {
    case "invalid-token":
      await reply.status(401).send(statusBody(path, 401));
      return;
    case "rate-limited":
      await reply
        .status(429)
        .header("retry-after", fault.retryAfterSeconds)
        .type("text/plain")
        .send(JSON.stringify(ccError(10013, "CF-RateLimitExceeded", "Rate Limit Exceeded")));
      return;
    case "status":
      await reply.status(fault.status).send(statusBody(path, fault.status));
      return;
    case "garbage":
      await reply.status(200).type("application/json").send("<html>this is not what you asked for</html>");
      return;
    case "truncated":
      truncate(reply);
      return;
    case "drop":
      reply.hijack();
      reply.raw.destroy();
      return;
    case "slow":
      return;
  }
}

function truncate(reply: FastifyReply): void {
  const beginning = '{"pagination":{"total_results":1,"total_pages":1,"next":null},"resources":[{"guid":"';
  reply.hijack();
  reply.raw.writeHead(200, { "content-type": "application/json", "content-length": beginning.length + 1000 });
  reply.raw.write(beginning, () => reply.raw.destroy());
}

function statusBody(path: string, status: number): object {
  if (path.startsWith("/oauth")) return { error: status === 401 ? "unauthorized" : "server_error" };
  if (path.startsWith("/routing")) {
    return status === 401
      ? { name: "UnauthorizedError", message: "Token is expired" }
      : { name: "DBCommunicationError", message: "driver: bad connection" };
  }
  return status === 401
    ? ccError(1000, "CF-InvalidAuthToken", "Invalid Auth Token")
    : ccError(10001, "UnknownError", "An unknown error occurred.");
}

function ccError(code: number, title: string, detail: string): object {
  return { errors: [{ code, title, detail }] };
}
