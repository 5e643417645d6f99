/**
 * The emulated routing API: router groups, TCP routes and HTTP routes, with their events.
 *
 * Source   handlers of cloudfoundry/routing-api.
 */
import type { FastifyInstance, FastifyRequest } from "fastify";
import { z } from "zod";
import type { VerifyToken } from "../cloud-controller/authentication.js";
import { bearerToken } from "../http/bearer-token.js";
import { RoutingApiError } from "./errors.js";
import type { EventStreams } from "./event-streams.js";
import { checkHttpRoute, checkNamed, type HttpRoutes, httpRouteSchema } from "./http-routes.js";
import { ROUTER_GROUPS } from "./router-groups.js";
import { checkTcpMapping, type TcpRoutes, tcpMappingSchema } from "./tcp-routes.js";

export interface RoutingApiOptions {
  readonly tcpRoutes: TcpRoutes;
  readonly httpRoutes: HttpRoutes;
  readonly streams: EventStreams;
  readonly verifyToken: VerifyToken;
}

const BASE = "/routing/v1";
const READ = "routing.routes.read";
const WRITE = "routing.routes.write";
const EXPIRY_INTERVAL_MS = 1_000;

/** Adds the paths to a server that does not listen yet, and that reads bodies as text. */
export async function serveRoutingApi(root: FastifyInstance, options: RoutingApiOptions): Promise<void> {
  const { tcpRoutes, httpRoutes } = options;
  await root.register((server, _options, done) => {
    server.setErrorHandler(async (thrown, _request, reply) => {
      if (!(thrown instanceof RoutingApiError)) throw thrown;
      await reply.status(thrown.status).send({ name: thrown.kind, message: thrown.message });
    });
    const expiry = setInterval(() => {
      tcpRoutes.expire();
      httpRoutes.expire();
    }, EXPIRY_INTERVAL_MS);
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
    serveTcpRoutes(server, options);
    serveHttpRoutes(server, options);
    done();
  });
}

function serveTcpRoutes(server: FastifyInstance, options: RoutingApiOptions): void {
  const { tcpRoutes, streams } = options;
  server.get<{ Querystring: { isolation_segment?: string } }>(`${BASE}/tcp_routes`, async (request) => {
    await requireScope(request, options, READ);
    const { isolation_segment: segment } = request.query;
    return tcpRoutes.all().filter((route) => segment === undefined || route.isolation_segment === segment);
  });
  server.post(`${BASE}/tcp_routes/create`, async (request, reply) => {
    const mappings = parseMappings(request);
    await requireScope(request, options, WRITE);
    for (const mapping of mappings) checkTcpMapping(mapping);
    tcpRoutes.upsert(mappings);
    return reply.status(201).send();
  });
  server.post(`${BASE}/tcp_routes/delete`, async (request, reply) => {
    const mappings = parseMappings(request);
    await requireScope(request, options, WRITE);
    tcpRoutes.remove(mappings);
    return reply.status(204).send();
  });
  server.get(`${BASE}/tcp_routes/events`, async (request, reply) => {
    await requireScope(request, options, READ);
    streams.open(reply, tcpRoutes);
  });
}

function serveHttpRoutes(server: FastifyInstance, options: RoutingApiOptions): void {
  const { httpRoutes, streams } = options;
  server.get(`${BASE}/routes`, async (request) => {
    await requireScope(request, options, READ);
    return httpRoutes.all();
  });
  server.post(`${BASE}/routes`, async (request, reply) => {
    const routes = parseList(request, httpRouteSchema);
    await requireScope(request, options, WRITE);
    for (const route of routes) checkHttpRoute(route);
    httpRoutes.upsert(routes);
    return reply.status(201).send();
  });
  server.delete(`${BASE}/routes`, async (request, reply) => {
    const routes = parseList(request, httpRouteSchema);
    await requireScope(request, options, WRITE);
    for (const route of routes) checkNamed(route);
    httpRoutes.remove(routes);
    return reply.status(204).send();
  });
  server.get(`${BASE}/events`, async (request, reply) => {
    await requireScope(request, options, READ);
    streams.open(reply, httpRoutes);
  });
}

async function requireScope(request: FastifyRequest, { verifyToken }: RoutingApiOptions, scope: string): Promise<void> {
  const token = bearerToken(request);
  const caller = token === undefined ? undefined : await verifyToken(token);
  if (caller === undefined) throw new RoutingApiError(401, "UnauthorizedError", "Invalid token");
  if (!caller.scopes.has(scope)) {
    throw new RoutingApiError(401, "UnauthorizedError", `Token does not have '${scope}' scope`);
  }
}

function parseMappings(request: FastifyRequest) {
  return parseList(request, tcpMappingSchema).map(({ ttl, ...mapping }) => ({
    ...mapping,
    ...(ttl !== undefined && { ttl }),
  }));
}

function parseList<Schema extends z.ZodType>(request: FastifyRequest, schema: Schema): z.output<Schema>[] {
  const parsed = z.array(schema).safeParse(parseJson(request.body));
  if (parsed.success) return parsed.data;
  throw new RoutingApiError(400, "ProcessRequestError", "Cannot process request: invalid JSON body");
}

function parseJson(body: unknown): unknown {
  try {
    return typeof body === "string" ? JSON.parse(body) : undefined;
  } catch {
    return undefined;
  }
}
