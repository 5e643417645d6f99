/** What the bootstrap is told of sessions and of requests for a certain instance. */
import {
  ANSWERING_INSTANCE_HEADER,
  instanceLua,
  REQUEST_HEADERS,
  STICKY_COOKIE,
  stickyCookieLua,
  type StickySessions,
} from "../compile/instance-filters.js";
import { INSTANCE_FILTER } from "../compile/names.js";
import type { InstanceFilters } from "../envoy/bootstrap/instance-filters.js";

export function instanceFilters(sessions: StickySessions): InstanceFilters {
  return {
    name: INSTANCE_FILTER,
    instanceLua: instanceLua(sessions),
    stickyCookieLua: stickyCookieLua(sessions),
    requestHeaders: REQUEST_HEADERS,
    cookieName: STICKY_COOKIE,
    sessionCookieNames: sessions.cookieNames,
    authNegotiate: sessions.authNegotiate,
    answeringInstanceHeader: ANSWERING_INSTANCE_HEADER,
    // An instance whose guid is not known goes by its address.
    answeringInstance: "%REQ(x-cf-instanceid)% %UPSTREAM_HOST%",
  };
}
