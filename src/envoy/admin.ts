import { request } from "node:http";
import { text } from "node:stream/consumers";
import { asError, MeshError } from "../lib/errors.js";

export interface ClusterHost {
  readonly cluster: string;
  readonly address: string;
  readonly port: number;
  /** Counters and gauges by name: rq_total, rq_active, rq_error, cx_total, cx_active, … */
  readonly stats: ReadonlyMap<string, number>;
}

export interface MemoryUse {
  /** What Envoy uses of its heap. */
  readonly allocatedBytes: number;
  readonly heapBytes: number;
  /** What the system gave for it. */
  readonly physicalBytes: number;
}

/** PRE_INITIALIZING and INITIALIZING wait for configuration; DRAINING follows a failed health check. */
export type ServerState = "LIVE" | "DRAINING" | "PRE_INITIALIZING" | "INITIALIZING";

export interface ServerInfo {
  readonly state: ServerState;
  /** As in "1.40.0". */
  readonly version: string;
  readonly uptimeSeconds: number;
}

/** Requests of all clients, over all connection managers but the admin API's. */
export interface RequestCounts {
  readonly active: number;
  readonly total: number;
}

/**
 * Envoy's admin API. Each call throws MESH_ENVOY_FAILED when Envoy does not answer in time, or refuses.
 *
 * Source  https://www.envoyproxy.io/docs/envoy/v1.40.0/operations/admin
 */
export interface EnvoyAdmin {
  /** Body of a path with its query, as in "/config_dump?resource=…". */
  get(path: string): Promise<string>;
  post(path: string): Promise<string>;
  ready(): Promise<ServerState>;
  /** One per endpoint of the clusters whose names match (RE2, anywhere in the name; left out: of all clusters). */
  clusters(nameFilter?: string): Promise<readonly ClusterHost[]>;
  memory(): Promise<MemoryUse>;
  serverInfo(): Promise<ServerInfo>;
  /** Counters and gauges by name, of those that match (RE2, anywhere in the name). */
  stats(filter: string): Promise<ReadonlyMap<string, number>>;
  requests(): Promise<RequestCounts>;
  /** Closes the listeners: no new connections. Those that are open are served, and closed after their next answer. */
  drainListeners(): Promise<void>;
  /** Lets load balancers see that Envoy goes: its health check answers 503, requests are served as before. */
  failHealthcheck(): Promise<void>;
}

const TIMEOUT_MS = 5_000;

export function envoyAdmin(socketPath: string, timeoutMs = TIMEOUT_MS): EnvoyAdmin {
  const call = async (method: "GET" | "POST", path: string): Promise<Answer> => {
    try {
      return await send(socketPath, method, path, timeoutMs);
    } catch (error) {
      throw new MeshError(
        "MESH_ENVOY_FAILED",
        `Envoy's admin API did not answer ${method} ${path} (${asError(error).message})`,
        `see envoy.log beside ${socketPath}; an Envoy that is busy or ended is followed by its keeper`,
        { cause: error },
      );
    }
  };
  const accepted = async (method: "GET" | "POST", path: string): Promise<string> => {
    const { status, body } = await call(method, path);
    if (status === 200) return body;
    throw new MeshError(
      "MESH_ENVOY_FAILED",
      `Envoy's admin API refused ${method} ${path}: status ${status}, ${body.slice(0, 200).trim()}`,
      "check that the Envoy in use is of a supported version",
    );
  };
  const stats = async (filter: string) =>
    parseStats(await accepted("GET", `/stats?format=json&filter=${encodeURIComponent(filter)}`));

  return {
    get: (path) => accepted("GET", path),
    post: (path) => accepted("POST", path),
    // 503 is an answer here.
    ready: async () => (await call("GET", "/ready")).body.trim() as ServerState,
    clusters: async (nameFilter) => {
      const filter = nameFilter === undefined ? "" : `&filter=${encodeURIComponent(nameFilter)}`;
      return parseClusters(await accepted("GET", `/clusters?format=json${filter}`));
    },
    memory: async () => parseMemory(await accepted("GET", "/memory")),
    serverInfo: async () => parseServerInfo(await accepted("GET", "/server_info")),
    stats,
    requests: async () => countRequests(await stats("^http\\..*\\.downstream_rq_(active|total)$")),
    drainListeners: async () => {
      await accepted("POST", "/drain_listeners");
    },
    failHealthcheck: async () => {
      await accepted("POST", "/healthcheck/fail");
    },
  };
}

interface Answer {
  readonly status: number;
  readonly body: string;
}

function send(socketPath: string, method: "GET" | "POST", path: string, timeoutMs: number): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, method, path, agent: false, signal: AbortSignal.timeout(timeoutMs) });
    call.once("response", (response) => {
      text(response).then((body) => resolve({ status: response.statusCode ?? 0, body }), reject);
    });
    call.once("error", reject);
    call.end();
  });
}

/** Protobuf's JSON leaves zeros out, and writes 64-bit numbers as text. */
interface ClustersJson {
  readonly cluster_statuses?: readonly {
    readonly name: string;
    readonly host_statuses?: readonly {
      readonly address?: { readonly socket_address?: { readonly address: string; readonly port_value?: number } };
      readonly stats?: readonly { readonly name: string; readonly value?: string }[];
    }[];
  }[];
}

function parseClusters(body: string): readonly ClusterHost[] {
  const { cluster_statuses: clusters = [] } = JSON.parse(body) as ClustersJson;
  return clusters.flatMap(({ name, host_statuses: hosts = [] }) =>
    hosts.flatMap(({ address, stats = [] }) => {
      const socket = address?.socket_address;
      // Unix sockets lead to the mesh itself.
      if (!socket) return [];
      const counts = new Map(stats.map((stat) => [stat.name, Number(stat.value ?? 0)]));
      return [{ cluster: name, address: socket.address, port: socket.port_value ?? 0, stats: counts }];
    }),
  );
}

function parseMemory(body: string): MemoryUse {
  const memory = JSON.parse(body) as Readonly<Record<string, string | undefined>>;
  return {
    allocatedBytes: Number(memory["allocated"] ?? 0),
    heapBytes: Number(memory["heap_size"] ?? 0),
    physicalBytes: Number(memory["total_physical_bytes"] ?? 0),
  };
}

function parseServerInfo(body: string): ServerInfo {
  const info = JSON.parse(body) as { version: string; state: ServerState; uptime_current_epoch: string };
  return {
    state: info.state,
    version: info.version.split("/")[1] ?? info.version,
    uptimeSeconds: Number.parseInt(info.uptime_current_epoch, 10),
  };
}

function parseStats(body: string): ReadonlyMap<string, number> {
  const { stats = [] } = JSON.parse(body) as { stats?: readonly { name?: string; value?: number | string }[] };
  // The element without a name holds the histograms; text readouts have no number.
  return new Map(
    stats.flatMap(({ name, value }) => (name !== undefined && typeof value === "number" ? [[name, value]] : [])),
  );
}

function countRequests(stats: ReadonlyMap<string, number>): RequestCounts {
  const sum = (ending: string) =>
    [...stats].reduce(
      (total, [name, value]) => (name.endsWith(ending) && !name.startsWith("http.admin.") ? total + value : total),
      0,
    );
  return { active: sum(".downstream_rq_active"), total: sum(".downstream_rq_total") };
}
