/** What an operator says of all routes alike. */
import type { AppTls } from "./app-tls.js";

export interface CompileOptions {
  /** undefined for a router that can't check the certificates of apps. */
  readonly appTls: AppTls | undefined;
  /** How often a request is tried where its route says nothing else; at least 1. */
  readonly maxAttempts: number;
  /** Connections to one endpoint; 0 for any number. */
  readonly maxConnectionsPerBackend: number;
  /** Longest time a request may take where its route says nothing else, milliseconds. Upgraded connections have no limit. */
  readonly requestTimeoutMs: number;
  readonly backends: BackendConnections;
  /** Requests go to endpoints of this zone while there are any; undefined: to those of all. */
  readonly preferredZone: string | undefined;
  /** Hosts and wildcards of hosts that are reached by mutual TLS alone, in lower case. */
  readonly clientDomains: readonly string[];
  /** The cluster that takes requests to the route service of their route; undefined: the router has none for that. */
  readonly routeServiceCluster: string | undefined;
}

/** Connections to apps. */
export interface BackendConnections {
  /** They are used for the next request, too. */
  readonly keepAlive: boolean;
  /** How long one is kept without a request, milliseconds. */
  readonly idleTimeoutMs: number;
  /** How long one may take to be made, TLS included, milliseconds. */
  readonly connectTimeoutMs: number;
  /** Of an answer, in all. */
  readonly maxResponseHeaderKb: number;
  readonly maxResponseHeaders: number;
}
