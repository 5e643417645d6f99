/** One of the router's own answers, as a mapper of Envoy's local replies needs it. */
import { type } from "./json.js";

export interface Reply {
  /** A filter as of access logs. */
  readonly when: object;
  readonly status: number;
  /** undefined: the usual one. */
  readonly statusText?: string;
  /** undefined: none. */
  readonly routerError: string | undefined;
  /** What follows the status in the body, as a format; undefined: nothing. */
  readonly message: string | undefined;
  /** undefined: nothing is said of it. */
  readonly cacheControl: string | undefined;
}

export const NEVER_CACHED = "no-cache, no-store";
export const CACHED_SHORTLY = "public,max-age=2";

export const flags = (...names: readonly string[]) => ({ response_flag_filter: { flags: names } });
/** Costs an answer next to nothing, where an expression takes 7,000 instructions. Envoy wants a runtime key, by which nobody sets it. */
export const hasStatus = (status: number) => ({
  status_code_filter: {
    comparison: { op: "EQ", value: { default_value: status, runtime_key: `cf-mesh.status.${status}` } },
  },
});
/** https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/advanced/attributes */
export const expression = (text: string) => ({
  extension_filter: {
    name: "cel",
    typed_config: { "@type": type("extensions.access_loggers.filters.cel.v3.ExpressionFilter"), expression: text },
  },
});
export const all = (...filters: readonly object[]) => ({ and_filter: { filters } });
export const any = (...filters: readonly object[]) => ({ or_filter: { filters } });

/** For `headers_to_add`. */
export function setHeader(key: string, value: string) {
  return { header: { key, value }, append_action: "OVERWRITE_IF_EXISTS_OR_ADD" };
}
