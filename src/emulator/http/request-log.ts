import type { FastifyInstance } from "fastify";

export interface LoggedRequest {
  readonly method: string;
  readonly path: string;
  /** Without "?"; "" for none. */
  readonly query: string;
  /** Of the answer; undefined when the connection was cut instead. */
  readonly status: number | undefined;
}

/** A path, or a pattern that is looked for in path and query. */
export type PathPattern = string | RegExp;

const KEPT_COUNT = 10_000;

/** The requests that were answered, or cut: for tests that look at how a client behaves. */
export class RequestLog {
  readonly #entries: LoggedRequest[] = [];
  readonly #waiting = new Set<(request: LoggedRequest) => void>();

  /** The newest ones, oldest first; at most 10,000. */
  get all(): readonly LoggedRequest[] {
    return this.#entries;
  }

  count(pattern: PathPattern): number {
    return this.#entries.filter((entry) => matchesPath(pattern, entry.path, entry.query)).length;
  }

  clear(): void {
    this.#entries.length = 0;
  }

  /** Resolves with the next request that matches. */
  next(pattern: PathPattern): Promise<LoggedRequest> {
    return new Promise((resolve) => {
      const look = (request: LoggedRequest) => {
        if (!matchesPath(pattern, request.path, request.query)) return;
        this.#waiting.delete(look);
        resolve(request);
      };
      this.#waiting.add(look);
    });
  }

  add(request: LoggedRequest): void {
    this.#entries.push(request);
    if (this.#entries.length > KEPT_COUNT) this.#entries.shift();
    for (const look of [...this.#waiting]) look(request);
  }
}

export function matchesPath(pattern: PathPattern, path: string, query: string): boolean {
  return typeof pattern === "string" ? pattern === path : pattern.test(query === "" ? path : `${path}?${query}`);
}

export function splitUrl(url: string): { readonly path: string; readonly query: string } {
  const [path = "", ...rest] = url.split("?");
  return { path, query: rest.join("?") };
}

export function logRequests(server: FastifyInstance, log: RequestLog): void {
  // A cut connection has no response event: "close" comes in either case.
  server.addHook("onRequest", (request, reply, done) => {
    reply.raw.once("close", () => {
      const status = reply.raw.writableFinished ? reply.raw.statusCode : undefined;
      log.add({ method: request.method, ...splitUrl(request.url), status });
    });
    done();
  });
}
