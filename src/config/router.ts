/** The section of the router. */
import { z } from "zod";
import { address, durationMs, file, port } from "./fields.js";
import { HttpSchema } from "./router-http.js";
import { BalancingSchema, StickySessionsSchema } from "./router-balancing.js";
import { RouteServicesSchema } from "./router-route-services.js";
import { TlsSchema } from "./router-tls.js";
import { AccessLogSchema, RequestMetricsSchema, RoutesDumpSchema } from "./router-access-log.js";

const BackendsSchema = z
  .strictObject({
    caFile: file.describe("CA that signs the certificates of apps (on Diego: the instance identity CA), in PEM"),
    certificateFile: file.optional().describe("certificate that the router shows to apps that ask for one, in PEM"),
    keyFile: file.optional().describe("its key"),
  })
  .refine(({ certificateFile, keyFile }) => (certificateFile === undefined) === (keyFile === undefined), {
    error: "give certificateFile and keyFile together, or neither",
  });

const ShardingSchema = z
  .strictObject({
    mode: z
      .enum(["all", "shared-and-segments", "segments"])
      .describe(
        "serve all apps, those in no isolation segment and in isolationSegments, or in isolationSegments alone",
      ),
    isolationSegments: z.array(z.string().min(1, "name a segment")).default([]).describe("names of isolation segments"),
  })
  .refine(({ mode, isolationSegments }) => mode !== "segments" || isolationSegments.length > 0, {
    error: "name at least one of isolationSegments: without one nothing would be served",
  });

export const RouterSchema = z.strictObject({
  nodeId: z.string().min(1).default("router").describe("name of this router in logs and to Envoy"),
  listenAddress: address.default("0.0.0.0").describe("address of the router's listener"),
  port: port.default(8080).describe("where requests from outside come in"),
  runDirectory: file.describe("sockets and logs of this router; made with mode 0700"),
  envoyPath: file.optional().describe("the Envoy to run; default: one on PATH, else the one that scripts/setup got"),
  concurrency: z.int().min(1).optional().describe("Envoy's worker threads; default: the number of cores"),
  drainWaitMs: durationMs(0)
    .default(20_000)
    .describe(
      "how long the router goes on as before when it is to stop, but for its health check, which fails at once",
    ),
  drainTimeMs: durationMs(0)
    .default(900_000)
    .describe("how long requests may then take to end; no new connection is taken meanwhile"),
  health: z
    .strictObject({
      listenAddress: address.default("0.0.0.0").describe("address of the health listener"),
      port: port.describe(
        "GET /health here: 200 while requests should come, 503 before and after; nothing else of the router is served",
      ),
      tls: z
        .strictObject({
          port: port.describe("the same by HTTPS here"),
          certificateFile: file.describe("the health listener's certificate, in PEM"),
          keyFile: file.describe("its key, in PEM"),
        })
        .optional()
        .describe("the health listener by HTTPS, besides the other (status.tls)"),
    })
    .optional()
    .describe("where load balancers ask whether to send requests"),
  sweepIntervalMs: durationMs(100)
    .default(30_000)
    .describe("how often Envoy is rid of what removed routes used, once no request uses it"),
  orphanTimeoutMs: durationMs(100)
    .default(60_000)
    .describe("how long Envoy serves without an agent before it is stopped"),
  backends: BackendsSchema.optional().describe(
    "how apps are reached by TLS; without it they are reached in plain text",
  ),
  mirrorDirectory: file
    .optional()
    .describe(
      "the router's own copy of a log on JetStream, to serve from while that is away; needed with log.jetstream",
    ),
  staleAfterMs: durationMs(1_000)
    .default(60_000)
    .describe("after so long without hearing from the log, the router says that it may be stale; it serves on"),
  tls: TlsSchema.optional().describe("HTTPS from clients; without it the router speaks HTTP alone"),
  http: HttpSchema.prefault({}).describe("how the router speaks HTTP with clients and apps"),
  balancing: BalancingSchema.prefault({}).describe("how requests find an instance"),
  stickySessions: StickySessionsSchema.prefault({}).describe("which requests go to the instance of their session"),
  routeServices: RouteServicesSchema.optional().describe(
    "requests of routes that are bound to a route service go there first; without it they are refused",
  ),
  accessLog: AccessLogSchema.optional().describe("a line for each request; none when left out"),
  requestMetrics: RequestMetricsSchema.prefault({}).describe("what is measured of requests"),
  routes: RoutesDumpSchema.optional().describe(
    "the routing table as Gorouter dumps it, over TCP; without it, on the socket api.sock of the run directory alone",
  ),
  sharding: ShardingSchema.optional().describe("which isolation segments are served; default: all"),
});

export type RouterConfig = z.infer<typeof RouterSchema>;
