/** The mesh log that the configuration names, and the writers of its key spaces. */
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import type { JetStreamConfig, LogConfig } from "../config/config.js";
import type { Logger } from "../lib/logger.js";
import { openEmbeddedLog } from "../log/embedded.js";
import { openJetStreamLog } from "../log/jetstream.js";
import { openKeySpaceWriter } from "../log/key-space-writer.js";
import { type LeasedWriters, type OnStandby, openLeasedWriters } from "../log/leased-writers.js";
import type { MeshLog } from "../log/log.js";
import type { Credentials } from "./credentials.js";

export interface OpenLog extends Pick<MeshLog, "close"> {
  readonly log: MeshLog;
  /** Other machines have it too: their processes may write the same key spaces, and a router keeps a mirror. */
  readonly isShared: boolean;
  /** @param lease the jobs that name the same are each other's standbys. */
  readonly openWriters: (
    lease: string,
    keySpaces: Readonly<Record<string, OnStandby>>,
    logger: Logger,
  ) => Promise<JobWriters>;
}

export type JobWriters = Pick<LeasedWriters, "close" | "role" | "whenRole" | "writer">;

export async function openLog(
  { directory, jetstream }: LogConfig,
  credentials: Credentials,
  logger: Logger,
): Promise<OpenLog> {
  if (directory !== undefined) {
    const log = await openEmbeddedLog({ directory, logger });
    return {
      log,
      isShared: false,
      openWriters: (_lease, keySpaces) => openSoleWriters(log, Object.keys(keySpaces)),
      close: () => log.close(),
    };
  }
  if (!jetstream) throw new Error("the configuration was checked to name a log");
  const log = await openJetStreamLog({ ...(await jetStreamOptions(jetstream, credentials)), logger });
  const holder = `${hostname()}-${process.pid}-${randomUUID().slice(0, 8)}`;
  return {
    log,
    isShared: true,
    openWriters: (lease, keySpaces, jobLogger) =>
      openLeasedWriters(log, keySpaces, { lease, holder, logger: jobLogger }),
    close: () => log.close(),
  };
}

/** For a log that one machine has to itself: nobody else writes, so nobody has to stand by. */
async function openSoleWriters(log: MeshLog, keySpaces: readonly string[]): Promise<JobWriters> {
  const writers = new Map(
    await Promise.all(keySpaces.map(async (keySpace) => [keySpace, await openKeySpaceWriter(log, keySpace)] as const)),
  );
  return {
    role: "leader",
    whenRole: (role, signal) =>
      role === "leader"
        ? Promise.resolve()
        : new Promise((_resolve, reject) => {
            signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
          }),
    writer(keySpace) {
      const writer = writers.get(keySpace);
      if (!writer) throw new Error(`no writer of ${keySpace} here`);
      return writer;
    },
    close: () => Promise.resolve(),
  };
}

async function jetStreamOptions(config: JetStreamConfig, credentials: Credentials) {
  const { servers, stream, replicas, user, deleteMarkerTtlMs, maxBytes } = config;
  const { caFile, certificateFile, keyFile, passwordFile, tokenFile } = config;
  return {
    ...{ servers, stream, replicas, deleteMarkerTtlMs, maxBytes, user },
    credentials: await credentials.follow({
      section: "log.jetstream",
      files: { caFile, certificateFile, keyFile, passwordFile, tokenFile },
      make({ caFile: ca, certificateFile: cert, keyFile: key, passwordFile: password, tokenFile: token }) {
        const tls = {
          ...(ca !== undefined && { ca }),
          ...(cert !== undefined && { cert }),
          ...(key !== undefined && { key }),
        };
        return {
          ...(Object.keys(tls).length > 0 && { tls }),
          ...(password !== undefined && { password }),
          ...(token !== undefined && { token }),
        };
      },
    }),
  };
}
