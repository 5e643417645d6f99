import type { FastifyInstance, FastifyRequest } from "fastify";
import type { Caller } from "./api.js";
import { invalidAuthToken, notAuthenticated, notAuthorized } from "./errors.js";

/** Who a token belongs to; undefined for one that is expired, or that this foundation's UAA did not sign. */
export type VerifyToken = (token: string) => Promise<Caller | undefined>;

const ADMIN = "cloud_controller.admin";
const READ_SCOPES = [
  ADMIN,
  "cloud_controller.admin_read_only",
  "cloud_controller.global_auditor",
  "cloud_controller.read",
];
const WRITE_SCOPES = [ADMIN, "cloud_controller.write"];
/** Served without a token. */
export const PUBLIC_PATHS: ReadonlySet<string> = new Set(["/", "/v3", "/v3/info"]);

const callers = new WeakMap<FastifyRequest, Caller>();

/** The sender of a request that passed `requireToken`. */
export function callerOf(request: FastifyRequest): Caller {
  const caller = callers.get(request);
  if (caller === undefined) throw new Error(`${request.url} is served without a token`);
  return caller;
}

export function isAdmin(caller: Caller): boolean {
  return caller.scopes.has(ADMIN);
}

/**
 * Asks each request for a bearer token whose scopes allow it. Roles in spaces are not looked at: a scope holds
 * everywhere.
 */
export function requireToken(server: FastifyInstance, verify: VerifyToken): void {
  server.addHook("onRequest", async (request) => {
    if (PUBLIC_PATHS.has(request.routeOptions.url ?? "")) return;
    const authorization = request.headers.authorization;
    if (authorization === undefined || authorization === "") throw notAuthenticated();
    const [, token = ""] = /^bearer\s+(\S+)$/i.exec(authorization) ?? [];
    const caller = token === "" ? undefined : await verify(token);
    if (caller === undefined) throw invalidAuthToken();
    const isRead = request.method === "GET" || request.method === "HEAD";
    const allowing = isRead ? READ_SCOPES : WRITE_SCOPES;
    if (!allowing.some((scope) => caller.scopes.has(scope))) throw notAuthorized();
    callers.set(request, caller);
  });
}
