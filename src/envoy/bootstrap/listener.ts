/** Where requests come in. */
import { connectionManager } from "./connection-manager.js";
import { type } from "./json.js";
import type { BootstrapOptions } from "./options.js";

export function listener(options: BootstrapOptions) {
  return {
    name: "http",
    address: { socket_address: { address: options.listenAddress, port_value: options.listenPort } },
    // A second Envoy on a taken port must fail, not share its connections.
    enable_reuse_port: false,
    filter_chains: [
      {
        filters: [
          {
            name: "envoy.filters.network.http_connection_manager",
            typed_config: {
              "@type": type("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
              ...connectionManager(options),
            },
          },
        ],
      },
    ],
  };
}
