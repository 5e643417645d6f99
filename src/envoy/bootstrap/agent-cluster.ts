/** How Envoy reaches the agent. */
import { type, XDS_CLUSTER } from "./json.js";

export function xdsCluster(socketPath: string) {
  return {
    name: XDS_CLUSTER,
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
      cluster_name: XDS_CLUSTER,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path: socketPath } } } }] }],
    },
  };
}
