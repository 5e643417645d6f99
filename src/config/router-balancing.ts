/** How the router finds an instance for a request. */
import { z } from "zod";

const cookieName = z.string().regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/, "must be the name of a cookie");

/** Names and defaults of Gorouter: sticky_session_cookie_names, secure_cookies, sticky_sessions_for_auth_negotiate. */
export const StickySessionsSchema = z.strictObject({
  cookieNames: z
    .array(cookieName)
    .default(["JSESSIONID"])
    .describe("cookies of apps that make a session: its requests go to one instance; [] for none"),
  secureCookies: z
    .boolean()
    .default(false)
    .describe("the router's cookie of a session, __VCAP_ID__, is always marked Secure; else as the app's is"),
  authNegotiate: z
    .boolean()
    .default(false)
    .describe("clients that log in by SPNEGO (Authorization: Negotiate) must stay with their instance"),
});

/** Gorouter's balancing_algorithm, balancing_algorithm_az_preference, backends.max_attempts and backends.max_conns. */
export const BalancingSchema = z
  .strictObject({
    algorithm: z
      .enum(["round-robin", "least-connection"])
      .default("round-robin")
      .describe("how requests find an instance where their route says nothing"),
    availabilityZone: z.string().min(1, "name a zone").optional().describe("zone of this router"),
    azPreference: z
      .enum(["none", "locally-optimistic"])
      .default("none")
      .describe(
        "locally-optimistic: requests go to instances in the router's zone while there are any, further attempts to others; " +
          "not on routes with weights or hashes",
      ),
    maxAttempts: z
      .int()
      .min(1, "must be at least 1")
      .max(10, "must be at most 10")
      .default(3)
      .describe("how often a request is tried, each time at another instance"),
    maxConnectionsPerBackend: z
      .int()
      .min(0, "must be 0, or a number of connections")
      .default(0)
      .describe(
        "connections to one instance, those of WebSockets included; twice as many requests of a route may wait for one, " +
          "others get a 503 (Connection Limit Reached); 0: any number",
      ),
  })
  .refine(({ azPreference, availabilityZone }) => azPreference === "none" || availabilityZone !== undefined, {
    error: "give availabilityZone: without it no instance is near",
  });
