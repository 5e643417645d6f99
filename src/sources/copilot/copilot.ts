/**
 * The copilot API: clients push routes, mappings and associations over gRPC, and DNS asks for virtual addresses. All of
 * it is kept in the mesh log, so that a restart loses nothing.
 */
import { isIPv6 } from "node:net";
import { Server, ServerCredentials, type ServerOptions } from "@grpc/grpc-js";
import type { KeySpaceWriter } from "../../log/key-space-writer.js";
import type { MeshLog } from "../../log/log.js";
import { type Clock, systemClock } from "../../lib/clock.js";
import { asError, MeshError } from "../../lib/errors.js";
import type { Logger } from "../../lib/logger.js";
import type { SourceStatus } from "../source.js";
import { type CopilotCertificates, mutualTls } from "./credentials.js";
import { serveCloudController, serveVipResolver } from "./services.js";
import { openStore } from "./store.js";
import { vipRange } from "./vips.js";

export interface Listen {
  readonly address: string;
  /** 0 for a free one. */
  readonly port: number;
}

export interface CopilotOptions {
  /** Where clients push: gRPC over mTLS. */
  readonly listen: Listen;
  /** Where DNS asks: gRPC in plain text, as copilot has it, for anyone who reaches it. */
  readonly vipListen: Listen;
  readonly certificates: CopilotCertificates;
  /** IPv4 network of the addresses for internal routes whose client names none. */
  readonly vipCidr: string;
  readonly log: Pick<MeshLog, "read">;
  /** Writers of KEY_SPACES.copilotRoutes and copilotAssociations: of this server alone. */
  readonly routes: KeySpaceWriter;
  readonly associations: KeySpaceWriter;
  /** Bytes of all BulkSync calls under way, together; 1 GiB when left out. */
  readonly maxBulkBytes?: number;
  readonly logger: Logger;
  readonly clock?: Pick<Clock, "now">;
}

export interface CopilotServer {
  readonly port: number;
  readonly vipPort: number;
  /** `lastSyncMs` is the last BulkSync of this run. */
  readonly status: SourceStatus;
  /** For connections from now on; those that are open stay. They must be known to fit. */
  useCertificates(certificates: CopilotCertificates): void;
  /** Calls under way are answered, and what they change is written. */
  close(): Promise<void>;
}

const GIBIBYTE = 2 ** 30;
/** What a chunk's message adds to its bytes. */
const CHUNK_OVERHEAD = 64;

/** How long calls under way may take when the server closes. */
const CLOSE_GRACE_MS = 5_000;

/** A client that vanished is known to be gone after their sum. */
const KEEPALIVE: ServerOptions = { "grpc.keepalive_time_ms": 20_000, "grpc.keepalive_timeout_ms": 10_000 };

/** Throws MESH_CONFIG_INVALID for certificates that can't be used, MESH_PORT_TAKEN, and what the log throws. */
export async function serveCopilot(options: CopilotOptions): Promise<CopilotServer> {
  const { certificates, listen, vipListen, vipCidr, maxBulkBytes = GIBIBYTE, logger, clock = systemClock } = options;
  const credentials = mutualTls(certificates);
  const store = await openStore({ ...options, vipRange: vipRange(vipCidr) });
  let lastSyncMs: number | undefined;

  const pushed = new Server({ ...KEEPALIVE, "grpc.max_receive_message_length": maxBulkBytes + CHUNK_OVERHEAD });
  serveCloudController(pushed, { store, maxBulkBytes, onBulk: () => (lastSyncMs = clock.now()), logger });
  const resolver = new Server(KEEPALIVE);
  serveVipResolver(resolver, { store, logger });

  async function close(): Promise<void> {
    await Promise.all([end(pushed), end(resolver)]);
    await store.idle();
  }
  try {
    const port = await bind(pushed, listen, "port", credentials);
    const vipPort = await bind(resolver, vipListen, "vipPort", ServerCredentials.createInsecure());
    logger.info({ port, vipPort, routeCount: store.picture.routes.size }, "the copilot API is served");
    return {
      port,
      vipPort,
      get status(): SourceStatus {
        const lastError = store.lastFault?.message;
        return { state: lastError === undefined ? "following" : "retrying", lastSyncMs, lastError };
      },
      useCertificates(replacement) {
        credentials.replace(replacement);
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Returns the port. */
async function bind(
  server: Server,
  { address, port }: Listen,
  setting: string,
  credentials: ServerCredentials,
): Promise<number> {
  const place = `${isIPv6(address) ? `[${address}]` : address}:${port}`;
  return new Promise((resolve, reject) => {
    server.bindAsync(place, credentials, (error, bound) => {
      if (error) reject(notBound(place, setting, error));
      else resolve(bound);
    });
  });
}

function notBound(place: string, setting: string, error: unknown): MeshError {
  const cause = asError(error);
  return new MeshError(
    "MESH_PORT_TAKEN",
    `the copilot API can't listen on ${place} (${cause.message}); nothing was started`,
    `stop what listens there, or set copilot.${setting} to another port`,
    { cause },
  );
}

async function end(server: Server): Promise<void> {
  await new Promise<void>((resolve) => {
    const force = setTimeout(() => {
      server.forceShutdown();
      resolve();
    }, CLOSE_GRACE_MS);
    server.tryShutdown(() => {
      clearTimeout(force);
      resolve();
    });
  });
}
