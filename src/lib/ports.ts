import { createServer } from "node:net";
import { asError, MeshError, systemCode } from "./errors.js";

/** What an operator changes: as in "--port" and "--host". */
export interface ListenSettings {
  readonly port: string;
  readonly host: string;
}

/**
 * Throws when nobody can listen there now: MESH_CONFIG_INVALID for an address that is not this machine's, or a port that
 * this user may not have, else MESH_PORT_TAKEN. Says which setting to change.
 */
export async function requireFreePort(host: string, port: number, settings: ListenSettings): Promise<void> {
  const server = createServer();
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host, port }, resolve);
    });
  } catch (error) {
    throw refusal(host, port, settings, error);
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
}

function refusal(host: string, port: number, settings: ListenSettings, cause: unknown): MeshError {
  const place = `${host}:${port} can't be listened on`;
  switch (systemCode(cause)) {
    case "EADDRNOTAVAIL":
      return new MeshError(
        "MESH_CONFIG_INVALID",
        `${place}: ${host} is no address of this machine; nothing was started`,
        `name an address of this machine with ${settings.host}`,
        { cause },
      );
    case "EACCES":
      return new MeshError(
        "MESH_CONFIG_INVALID",
        `${place}: this user may not; nothing was started`,
        `choose a port from 1024 on with ${settings.port}`,
        { cause },
      );
    case "EADDRINUSE":
      return new MeshError(
        "MESH_PORT_TAKEN",
        `${place}: another process listens there; nothing was started`,
        `stop that process, or choose another port with ${settings.port}`,
        { cause },
      );
    case undefined:
    default:
      return new MeshError(
        "MESH_PORT_TAKEN",
        `${place}: ${asError(cause).message}; nothing was started`,
        `choose another place with ${settings.host} and ${settings.port}`,
        { cause },
      );
  }
}
