/**
 * What a job tells of itself over HTTP: GET /status (JSON), /health and /ready (for supervisors and load balancers), and
 * /metrics (Prometheus); and of a router's table GET /routes, to those who may know all routes. Read-only.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { chmod, rm } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { connect } from "node:net";
import { Readable } from "node:stream";
import { fastify, type FastifyInstance } from "fastify";
import { asError, MeshError, systemCode } from "../lib/errors.js";

/** undefined: all is well; else what is not, in a few words. */
export type Complaint = string | undefined;

export interface JobView {
  status(): unknown;
  /** Whether requests should be sent here: false once the job is asked to end. */
  health(): Complaint;
  /** Whether it has begun its work in full. */
  readiness(): Complaint;
  /** In Prometheus' text format. */
  metrics(): Promise<string>;
  /** The routing table as JSON, in small pieces; undefined where there is none. */
  routes(): Iterable<string> | undefined;
}

export interface ApiServer {
  /** The port of a TCP listener; undefined on a socket. */
  readonly port: number | undefined;
  close(): Promise<void>;
}

/** Of the dump of the routing table; in characters. */
const CHUNK_LENGTH = 64 * 1024;

/** Version 0.0.4 is the text format. */
const METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/**
 * All of it on a unix socket (mode 0600), which also marks its directory as taken: throws MESH_STATE_IN_USE when another
 * process listens on it. One that a dead process left is replaced.
 */
export async function serveApiOnSocket(socketPath: string, view: JobView): Promise<ApiServer> {
  if (await isListening(socketPath)) {
    throw new MeshError(
      "MESH_STATE_IN_USE",
      `another cf-mesh process runs with ${socketPath}`,
      "stop it, or give this one a directory of its own",
    );
  }
  await rm(socketPath, { force: true });
  const server = fastify();
  serveHealth(server, view);
  serveRest(server, view);
  serveRoutes(server, view);
  await server.listen({ path: socketPath });
  await chmod(socketPath, 0o600);
  return {
    port: undefined,
    async close() {
      await server.close();
      await rm(socketPath, { force: true });
    },
  };
}

export interface ListenOptions {
  readonly host: string;
  /** 0 for a free one. */
  readonly port: number;
  /** The key of the configuration that says so, for errors. */
  readonly key: string;
}

/** All of it over TCP. Throws MESH_PORT_TAKEN. */
export async function serveApi(options: ListenOptions, view: JobView): Promise<ApiServer> {
  const server = fastify({ forceCloseConnections: true });
  serveHealth(server, view);
  serveRest(server, view);
  return listen(server, options);
}

/** The health alone, for load balancers: nothing else of a job is for the network. Throws MESH_PORT_TAKEN. */
export async function serveHealthAlone(options: ListenOptions, view: Pick<JobView, "health">): Promise<ApiServer> {
  const server = fastify({ forceCloseConnections: true });
  serveHealth(server, view);
  return listen(server, options);
}

/** PEM texts. */
export interface ServerIdentity {
  readonly cert: string;
  readonly key: string;
}

export interface TlsApiServer extends ApiServer {
  /** For connections from then on. */
  replaceIdentity(identity: ServerIdentity): void;
}

/** serveHealthAlone by HTTPS. */
export async function serveHealthByTls(
  options: ListenOptions,
  identity: ServerIdentity,
  view: Pick<JobView, "health">,
): Promise<TlsApiServer> {
  const server = fastify({ forceCloseConnections: true, https: { ...identity } });
  serveHealth(server, view);
  const listening = await listen(server, options);
  return { ...listening, replaceIdentity: (next) => server.server.setSecureContext(next) };
}

export interface BasicUser {
  readonly user: string;
  /** Read for each request, so that it may be replaced. */
  password(): Promise<string>;
}

