/** Route services. Names of Gorouter's settings are in the descriptions. */
import { z } from "zod";
import { durationMs, file } from "./fields.js";

const host = z
  .string()
  .regex(/^(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*$/, "must be a host in lower case, or *. and the end of one");

export const RouteServicesSchema = z.strictObject({
  secretFile: file.describe("the secret that all routers share (route_services_secret)"),
  decryptOnlySecretFile: file
    .optional()
    .describe(
      "a second secret that signatures are taken of, and none are made with (route_services_secret_decrypt_only)",
    ),
  timeoutMs: durationMs(1)
    .default(60_000)
    .describe(
      "how long a request may take from the router through the route service and back (route_services_timeout)",
    ),
  recommendHttps: z
    .boolean()
    .default(true)
    .describe("route services are told to send requests back by HTTPS (route_services_recommend_https)"),
  strict: z
    .boolean()
    .default(false)
    .describe("signatures are checked on routes without a route service, too (strict signature validation)"),
  caFile: file
    .default("/etc/ssl/certs/ca-certificates.crt")
    .describe("CAs of route services, in PEM; default: the system's, where Debian and Ubuntu keep them"),
  hairpinning: z
    .boolean()
    .default(false)
    .describe(
      "route services that are apps of this router are reached without leaving it (route_services_hairpinning)",
    ),
  hairpinningAllowList: z
    .array(host)
    .default([])
    .describe('of them, those alone, by host or "*.example.com"; [] for all (route_services_hairpinning_allowlist)'),
});

export type RouteServicesConfig = z.infer<typeof RouteServicesSchema>;
