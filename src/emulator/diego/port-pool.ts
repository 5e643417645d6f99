import { randomInt } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";
import { MeshError, systemCode } from "../../lib/errors.js";

/** Diego's range. The system takes ports for outgoing connections from below it (on Linux: 32768 to 60999). */
const FIRST_PORT = 61_001;
const LAST_PORT = 65_534;
const PORT_COUNT = LAST_PORT - FIRST_PORT + 1;

/**
 * Gives host ports to instances, one after the other: a port comes up again only after all others, so who still dials
 * an instance that is gone is refused, and does not reach another app.
 */
export class PortPool {
  readonly #host: string;
  readonly #taken = new Set<number>();
  // Several emulators on one machine begin at different places.
  #offset = randomInt(PORT_COUNT);

  constructor(host: string) {
    this.#host = host;
  }

  /** Throws MESH_PORT_TAKEN when no port of the range can be listened on. */
  async take(): Promise<number> {
    for (let attempt = 0; attempt < PORT_COUNT; attempt++) {
      const port = FIRST_PORT + this.#offset;
      this.#offset = (this.#offset + 1) % PORT_COUNT;
      if (this.#taken.has(port)) continue;
      this.#taken.add(port);
      if (await isFree(this.#host, port)) return port;
      this.#taken.delete(port);
    }
    throw new MeshError(
      "MESH_PORT_TAKEN",
      `no port from ${FIRST_PORT} to ${LAST_PORT} of ${this.#host} is free for an app instance; it will be tried again`,
      "run fewer instances, or stop what listens on these ports",
    );
  }

  release(port: number): void {
    this.#taken.delete(port);
  }
}

async function isFree(host: string, port: number): Promise<boolean> {
  const server = createServer();
  server.listen({ host, port });
  try {
    await once(server, "listening");
  } catch (error) {
    if (systemCode(error) === "EADDRINUSE" || systemCode(error) === "EACCES") return false;
    throw error;
  }
  server.close();
  await once(server, "close");
  return true;
}
