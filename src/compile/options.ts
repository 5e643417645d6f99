/** What an operator says of all routes alike. */
import type { AppTls } from "./app-tls.js";

export interface CompileOptions {
  /** undefined for a router that can't check the certificates of apps. */
  readonly appTls: AppTls | undefined;
  /** How often a request is tried where its route says nothing else; at least 1. */
  readonly maxAttempts: number;
  /** Connections to one endpoint; 0 for any number. */
  readonly maxConnectionsPerBackend: number;
  /** Requests go to endpoints of this zone while there are any; undefined: to those of all. */
  readonly preferredZone: string | undefined;
}
