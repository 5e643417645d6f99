import type { FastifyInstance } from "fastify";
import { type Api, link } from "./api.js";

/** Knows per-route options (3.183.0), canaries (3.189.0), instances in the list of processes (3.211.0) and route policies (3.225.0). */
const API_VERSION = "3.225.0";

const COLLECTIONS = [
  "apps",
  "audit_events",
  "deployments",
  "domains",
  "droplets",
  "feature_flags",
  "info",
  "organizations",
  "processes",
  "roles",
  "route_policies",
  "routes",
  "spaces",
];

/** What anybody may read without a token. */
export function serveRoot(server: FastifyInstance, api: Api): void {
  server.get("/", () => ({
    links: {
      self: link(api, ""),
      cloud_controller_v2: null,
      cloud_controller_v3: { ...link(api, "/v3"), meta: { version: API_VERSION } },
      network_policy_v0: null,
      network_policy_v1: link(api, "/networking/v1/external"),
      login: { href: api.loginUrl() },
      uaa: { href: api.uaaUrl() },
      credhub: null,
      routing: link(api, "/routing"),
      logging: null,
      log_cache: { href: api.logCacheUrl() },
      log_stream: null,
      app_ssh: null,
    },
  }));
  server.get("/v3", () => ({
    links: {
      self: link(api, "/v3"),
      ...Object.fromEntries(COLLECTIONS.map((name) => [name, link(api, `/v3/${name}`)])),
    },
  }));
  server.get("/v3/info", () => ({
    build: "",
    cli_version: { minimum: "", recommended: "" },
    custom: {},
    description: "An emulated foundation",
    name: "cf-mesh",
    version: 0,
    osbapi_version: "2.15",
    rate_limits: { enabled: false, general_limit: 0, reset_interval_in_minutes: 0 },
    links: { self: link(api, "/v3/info"), support: { href: "" } },
  }));
}
