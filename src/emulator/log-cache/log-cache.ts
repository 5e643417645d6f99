/**
 * The emulated Log Cache: what apps, staging and the API wrote, for `cf logs` and `cf push`.
 *
 * Source   api/v1 of log-cache-release; who may read, and 404 for who may not: internal/auth/cf_auth_middleware.go there.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import type { Clock } from "../../lib/clock.js";
import type { Caller } from "../cloud-controller/api.js";
import type { VerifyToken } from "../cloud-controller/authentication.js";
import { bearerToken } from "../http/bearer-token.js";
import type { AppLogs } from "../logs.js";
import { envelopesOf, presentEnvelope } from "./envelopes.js";

export interface LogCacheOptions {
  readonly logs: AppLogs;
  readonly clock: Clock;
  readonly verifyToken: VerifyToken;
  /** Apps that a caller may see. */
  readonly appsOf: (caller: Caller) => readonly string[];
  /** Whether a caller may read an app's logs; an administrator's may also be those of an app that is gone. */
  readonly mayRead: (caller: Caller, appGuid: string) => boolean;
  /** What every line of an app is tagged with: names and guids of app, space and organization. */
  readonly tagsOf: (appGuid: string) => Readonly<Record<string, string>>;
}

const VERSION = "3.1.0";
const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 1_000;

const nanoseconds = z
  .string()
  .regex(/^-?\d{1,20}$/)
  .transform((text) => BigInt(text))
  .optional();
const querySchema = z.object({
  start_time: nanoseconds,
  end_time: nanoseconds,
  limit: z.coerce.number().int().min(0).max(MAX_LIMIT).default(DEFAULT_LIMIT),
  descending: z.enum(["true", "false"]).default("false"),
  envelope_types: z
    .union([z.string(), z.array(z.string())])
    .default([])
    .transform((types) => [types].flat()),
});

/** Adds Log Cache's paths to a server that does not listen yet. */
export function serveLogCache(server: FastifyInstance, options: LogCacheOptions): void {
  const { logs, clock } = options;
  const startedMs = clock.now();

  server.get("/api/v1/info", () => ({
    version: VERSION,
    vm_uptime: String(Math.floor((clock.now() - startedMs) / 1_000)),
  }));
  server.get<{ Params: { sourceId: string } }>("/api/v1/read/:sourceId", async (request, reply) => {
    const { sourceId } = request.params;
    const caller = await callerFrom(request, options);
    if (caller === undefined || !options.mayRead(caller, sourceId)) return refuse(reply, 404, "");
    const query = querySchema.safeParse(request.query);
    if (!query.success) return refuse(reply, 400, query.error.issues[0]?.path.join(".") ?? "query");
    const { start_time: startNs, end_time: endNs, limit, descending, envelope_types: types } = query.data;
    const wantsLogs = types.length === 0 || types.includes("LOG") || types.includes("ANY");
    const matching = envelopesOf(wantsLogs ? logs.recent(sourceId) : []).filter(
      ({ timestampNs }) => timestampNs >= (startNs ?? 0n) && (endNs === undefined || timestampNs < endNs),
    );
    const wanted = limit === 0 ? DEFAULT_LIMIT : limit;
    const shown = descending === "true" ? matching.slice(-wanted).reverse() : matching.slice(0, wanted);
    const tags = options.tagsOf(sourceId);
    return { envelopes: { batch: shown.map((envelope) => presentEnvelope(sourceId, envelope, tags)) } };
  });
  server.get("/api/v1/meta", async (request, reply) => {
    const caller = await callerFrom(request, options);
    if (caller === undefined) return refuse(reply, 404, "");
    const meta = options.appsOf(caller).flatMap((appGuid) => {
      const envelopes = envelopesOf(logs.recent(appGuid));
      const [oldest, newest] = [envelopes[0], envelopes.at(-1)];
      if (oldest === undefined || newest === undefined) return [];
      const found = {
        count: String(envelopes.length),
        expired: "0",
        oldest_timestamp: String(oldest.timestampNs),
        newest_timestamp: String(newest.timestampNs),
      };
      return [[appGuid, found] as const];
    });
    return { meta: Object.fromEntries(meta) };
  });
}

async function callerFrom(request: FastifyRequest, options: LogCacheOptions): Promise<Caller | undefined> {
  const token = bearerToken(request);
  return token === undefined ? undefined : options.verifyToken(token);
}

function refuse(reply: FastifyReply, status: 400 | 404, parameter: string): FastifyReply {
  const body = status === 404 ? "" : { code: 3, message: `type mismatch, parameter: ${parameter}`, details: [] };
  return reply.status(status).send(body);
}
