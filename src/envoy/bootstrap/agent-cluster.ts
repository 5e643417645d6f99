/** How Envoy reaches the agent. */
import { type, XDS_CLUSTER } from "./json.js";

export function xdsCluster(socketPath: string) {
  return http2Cluster(XDS_CLUSTER, socketPath);
}

/** A gRPC server on a unix socket. */
export function http2Cluster(name: string, socketPath: string) {
  return {
    name,
    type: "STATIC",
    connect_timeout: "1s",
    typed_extension_protocol_options: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": type("extensions.upstreams.http.v3.HttpProtocolOptions"),
        explicit_http_config: {
          http2_protocol_options: {
            initial_stream_window_size: 16 * 1024 * 1024,
            initial_connection_window_size: 16 * 1024 * 1024,
            // Notices an agent that hangs without closing its socket.
            connection_keepalive: { interval: "30s", timeout: "20s" },
          },
        },
      },
    },
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path: socketPath } } } }] }],
    },
  };
}
