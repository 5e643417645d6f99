/** The gRPC edge of the xDS server: streams in and out, and the timer that paces them. */
import { rm } from "node:fs/promises";
import { fromBinary } from "@bufbuild/protobuf";
import { Server, type ServerDuplexStream } from "@grpc/grpc-js";
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
} from "../gen/envoy/service/discovery/v3/discovery_pb.js";
import { systemClock, type Clock } from "../lib/clock.js";
import { asError } from "../lib/errors.js";
import { listenOnSocket } from "../lib/listen-on-socket.js";
import type { Logger } from "../lib/logger.js";
import { DeltaStream, type Refusal, type TypeStatus } from "./delta-stream.js";
import { type DeltaResponse, encodeResponse } from "./encode-response.js";
import type { ResourceType } from "./resources.js";

const DELTA_ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/** How long a stream may take to end by itself when the server closes. */
const CLOSE_GRACE_MS = 500;

export interface XdsOptions {
  /** Path of the unix socket; made with mode 0600. One that a dead server left is replaced. */
  readonly socketPath: string;
  /** In the order in which changes are sent: first what others refer to. */
  readonly types: readonly ResourceType[];
  readonly logger: Logger;
  readonly clock?: Clock;
}

export interface ProxyStatus {
  /** The node id that the proxy gave. */
  readonly node: string;
  /** Unix time in milliseconds. */
  readonly connectedMs: number;
  readonly types: readonly TypeStatus[];
  readonly refusals: readonly Refusal[];
}

export interface XdsServer {
  /** Sends what these groups' change means for each proxy. */
  changed(groups: ReadonlySet<string>): void;
  /** Names of an on-demand type that no longer exist, and that a proxy holds. */
  vanished(typeUrl: string): readonly string[];
  /** Makes proxies drop what vanished. */
  retire(typeUrl: string, names: readonly string[]): void;
  /** The connected proxies, in the order in which they came. */
  proxies(): readonly ProxyStatus[];
  close(): Promise<void>;
}

type Stream = ServerDuplexStream<DeltaDiscoveryRequest, DeltaResponse>;

interface Connection {
  node: string;
  readonly connectedMs: number;
  readonly stream: DeltaStream;
  timer: NodeJS.Timeout | undefined;
}

/** Serves delta ADS on a unix socket. Throws when the socket can't be made. */
export async function serveXds({ socketPath, types, logger, clock = systemClock }: XdsOptions): Promise<XdsServer> {
  const connections = new Set<Connection>();
  const server = new Server({
    // A proxy that comes back names all that it holds: tens of megabytes at a million scopes.
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
  });

  function flush(connection: Connection): void {
    clearTimeout(connection.timer);
    const nextMs = connection.stream.flush(clock.now());
    connection.timer = nextMs === undefined ? undefined : setTimeout(() => flush(connection), nextMs - clock.now());
  }

  function accept(call: Stream): void {
    const connection: Connection = {
      node: "",
      connectedMs: clock.now(),
      stream: new DeltaStream(types, {
        send: (response) => call.write(response),
        refused: (refusal) => {
          const { typeUrl, name, version, reason } = refusal;
          logger.error(
            { node: connection.node, typeUrl, resource: name, version, reason },
            "the proxy refused a resource; it goes on with the version before",
          );
        },
      }),
      timer: undefined,
    };
    connections.add(connection);
    const end = () => {
      clearTimeout(connection.timer);
      if (connections.delete(connection)) logger.info({ node: connection.node }, "proxy disconnected");
    };
    call.on("data", (request: DeltaDiscoveryRequest) => {
      if (connection.node === "" && request.node) {
        connection.node = request.node.id;
        logger.info({ node: connection.node }, "proxy connected");
      }
      if (!connection.stream.receive(request, clock.now())) {
        logger.warn({ node: connection.node, typeUrl: request.typeUrl }, "proxy asked for a type that is not served");
        return;
      }
      flush(connection);
    });
    call.on("end", () => {
      end();
      call.end();
    });
    call.on("cancelled", end);
    call.on("error", (error) => {
      logger.debug({ node: connection.node, error: asError(error).message }, "proxy stream failed");
      end();
    });
  }

  server.register<DeltaDiscoveryRequest, DeltaResponse>(
    DELTA_ADS,
    (call: Stream) => accept(call),
    encodeResponse,
    (bytes) => fromBinary(DeltaDiscoveryRequestSchema, bytes),
    "bidi",
  );
  await listenOnSocket(server, socketPath);

  return {
    changed(groups) {
      for (const connection of connections) {
        connection.stream.changed(groups);
        flush(connection);
      }
    },
    vanished: (typeUrl) => [...new Set([...connections].flatMap(({ stream }) => stream.vanished(typeUrl)))],
    retire(typeUrl, names) {
      for (const { stream } of connections) stream.retire(typeUrl, names, clock.now());
    },
    proxies: () =>
      [...connections].map(({ node, connectedMs, stream }) => ({
        node,
        connectedMs,
        types: stream.status(),
        refusals: stream.refusals(),
      })),
    async close() {
      for (const { timer } of connections) clearTimeout(timer);
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
      await rm(socketPath, { force: true });
    },
  };
}
