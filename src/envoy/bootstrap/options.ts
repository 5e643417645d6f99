/** What the agent tells Envoy's bootstrap. */
import type { DownstreamTls } from "./downstream-tls.js";
import type { HttpOptions } from "./http.js";
import type { HeaderOptions } from "./headers.js";
import type { InstanceFilters } from "./instance-filters.js";
import type { AccessLogOptions } from "./access-log.js";
import type { LocalReplyOptions } from "./local-replies.js";
import type { RouteServiceOptions } from "./route-services.js";
import type { SearchFilter } from "./search-filters.js";
import type { Spans, TraceHeaders } from "./tracing.js";

export interface BootstrapOptions {
  readonly nodeId: string;
  readonly listenAddress: string;
  /** undefined: HTTPS alone. */
  readonly listenPort: number | undefined;
  /** undefined: no HTTPS. */
  readonly tls: DownstreamTls | undefined;
  /** Connections may begin with a PROXY header. */
  readonly takesProxyProtocol: boolean;
  /** Unix socket of Envoy's admin API; Envoy makes it with mode 0600. */
  readonly adminSocketPath: string;
  /** Unix socket of the agent's xDS server. */
  readonly xdsSocketPath: string;
  /** What the clusters of routes are called in statistics, all alike. */
  readonly clusterStatName: string;
  readonly http: HttpOptions;
  readonly headers: HeaderOptions;
  readonly localReplies: LocalReplyOptions;
  readonly traceHeaders: TraceHeaders;
  /** undefined: the router makes none. */
  readonly spans: Spans | undefined;
  /** Finds the route of requests that have none. */
  readonly search: SearchFilter;
  /** How requests reach a certain instance. */
  readonly instances: InstanceFilters;
  /** Left out: Envoy tells nobody of the requests. */
  readonly accessLog?: AccessLogOptions;
  /** undefined: requests of routes with a route service are refused. */
  readonly routeServices: RouteServiceOptions | undefined;
}
