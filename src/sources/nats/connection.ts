/** Connections to NATS: one server at a time, each attempt bounded. */
import { lookup } from "node:dns/promises";
import { once } from "node:events";
import { createConnection, isIP } from "node:net";
import { checkServerIdentity, createSecureContext } from "node:tls";
import { connect, type NatsConnection, type NodeConnectionOptions } from "@nats-io/transport-node";
import { asError, MeshError } from "../../lib/errors.js";
import { natsFault, noGreeting } from "./faults.js";

/** How long a server may take to be dialled, to greet, and to let us in; each. */
const ATTEMPT_TIMEOUT_MS = 5_000;
/** Two pings without an answer, and the connection counts as lost. */
const MAX_UNANSWERED_PINGS = 2;
const DEFAULT_PORT = 4222;
const GREETING = "INFO ";

/** What may be replaced while a source runs. */
export interface NatsCredentials {
  /** PEM texts: the CA that issued the servers' certificates (left out: those of the system); our certificate and its key. */
  readonly tls?: { readonly ca?: string; readonly certificate?: string; readonly key?: string };
  readonly password?: string;
  readonly token?: string;
}

export interface NatsAccess {
  /** nats://host:port, or tls://host:port where nothing but TLS will do. */
  readonly servers: readonly string[];
  readonly user?: string;
  /** Asked at each connection, so that new ones need no restart; none when left out. */
  readonly credentials?: () => NatsCredentials;
  /** Shown in the server's monitoring. */
  readonly clientName: string;
  readonly pingIntervalMs: number;
}

export interface NatsEndpoint {
  /** For logs: it holds no secret. */
  readonly url: string;
  readonly host: string;
  readonly port: number;
  /** What the library is told, but for the address; by the credentials as they are now. */
  readonly options: () => NodeConnectionOptions;
}

/** Throws MESH_CONFIG_INVALID for what can never work. */
export function natsEndpoints(access: NatsAccess): readonly NatsEndpoint[] {
  const credentials = access.credentials ?? ((): NatsCredentials => ({}));
  try {
    createSecureContext(materialOf(credentials()));
  } catch (thrown) {
    throw new MeshError(
      "MESH_CONFIG_INVALID",
      `the certificates for NATS can't be used: ${asError(thrown).message}`,
      "check that nats.caFile, certificateFile and keyFile are PEM files, and that the key belongs to the certificate",
      { cause: thrown },
    );
  }
  return access.servers.map((server) => {
    const url = new URL(server);
    const host = url.hostname.replace(/^\[|\]$/g, "");
    // The library knows the address alone, and would compare the certificate with that, or with nothing.
    const identity = {
      ...(isIP(host) === 0 && { servername: host }),
      checkServerIdentity: (_: string, peer: Parameters<typeof checkServerIdentity>[1]) =>
        checkServerIdentity(host, peer),
    };
    return {
      url: `${url.protocol}//${url.host}`,
      host,
      port: url.port === "" ? DEFAULT_PORT : Number(url.port),
      options() {
        const now = credentials();
        const { tls, password, token } = now;
        return {
          name: access.clientName,
          ...((tls !== undefined || url.protocol === "tls:") && { tls: { ...materialOf(now), ...identity } }),
          ...(access.user !== undefined && { user: access.user, pass: password ?? "" }),
          ...(token !== undefined && { token }),
          pingInterval: access.pingIntervalMs,
          maxPingOut: MAX_UNANSWERED_PINGS,
          timeout: ATTEMPT_TIMEOUT_MS,
          // The source connects again itself: it chooses the server, and tells of each failure.
          reconnect: false,
          ignoreClusterUpdates: true,
          resolve: false,
          noAsyncTraces: true,
        };
      },
    };
  });
}

function materialOf({ tls: { ca, certificate, key } = {} }: NatsCredentials) {
  return {
    ...(ca !== undefined && { ca }),
    ...(certificate !== undefined && { cert: certificate }),
    ...(key !== undefined && { key }),
  };
}

/**
 * Connects to one of a server's addresses, chosen at random.
 *
 * Throws   MESH_SOURCE_UNREACHABLE, MESH_SOURCE_REFUSED.
 */
export async function connectNats(endpoint: NatsEndpoint, signal: AbortSignal): Promise<NatsConnection> {
  try {
    const addresses = await lookup(endpoint.host, { all: true });
    const chosen = addresses[Math.floor(Math.random() * addresses.length)]?.address ?? endpoint.host;
    await awaitGreeting(endpoint, chosen, signal);
    const servers = isIP(chosen) === 6 ? `[${chosen}]:${endpoint.port}` : `${chosen}:${endpoint.port}`;
    return await connect({ ...endpoint.options(), servers });
  } catch (thrown) {
    throw natsFault(endpoint.url, "connecting", thrown);
  }
}

/**
 * The library can't be told to give an attempt up, and keeps the socket of a server that takes connections and says
 * nothing. So it is sent to servers only that were heard a moment before.
 */
async function awaitGreeting({ url, port }: NatsEndpoint, host: string, signal: AbortSignal): Promise<void> {
  const timeout = AbortSignal.timeout(ATTEMPT_TIMEOUT_MS);
  const socket = createConnection({ host, port });
  // Whatever happens after the greeting is of no interest.
  socket.on("error", () => undefined);
  const either = AbortSignal.any([signal, timeout]);
  try {
    const ended = once(socket, "close", { signal: either }).then(() => Promise.reject(noGreeting(url, "it hung up")));
    ended.catch(() => undefined);
    const [bytes] = (await Promise.race([once(socket, "data", { signal: either }), ended])) as [Buffer];
    if (!bytes.toString("latin1").startsWith(GREETING)) throw noGreeting(url, "what it says is not NATS");
  } catch (thrown) {
    if (!timeout.aborted || signal.aborted) throw thrown;
    const waited = `within ${ATTEMPT_TIMEOUT_MS / 1_000} s`;
    throw socket.connecting ? new Error(`no answer ${waited}`) : noGreeting(url, `no word ${waited}`);
  } finally {
    socket.destroy();
  }
}
