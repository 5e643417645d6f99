/** A JetStream cluster of real nats-servers on this machine, whose servers may die one by one. */
import { connect } from "@nats-io/transport-node";
import { jetstreamManager } from "@nats-io/jetstream";
import { type NatsServer, startNatsServer } from "../../src/emulator/nats/nats-server.js";
import { eventually } from "./eventually.js";
import { freePort } from "./free-port.js";

export interface NatsCluster {
  readonly servers: readonly NatsServer[];
  readonly urls: readonly string[];
  /** The server that leads the stream now. */
  leaderOf(stream: string): Promise<NatsServer>;
  close(): Promise<void>;
}

export const urlOf = ({ host, port }: NatsServer) => `nats://${host}:${port}`;

const nameOf = (index: number) => `server-${index}`;

/** Resolves when the servers have a leader among them. */
export async function startNatsCluster(size = 3): Promise<NatsCluster> {
  const ports = await Promise.all(Array.from({ length: size }, freePort));
  const routes = ports.map((port) => `nats://127.0.0.1:${port}`);
  const servers = await Promise.all(
    ports.map((port, index) =>
      startNatsServer({
        settings: {
          server_name: nameOf(index),
          jetstream: { store_dir: "jetstream" },
          // Who comes to a server by a proxy is not to learn of a way past it.
          cluster: { name: "test", listen: `127.0.0.1:${port}`, routes, no_advertise: true },
        },
      }),
    ),
  );
  const urls = servers.map(urlOf);
  const close = async () => {
    await Promise.all(servers.map((server) => server.close()));
  };

  async function asking<T>(ask: (manager: Awaited<ReturnType<typeof jetstreamManager>>) => Promise<T>): Promise<T> {
    const nats = await connect({ servers: [...urls], reconnect: false, timeout: 1_000 });
    try {
      return await ask(await jetstreamManager(nats, { checkAPI: false, timeout: 1_000 }));
    } finally {
      await nats.close();
    }
  }
  async function leaderOf(stream: string): Promise<NatsServer> {
    return eventually(async () => {
      const { cluster } = await asking((manager) => manager.streams.info(stream));
      return servers.find((server, index) => nameOf(index) === cluster?.leader && server.pid !== undefined);
    }, 30_000);
  }

  try {
    await eventually(() => asking((manager) => manager.getAccountInfo()), 30_000);
    return { servers, urls, leaderOf, close };
  } catch (error) {
    await close();
    throw error;
  }
}
