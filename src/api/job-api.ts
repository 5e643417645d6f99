/**
 * What a job tells of itself over HTTP: GET /status (JSON), /health and /ready (for supervisors and load balancers), and
 * /metrics (Prometheus). Read-only.
 */
import { chmod, rm } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { connect } from "node:net";
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
}

export interface ApiServer {
  /** The port of a TCP listener; undefined on a socket. */
  readonly port: number | undefined;
  close(): Promise<void>;
}

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

/** /health alone, for load balancers: nothing else of a job is for the network. Throws MESH_PORT_TAKEN. */
export async function serveHealthAlone(options: ListenOptions, view: Pick<JobView, "health">): Promise<ApiServer> {
  const server = fastify({ forceCloseConnections: true });
  serveHealth(server, view);
  return listen(server, options);
}

/** As Gorouter answers it, so that load balancers need no other settings. */
function serveHealth(server: FastifyInstance, view: Pick<JobView, "health">): void {
  server.get("/health", async (_request, reply) => {
    const complaint = view.health();
    return reply
      .status(complaint === undefined ? 200 : 503)
      .headers({ "cache-control": "private, max-age=0", expires: "0", "content-type": "text/plain; charset=utf-8" })
      .send(`${complaint ?? "ok"}\n`);
  });
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

async function listen(server: FastifyInstance, { host, port, key }: ListenOptions): Promise<ApiServer> {
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
