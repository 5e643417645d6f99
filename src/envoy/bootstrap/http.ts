/** How the router speaks HTTP with its clients. Times in milliseconds. */
export interface HttpOptions {
  readonly idleTimeoutMs: number;
  /** 0: for ever. */
  readonly requestHeadersTimeoutMs: number;
  readonly maxRequestHeaderKb: number;
  readonly maxRequestHeaders: number;
  /** User-Agent of load balancers that ask the router itself how it is; undefined: none does. */
  readonly healthCheckUserAgent: string | undefined;
  readonly upgradeTypes: readonly string[];
}
