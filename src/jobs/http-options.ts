/** What the bootstrap is told of HTTP, from the configuration. */
import { DEFAULT_INSTANCE_INDEX } from "../compile/endpoint-labels.js";
import { CLUSTER_HEADER, IDENTITY_NAMESPACE, SCOPE_HEADER } from "../compile/names.js";
import type { HttpConfig } from "../config/router-http.js";
import type { ErrorPages } from "../envoy/bootstrap/error-pages.js";
import type { BootstrapOptions } from "../envoy/bootstrap/options.js";

type HttpParts = Pick<
  BootstrapOptions,
  "headers" | "http" | "localReplies" | "spans" | "takesProxyProtocol" | "traceHeaders"
>;

export function httpOptions(config: HttpConfig, errorPages: ErrorPages): HttpParts {
  const { emptyPoolStatus, forwardedClientCert, forwardedProto, responses, spans, traceHeaders, traceKey } = config;
  return {
    http: { ...config, healthCheckUserAgent: config.healthCheckUserAgent },
    headers: {
      scopeHeader: SCOPE_HEADER,
      innerHeaders: [CLUSTER_HEADER],
      identityNamespace: IDENTITY_NAMESPACE,
      defaultInstanceIndex: DEFAULT_INSTANCE_INDEX,
      forwardedProto,
      forwardedClientCert,
      responses,
      traceKey,
    },
    takesProxyProtocol: config.proxyProtocol,
    localReplies: { emptyPoolStatus, errorPages },
    traceHeaders: { ...traceHeaders, w3cTenantId: traceHeaders.w3cTenantId },
    spans,
  };
}
