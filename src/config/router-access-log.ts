/** What the router tells of its requests: lines, metrics, and the dump of its routing table. */
import { z } from "zod";
import { file, port } from "./fields.js";

const headerName = z.string().regex(/^[A-Za-z0-9_-]+$/, "must be the name of a header");

const LoggregatorSchema = z.strictObject({
  address: z
    .string()
    .regex(/^(\[[\da-f:.]+\]|[\w.-]+):\d{1,5}$/i, "must be a host and a port, such as 127.0.0.1:3458")
    .default("127.0.0.1:3458")
    .describe("where the loggregator agent listens for gRPC"),
  caFile: file.describe("CA that signed the agent's certificate, in PEM"),
  certificateFile: file.describe("client certificate that the agent accepts, in PEM"),
  keyFile: file.describe("its key"),
  serverName: z.string().min(1, "name a server").default("metron").describe("the name in the agent's certificate"),
  index: z.int().min(0, "must be 0 or more").default(0).describe("number of this router: the 2 of [RTR/2] (index)"),
  bufferBytes: z
    .int()
    .min(131_072, "must be at least 131072 (bytes)")
    .default(4 * 1024 * 1024)
    .describe("lines that may wait for a slow agent; more are dropped and counted"),
});

export const AccessLogSchema = z
  .strictObject({
    file: file.optional().describe("where lines are added; opened anew at SIGHUP"),
    stdout: z
      .boolean()
      .default(false)
      .describe("lines go to standard output instead, between those of the process's own log"),
    format: z.enum(["gorouter", "json"]).default("gorouter").describe("Gorouter's line, or its values as JSON"),
    redactQueryParameters: z
      .enum(["none", "all", "hash"])
      .default("none")
      .describe("of the query of GET requests: keep it, leave it out, or write its SHA-1 instead"),
    hideForwardedFor: z.boolean().default(false).describe("leave X-Forwarded-For out"),
    hideSourceIp: z.boolean().default(false).describe("leave the client's address out"),
    extraHeaders: z
      .array(headerName)
      .default([])
      .describe("request headers that lines end with; those of http.traceHeaders follow them"),
    extraFields: z
      .array(
        z.enum([
          "backend_time",
          "caller_cf_app",
          "caller_cf_org",
          "caller_cf_space",
          "dial_time",
          "dns_time",
          "failed_attempts",
          "failed_attempts_time",
          "local_address",
          "route_policy",
          "tls_sni",
          "tls_time",
        ]),
      )
      .default([])
      .describe("fields that Gorouter's line has on demand"),
    bufferBytes: z
      .int()
      .min(65_536, "must be at least 65536 (bytes)")
      .default(8 * 1024 * 1024)
      .describe("lines that may wait for a slow disk; more are dropped and counted"),
    loggregator: LoggregatorSchema.optional().describe(
      "lines of requests that went to an app go to its log, too, where cf logs shows them (logging.loggregator_enabled)",
    ),
  })
  .refine(({ file: path, stdout }) => path === undefined || !stdout, {
    error: "name a file, or set stdout to true: one of the two",
  })
  .refine(({ file: path, stdout, loggregator }) => path !== undefined || stdout || loggregator !== undefined, {
    error: "name a file, set stdout to true, or give loggregator",
  });

export const RequestMetricsSchema = z.strictObject({
  enabled: z.boolean().default(true).describe("Gorouter's metrics of requests in /metrics"),
  apps: z
    .int()
    .min(0)
    .default(0)
    .describe("apps that have metrics of their own, the others count as other; 0: none has, as by Gorouter's default"),
  routes: z.int().min(0).default(0).describe("the same for routes"),
});

export const RoutesDumpSchema = z.strictObject({
  port: port.default(8082).describe("GET /routes on this port of 127.0.0.1"),
  user: z
    .string()
    .regex(/^[^:]+$/, "must be a name without a colon")
    .describe("who may ask (basic authentication)"),
  passwordFile: file.describe("file that holds the user's password"),
});

export type AccessLogConfig = z.infer<typeof AccessLogSchema>;
export type LoggregatorConfig = z.infer<typeof LoggregatorSchema>;
export type RequestMetricsConfig = z.infer<typeof RequestMetricsSchema>;
export type RoutesDumpConfig = z.infer<typeof RoutesDumpSchema>;
