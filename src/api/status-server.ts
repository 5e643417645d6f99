/** The read-only status of a job: JSON over HTTP on a unix socket, for people and the CLI. */
import { chmod, rm } from "node:fs/promises";
import { connect } from "node:net";
import { fastify } from "fastify";
import { MeshError } from "../lib/errors.js";

export interface StatusServer {
  close(): Promise<void>;
}

/**
 * Answers GET /status with whatever `status` returns. The socket (mode 0600) also marks its directory as taken: throws
 * MESH_STATE_IN_USE when another process listens on it. One that a dead process left is replaced.
 */
export async function serveStatus(socketPath: string, status: () => unknown): Promise<StatusServer> {
  if (await isListening(socketPath)) {
    throw new MeshError(
      "MESH_STATE_IN_USE",
      `another cf-mesh process runs with ${socketPath}`,
      "stop it, or give this one a directory of its own",
    );
  }
  await rm(socketPath, { force: true });
  const server = fastify();
  server.get("/status", () => status());
  await server.listen({ path: socketPath });
  await chmod(socketPath, 0o600);
  return {
    async close() {
      await server.close();
      await rm(socketPath, { force: true });
    },
  };
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
