import { createServer } from "node:net";
import { asError, MeshError, systemCode } from "./errors.js";

/** Throws MESH_PORT_TAKEN when nobody can listen there now; `setting` is what the operator changes. */
export async function requireFreePort(host: string, port: number, setting: string): Promise<void> {
  const server = createServer();
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host, port }, resolve);
    });
  } catch (error) {
    const reason = systemCode(error) === "EADDRINUSE" ? "another process listens there" : asError(error).message;
    throw new MeshError(
      "MESH_PORT_TAKEN",
      `${host}:${port} can't be listened on: ${reason}`,
      `stop that process, or choose another port with ${setting}`,
      { cause: error },
    );
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
}
