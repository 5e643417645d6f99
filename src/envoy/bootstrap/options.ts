/** What the agent tells Envoy's bootstrap. */
import type { InstanceFilters } from "./instance-filters.js";
import type { AccessLogOptions } from "./access-log.js";
import type { SearchFilter } from "./search-filters.js";
import type { Secret } from "./secrets.js";

export interface BootstrapOptions {
  readonly nodeId: string;
  readonly listenAddress: string;
  readonly listenPort: number;
  /** Unix socket of Envoy's admin API; Envoy makes it with mode 0600. */
  readonly adminSocketPath: string;
  /** Unix socket of the agent's xDS server. */
  readonly xdsSocketPath: string;
  /** The request header that carries the scope's key within Envoy. */
  readonly scopeHeader: string;
  /** In the order in which they run; the second place is kept for fetching what the exact host lacks. */
  readonly search: readonly SearchFilter[];
  /** How requests reach a certain instance. */
  readonly instances: InstanceFilters;
  /** What clusters name for TLS to apps. Envoy reads the files when it starts. */
  readonly secrets: readonly Secret[];
  /** Left out: Envoy tells nobody of the requests. */
  readonly accessLog?: AccessLogOptions;
}
