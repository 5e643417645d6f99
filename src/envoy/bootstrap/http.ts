/** How the router speaks HTTP with its clients. Times in milliseconds. */
export interface HttpOptions {
  readonly idleTimeoutMs: number;
  /** 0: for ever. */
  readonly requestHeadersTimeoutMs: number;
  readonly maxRequestHeaderKb: number;
  readonly maxRequestHeaders: number;
  readonly upgradeTypes: readonly string[];
}
