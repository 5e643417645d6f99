/** How the router speaks HTTP with clients and apps. Names of Gorouter's settings are in the descriptions. */
import { z } from "zod";
import { durationMs, file } from "./fields.js";

const headerName = z.string().regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/, "must be the name of a header");
const domain = z
  .string()
  .regex(/^[0-9a-z]([0-9a-z-]*[0-9a-z])?(\.[0-9a-z]([0-9a-z-]*[0-9a-z])?)*$/i, "must be a domain, as apps.example.com");

/** Envoy takes no more. */
const MOST_HEADER_KB = 8_192;

const HeaderRewriteSchema = z.strictObject({
  remove: z.array(headerName).default([]).describe("headers that no answer has (remove_headers)"),
  addIfAbsent: z
    .array(z.strictObject({ name: headerName, value: z.string() }))
    .default([])
    .describe("headers that each answer has, unless the app sets them (add_headers_if_not_present)"),
});

const ErrorPagesSchema = z.strictObject({
  file: file
    .optional()
    .describe(
      'template of HTML error pages (html_error_template): {{.Status}}, {{.StatusText}}, {{.Message}}, {{.Header.Get "X-Cf-RouterError"}}; default: plain text',
    ),
  domains: z
    .array(z.strictObject({ domain, file }))
    .default([])
    .describe("templates for single domains and all below them"),
});

const SpansSchema = z.strictObject({
  collector: z
    .url({ protocol: /^http$/, error: "must be an http:// URL" })
    .describe("where spans go by OTLP over HTTP, as in http://127.0.0.1:4318/v1/traces"),
  serviceName: z.string().min(1).default("istio-router").describe("the router's name in traces"),
  samplePercent: z.number().min(0).max(100).default(1).describe("of requests that come without a trace of their own"),
});

const BackendConnectionsSchema = z.strictObject({
  keepAlive: z.boolean().default(true).describe("connections to apps are used again (max_idle_connections above 0)"),
  idleTimeoutMs: durationMs(1).default(90_000).describe("how long a connection to an app is kept without a request"),
  connectTimeoutMs: durationMs(1)
    .default(5_000)
    .describe("how long a connection to an app may take to be made, TLS included (endpoint_dial_timeout)"),
  maxResponseHeaderKb: z
    .int()
    .min(1)
    .max(MOST_HEADER_KB)
    .default(1_024)
    .describe("size of an answer's headers in all (max_response_header_kb); more becomes a 502"),
  maxResponseHeaders: z
    .int()
    .min(1)
    .default(1_000)
    .describe("number of an answer's headers (max_response_headers); more becomes a 502"),
});

export const HttpSchema = z.strictObject({
  requestTimeoutMs: durationMs(1)
    .default(900_000)
    .describe(
      "how long an app may take for a whole answer (request_timeout_in_seconds); a route's annotation goes first",
    ),
  requestHeadersTimeoutMs: durationMs(0)
    .default(0)
    .describe("how long a client may take for the headers of a request (read_header_timeout); 0: for ever"),
  idleTimeoutMs: durationMs(1)
    .default(900_000)
    .describe("how long a client's connection may be idle (frontend_idle_timeout)"),
  maxRequestHeaderKb: z
    .int()
    .min(1)
    .max(MOST_HEADER_KB)
    .default(1_024)
    .describe("size of a request's headers in all (max_header_kb); more is answered with 431"),
  maxRequestHeaders: z
    .int()
    .min(1)
    .default(1_000)
    .describe("number of a request's headers (max_request_headers); more is answered with 431"),
  forwardedProto: z
    .enum(["keep", "sanitize", "https"])
    .default("keep")
    .describe(
      "a client's X-Forwarded-Proto is kept, replaced by how the request came (sanitize_forwarded_proto), or always https (force_forwarded_proto_https)",
    ),
  forwardedClientCert: z
    .enum(["always_forward", "forward", "sanitize_set"])
    .default("always_forward")
    .describe(
      "a client's X-Forwarded-Client-Cert is kept, kept if it came by mutual TLS, or replaced by the client's own certificate (forwarded_client_cert)",
    ),
  proxyProtocol: z
    .boolean()
    .default(false)
    .describe("connections may begin with a PROXY header, which tells the client's address (enable_proxy)"),
  healthCheckUserAgent: z
    .string()
    .min(1)
    .optional()
    .describe(
      "requests of this User-Agent are load balancers' health checks and reach no app (healthcheck_user_agent, which is HTTP-Monitor/1.1 by default); default: none is",
    ),
  upgradeTypes: z
    .array(headerName)
    .default(["websocket"])
    .describe("protocols that a connection may be upgraded to; another one is answered with 403"),
  emptyPoolStatus: z
    .union([z.literal(404), z.literal(503)], "must be 404 or 503")
    .default(503)
    .describe("the answer for a route whose apps have nothing running (empty_pool_response_code_503)"),
  traceKey: z
    .string()
    .min(1)
    .optional()
    .describe("a request with this in X-Vcap-Trace is told its router and app instance (trace_key); default: none is"),
  responses: HeaderRewriteSchema.prefault({}).describe("headers of answers, the router's own errors included"),
  errorPages: ErrorPagesSchema.prefault({}).describe("HTML pages in the place of plain errors"),
  backends: BackendConnectionsSchema.prefault({}).describe("connections to apps"),
  traceHeaders: z
    .strictObject({
      b3: z.boolean().default(false).describe("X-B3-TraceId, X-B3-SpanId and b3 (enable_zipkin)"),
      w3c: z.boolean().default(false).describe("traceparent and tracestate (enable_w3c)"),
      w3cTenantId: z
        .string()
        .regex(/^[0-9a-z][0-9a-z_*/-]*$/, "must be lower-case letters, digits and _-*/")
        .optional()
        .describe("the tenant in tracestate (w3c_tenant_id)"),
    })
    .prefault({})
    .describe("headers of distributed traces that requests get"),
  spans: SpansSchema.optional().describe("the router's own spans of requests; default: none"),
});

export type HttpConfig = z.infer<typeof HttpSchema>;
