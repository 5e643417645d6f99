/** What the mesh is compared with: Envoy with one static route to one app, and nothing else. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Child, Children } from "./child.js";
import { untilServed } from "./connection.js";
import { freePort } from "./free-port.js";

const START_TIMEOUT_MS = 30_000;

export interface BareEnvoy extends Child {
  readonly port: number;
}

export async function startBareEnvoy(
  children: Children,
  envoyPath: string,
  directory: string,
  appPort: number,
  signal: AbortSignal,
): Promise<BareEnvoy> {
  await mkdir(directory, { mode: 0o700 });
  const port = await freePort();
  const file = join(directory, "envoy.json");
  await writeFile(file, JSON.stringify(bareBootstrap(port, appPort)));
  const child = children.start(
    "the bare Envoy",
    envoyPath,
    ["--config-path", file, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"],
    directory,
  );
  const starting = AbortSignal.any([signal, child.ended, AbortSignal.timeout(START_TIMEOUT_MS)]);
  try {
    await untilServed(port, "app.example.com", starting);
    return { ...child, port };
  } catch (error) {
    await child.stop();
    throw starting.aborted ? starting.reason : error;
  }
}

const type = (name: string) => `type.googleapis.com/envoy.extensions.${name}`;
const socketAddress = (port: number) => ({ socket_address: { address: "127.0.0.1", port_value: port } });

function bareBootstrap(port: number, appPort: number) {
  const connectionManager = {
    "@type": type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
    stat_prefix: "bare",
    // The mesh makes no request ids either: what it saves by that must not count for it.
    generate_request_id: false,
    route_config: { virtual_hosts: [{ name: "all", domains: ["*"], routes: [staticRoute()] }] },
    http_filters: [{ name: "router", typed_config: { "@type": type("filters.http.router.v3.Router") } }],
  };
  return {
    static_resources: {
      listeners: [
        {
          name: "http",
          address: socketAddress(port),
          filter_chains: [{ filters: [{ name: "http", typed_config: connectionManager }] }],
        },
      ],
      clusters: [
        {
          name: "app",
          type: "STATIC",
          load_assignment: {
            cluster_name: "app",
            endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(appPort) } }] }],
          },
        },
      ],
    },
  };
}

function staticRoute() {
  return { match: { prefix: "/" }, route: { cluster: "app" } };
}
