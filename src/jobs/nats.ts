/** Registrations from NATS into the log. */
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import type { NatsConfig } from "../config/config.js";
import { KEY_SPACES } from "../entries/keys.js";
import type { Logger } from "../lib/logger.js";
import type { MeshLog } from "../log/log.js";
import { natsSource } from "../sources/nats/nats-source.js";
import type { JobWriters } from "./open-log.js";
import { type SourceJob, startSource } from "./source-job.js";

export async function startNats(
  config: NatsConfig,
  log: MeshLog,
  writers: JobWriters,
  logger: Logger,
): Promise<SourceJob> {
  const { servers, user, staleThresholdMs, pruneIntervalMs, registerIntervalMs, pingIntervalMs, maxRegistrations } =
    config;
  const [ca, certificate, key] = await Promise.all([config.caFile, config.certificateFile, config.keyFile].map(read));
  const password = config.password ?? (await read(config.passwordFile))?.trim();
  const token = (await read(config.tokenFile))?.trim();
  const tls = {
    ...(ca !== undefined && { ca }),
    ...(certificate !== undefined && { certificate }),
    ...(key !== undefined && { key }),
  };
  const source = natsSource({
    servers,
    ...(Object.keys(tls).length > 0 && { tls }),
    ...(user !== undefined && { user }),
    ...(password !== undefined && { password }),
    ...(token !== undefined && { token }),
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

async function read(file: string | undefined): Promise<string | undefined> {
  return file === undefined ? undefined : readFile(file, "utf8");
}

/** IPv4 addresses of this machine that others reach. */
function ownAddresses(): string[] {
  return Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter(({ family, internal }) => family === "IPv4" && !internal)
    .map(({ address }) => address);
}
