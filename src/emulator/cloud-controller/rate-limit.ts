import type { FastifyInstance } from "fastify";
import type { Clock } from "../../lib/clock.js";
import { callerOf, isAdmin, PUBLIC_PATHS } from "./authentication.js";
import { rateLimitExceeded } from "./errors.js";

export interface RateLimit {
  /** Requests that a caller may send in one interval. */
  readonly requestCount: number;
  readonly intervalMs: number;
}

interface Window {
  readonly endsAtMs: number;
  count: number;
}

/**
 * Counts the requests of each caller while a limit is set; admins are not limited. Refuses with 429, Retry-After in
 * seconds, and a JSON body under text/plain, as Cloud Controller does.
 */
export function limitRate(server: FastifyInstance, clock: Clock, limit: () => RateLimit | undefined): void {
  const windows = new Map<string, Window>();
  server.addHook("preHandler", async (request, reply) => {
    const current = limit();
    if (current === undefined) {
      windows.clear();
      return;
    }
    if (PUBLIC_PATHS.has(request.routeOptions.url ?? "")) return;
    const caller = callerOf(request);
    if (isAdmin(caller)) return;
    const known = windows.get(caller.guid);
    const window =
      known !== undefined && known.endsAtMs > clock.now()
        ? known
        : { endsAtMs: clock.now() + current.intervalMs, count: 0 };
    window.count += 1;
    windows.set(caller.guid, window);
    const left = Math.max(0, current.requestCount - window.count);
    const step = Math.max(1, Math.floor(current.requestCount / 10));
    reply.header("x-ratelimit-limit", current.requestCount);
    // Cloud Controller only estimates, in steps of a tenth.
    reply.header("x-ratelimit-remaining", Math.floor(left / step) * step);
    reply.header("x-ratelimit-reset", Math.ceil(window.endsAtMs / 1000));
    if (window.count <= current.requestCount) return;
    const retryAfter = Math.max(1, Math.ceil((window.endsAtMs - clock.now()) / 1000));
    await reply
      .status(429)
      .header("retry-after", retryAfter)
      .type("text/plain")
      .send(JSON.stringify(rateLimitExceeded().body));
  });
}
