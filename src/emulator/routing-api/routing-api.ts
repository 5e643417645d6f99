/**
 * The emulated routing API: router groups, and TCP routes with their events.
 *
 * Source   handlers of cloudfoundry/routing-api.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import type { VerifyToken } from "../cloud-controller/authentication.js";
import { bearerToken } from "../http/bearer-token.js";
import { ROUTER_GROUPS } from "./router-groups.js";
import { MAX_TTL_SECONDS, type TcpMapping, type TcpRoutes } from "./tcp-routes.js";

export interface RoutingApiOptions {
  readonly tcpRoutes: TcpRoutes;
  readonly verifyToken: VerifyToken;
}

const BASE = "/routing/v1";
const EXPIRY_INTERVAL_MS = 1_000;

const mappingSchema = z.object({
  router_group_guid: z.string().default(""),
  port: z.int().default(0),
  backend_ip: z.string().default(""),
  backend_port: z.int().default(0),
  backend_tls_port: z.int().default(0),
  instance_id: z.string().default(""),
  isolation_segment: z.string().default(""),
  ttl: z.int().optional(),
});

class RoutingApiError extends Error {
  override readonly name = "RoutingApiError";
  readonly status: number;
  readonly kind: string;

  constructor(status: number, kind: string, message: string) {
    super(message);
    this.status = status;
    this.kind = kind;
  }
}

/** Adds the paths to a server that does not listen yet, and that reads bodies as text. */
export async function serveRoutingApi(root: FastifyInstance, options: RoutingApiOptions): Promise<void> {
  const { tcpRoutes } = options;
  await root.register((server, _options, done) => {
    server.setErrorHandler(async (thrown, _request, reply) => {
      if (!(thrown instanceof RoutingApiError)) throw thrown;
      await reply.status(thrown.status).send({ name: thrown.kind, message: thrown.message });
    });
    const expiry = setInterval(() => tcpRoutes.expire(), EXPIRY_INTERVAL_MS);
    server.addHook("onClose", (_instance, closed) => {
      clearInterval(expiry);
      closed();
    });

    server.get<{ Querystring: { name?: string } }>(`${BASE}/router_groups`, async (request) => {
      await requireScope(request, options, "routing.router_groups.read");
      const { name } = request.query;
      if (name === undefined) return ROUTER_GROUPS;
      const found = ROUTER_GROUPS.filter((group) => group.name === name);
      if (found.length > 0) return found;
      throw new RoutingApiError(404, "ResourceNotFoundError", `Router Group '${name}' not found`);
    });
    server.get<{ Querystring: { isolation_segment?: string } }>(`${BASE}/tcp_routes`, async (request) => {
      await requireScope(request, options, "routing.routes.read");
      const { isolation_segment: segment } = request.query;
      return tcpRoutes.all().filter((route) => segment === undefined || route.isolation_segment === segment);
    });
    server.post(`${BASE}/tcp_routes/create`, async (request, reply) => {
      const mappings = parseMappings(request);
      await requireScope(request, options, "routing.routes.write");
      for (const mapping of mappings) checkMapping(mapping);
      tcpRoutes.upsert(mappings);
      return reply.status(201).send();
    });
    server.post(`${BASE}/tcp_routes/delete`, async (request, reply) => {
      const mappings = parseMappings(request);
      await requireScope(request, options, "routing.routes.write");
      tcpRoutes.remove(mappings);
      return reply.status(204).send();
    });
    server.get(`${BASE}/tcp_routes/events`, async (request, reply) => {
      await requireScope(request, options, "routing.routes.read");
      stream(reply, tcpRoutes);
    });
    done();
  });
}

/** Server-sent events: the mapping as JSON, ids from 0 on. */
function stream(reply: FastifyReply, tcpRoutes: TcpRoutes): void {
  reply.hijack();
  const { raw } = reply;
  raw.writeHead(200, {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-store, must-revalidate",
  });
  raw.flushHeaders();
  let id = 0;
  const unfollow = tcpRoutes.follow(({ type, route }) => {
    raw.write(`id: ${id}\nevent: ${type}\ndata: ${JSON.stringify(route)}\n\n`);
    id += 1;
  });
  raw.once("close", unfollow);
}

async function requireScope(request: FastifyRequest, { verifyToken }: RoutingApiOptions, scope: string): Promise<void> {
  const token = bearerToken(request);
  const caller = token === undefined ? undefined : await verifyToken(token);
  if (caller === undefined) throw new RoutingApiError(401, "UnauthorizedError", "Invalid token");
  if (!caller.scopes.has(scope)) {
    throw new RoutingApiError(401, "UnauthorizedError", `Token does not have '${scope}' scope`);
  }
}

function parseMappings(request: FastifyRequest): readonly TcpMapping[] {
  const parsed = z.array(mappingSchema).safeParse(parseJson(request.body));
  if (!parsed.success) throw invalid("ProcessRequestError", "Cannot process request: invalid JSON body");
  return parsed.data.map(({ ttl, ...mapping }) => ({ ...mapping, ...(ttl !== undefined && { ttl }) }));
}

function parseJson(body: unknown): unknown {
  try {
    return typeof body === "string" ? JSON.parse(body) : undefined;
  } catch {
    return undefined;
  }
}

function checkMapping(mapping: TcpMapping): void {
  const problem = problemOf(mapping);
  if (problem !== undefined) throw invalid("TcpRouteMappingInvalidError", problem);
}

/** In the words of handlers/validator.go. */
function problemOf({ router_group_guid: group, port, backend_ip, backend_port, backend_tls_port, ttl }: TcpMapping) {
  if (group === "") return "Each tcp mapping requires a non empty router group guid.";
  if (port <= 0) return "Each tcp mapping requires a positive external port.";
  if (backend_ip === "") return "Each tcp mapping requires a non empty backend ip.";
  if (backend_port <= 0 && backend_tls_port <= 0) return "Each tcp mapping requires a positive backend port.";
  if (backend_tls_port > 65_535) {
    return "Each tcp mapping with a backend TLS port requires that port to be less than or equal to 65535.";
  }
  if (ttl !== undefined && ttl > MAX_TTL_SECONDS) {
    return `Each tcp mapping requires TTL to be less than or equal to ${MAX_TTL_SECONDS}.`;
  }
  if (ttl !== undefined && ttl <= 0) return "Each tcp route mapping requires a ttl greater than 0";
  return ROUTER_GROUPS.some(({ guid }) => guid === group) ? undefined : `router_group_guid: ${group} not found`;
}

function invalid(kind: string, message: string): RoutingApiError {
  return new RoutingApiError(400, kind, message);
}
