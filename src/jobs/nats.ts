/** Registrations from NATS into the log. */
import { randomUUID } from "node:crypto";
import { networkInterfaces } from "node:os";
import type { NatsConfig } from "../config/config.js";
import { KEY_SPACES } from "../entries/keys.js";
import type { Logger } from "../lib/logger.js";
import type { MeshLog } from "../log/log.js";
import type { NatsCredentials } from "../sources/nats/connection.js";
import { natsSource } from "../sources/nats/nats-source.js";
import type { Credentials } from "./credentials.js";
import type { JobWriters } from "./open-log.js";
import { type SourceJob, startSource } from "./source-job.js";

export async function startNats(
  config: NatsConfig,
  log: MeshLog,
  writers: JobWriters,
  credentials: Credentials,
  logger: Logger,
): Promise<SourceJob> {
  const { servers, user, staleThresholdMs, pruneIntervalMs, registerIntervalMs, pingIntervalMs, maxRegistrations } =
    config;
  const source = natsSource({
    servers,
    ...(user !== undefined && { user }),
    credentials: await natsCredentials(config, credentials),
    nodeId: `cf-mesh-${randomUUID()}`,
    hosts: ownAddresses(),
    staleThresholdMs,
    pruneIntervalMs,
    registerIntervalMs,
    pingIntervalMs,
    maxRegistrations,
    readStored: () => log.read(KEY_SPACES.natsRegistrations),
    logger,
  });
  return startSource(source, KEY_SPACES.natsRegistrations, writers);
}

function natsCredentials(config: NatsConfig, credentials: Credentials): Promise<() => NatsCredentials> {
  const { caFile, certificateFile, keyFile, passwordFile, tokenFile } = config;
  return credentials.follow({
    section: "nats",
    files: { caFile, certificateFile, keyFile, passwordFile, tokenFile },
    make({ caFile: ca, certificateFile: certificate, keyFile: key, passwordFile: fromFile, tokenFile: token }) {
      const password = config.password ?? fromFile;
      const tls = {
        ...(ca !== undefined && { ca }),
        ...(certificate !== undefined && { certificate }),
        ...(key !== undefined && { key }),
      };
      return {
        ...(Object.keys(tls).length > 0 && { tls }),
        ...(password !== undefined && { password }),
        ...(token !== undefined && { token }),
      };
    },
  });
}

/** IPv4 addresses of this machine that others reach. */
function ownAddresses(): string[] {
  return Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter(({ family, internal }) => family === "IPv4" && !internal)
    .map(({ address }) => address);
}
