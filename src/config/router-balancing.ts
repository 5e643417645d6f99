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