/** /routes alone, for a user who gives the password. Throws MESH_PORT_TAKEN. */
export async function serveRoutesAlone(
  options: ListenOptions,
  allowed: BasicUser,
  view: Pick<JobView, "routes">,
): Promise<ApiServer> {
  const server = fastify({ forceCloseConnections: true });
  server.addHook("onRequest", async (request, reply) => {
    const { user, password } = basicCredentials(request.headers.authorization);
    // Both are compared, so that the time tells nothing of either.
    const isUser = isSame(user, allowed.user);
    if (isSame(password, await allowed.password()) && isUser) return;
    return reply.status(401).header("www-authenticate", 'Basic realm="cf-mesh"').send();
  });
  serveRoutes(server, view);
  return listen(server, options);
}

type Server = Pick<FastifyInstance, "close" | "listen"> & {
  readonly server: { address(): AddressInfo | string | null };
  readonly get: FastifyInstance["get"];
};

/** As Gorouter answers it, so that load balancers need no other settings. */
function serveHealth(server: Server, view: Pick<JobView, "health">): void {
  server.get("/health", async (_request, reply) => {
    const complaint = view.health();
    return reply
      .status(complaint === undefined ? 200 : 503)
      .headers({ "cache-control": "private, max-age=0", expires: "0", "content-type": "text/plain; charset=utf-8" })
      .send(`${complaint ?? "ok"}\n`);
  });
  // For whoever watches the process: it answers while the router drains, too.
  server.get("/is-process-alive-do-not-use-for-loadbalancing", async (_request, reply) =>
    reply.type("text/plain; charset=utf-8").send("ok\n"),
  );
}

function serveRest(server: FastifyInstance, view: JobView): void {
  server.get("/status", () => view.status());
  server.get("/ready", async (_request, reply) => {
    const complaint = view.readiness();
    return reply
      .status(complaint === undefined ? 200 : 503)
      .type("text/plain; charset=utf-8")
      .send(`${complaint ?? "ready"}\n`);
  });
  server.get("/metrics", async (_request, reply) => reply.type(METRICS_TYPE).send(await view.metrics()));
}

function serveRoutes(server: FastifyInstance, view: Pick<JobView, "routes">): void {
  server.get("/routes", async (_request, reply) => {
    const pieces = view.routes();
    if (!pieces) return reply.status(404).type("text/plain; charset=utf-8").send("this process has no routing table\n");
    return reply.type("application/json").send(Readable.from(chunksOf(pieces)));
  });
}

/** A million routes must not keep the process from its work: others come in between chunks. */
async function* chunksOf(pieces: Iterable<string>): AsyncIterable<string> {
  let chunk = "";
  for (const piece of pieces) {
    chunk += piece;
    if (chunk.length < CHUNK_LENGTH) continue;
    yield chunk;
    chunk = "";
    await new Promise(setImmediate);
  }
  if (chunk !== "") yield chunk;
}

function basicCredentials(header = ""): { readonly user: string; readonly password: string } {
  const [, encoded = ""] = /^basic +([A-Za-z0-9+/=]+)$/i.exec(header) ?? [];
  const decoded = Buffer.from(encoded, "base64").toString();
  const place = decoded.indexOf(":");
  return place < 0 ? { user: "", password: "" } : { user: decoded.slice(0, place), password: decoded.slice(place + 1) };
}

function isSame(one: string, other: string): boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(one), digest(other));
}

async function listen(server: Server, { host, port, key }: ListenOptions): Promise<ApiServer> {
  try {
    await server.listen({ host, port });
  } catch (error) {
    if (systemCode(error) !== "EADDRINUSE") throw error;
    throw new MeshError(
      "MESH_PORT_TAKEN",
      `${key} is ${port}, and something else listens on ${host}:${port}`,
      `stop what listens there, or set ${key} to another port`,
      { cause: asError(error) },
    );
  }
  const { port: bound } = server.server.address() as AddressInfo;
  return { port: bound, close: () => server.close() };
}

function isListening(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
