/** What the router itself answers, as Gorouter words it. */
import { STATUS_CODES } from "node:http";
import { APP_TLS_REPLIES } from "./app-tls-replies.js";
import { type ErrorPages, pageFormat } from "./error-pages.js";
import { healthReplies } from "./health-check.js";
import {
  all,
  any,
  CACHED_SHORTLY,
  expression,
  flags,
  hasStatus,
  NEVER_CACHED,
  type Reply,
  setHeader,
} from "./reply.js";

export interface LocalReplyOptions {
  /** The answer for a route whose apps have nothing running: 503, or 404 as for a route that is not there. */
  readonly emptyPoolStatus: 404 | 503;
  readonly errorPages: ErrorPages;
}

const UNKNOWN_ROUTE = "Requested route ('%REQ(:authority)%') does not exist.";

/** What filters, routes and the agent answer: with these statuses, X-Cf-RouterError, and the message as their body. */
const REFUSALS = [400, 403, 421, 500, 502, 503, 504].map((status) => ({
  when: all(
    hasStatus(status),
    expression("response.code_details in ['lua_response', 'direct_response', 'ext_authz_denied']"),
  ),
  status,
  routerError: "%RESP(x-cf-routererror)%",
  message: "%LOCAL_REPLY_BODY%",
  cacheControl: NEVER_CACHED,
}));

/** What Envoy answers to what is no request that it can serve: as Go's server does, Gorouter has no word in it. */
const BY_ENVOY: readonly Reply[] = [
  {
    when: expression("response.code_details == 'upgrade_failed'"),
    status: 403,
    routerError: "upgrade_not_supported",
    message: "Upgrades to this protocol are not supported.",
    cacheControl: NEVER_CACHED,
  },
  ...[400, 404, 408].map((status) => ({
    when: hasStatus(status),
    status,
    routerError: undefined,
    message: undefined,
    cacheControl: undefined,
  })),
];

/** The first whose condition holds decides. */
function replies({ emptyPoolStatus }: LocalReplyOptions): readonly Reply[] {
  const emptyHost = {
    status: 400,
    routerError: "empty_host",
    message: "Request had empty Host header",
    cacheControl: CACHED_SHORTLY,
  };
  const unknownRoute = {
    status: 404,
    routerError: "unknown_route",
    message: UNKNOWN_ROUTE,
    cacheControl: NEVER_CACHED,
  };
  const endpointFailure = (cause: string) => ({
    status: 502,
    routerError: `endpoint_failure (${cause})`,
    message: "Registered endpoint failed to handle the request.",
    cacheControl: NEVER_CACHED,
  });
  return [
    { when: all(hasStatus(400), expression("response.code_details == 'missing_host_header'")), ...emptyHost },
    { when: all(flags("NR"), headerMatch(":authority", "")), ...emptyHost },
    // As Envoy joins them.
    {
      when: all(flags("NR"), headerMatch(":authority", ".*,.*")),
      status: 400,
      routerError: undefined,
      message: "too many Host headers",
      cacheControl: undefined,
    },
    // A host that is the client's own address says nothing. Envoy's expressions can't join texts, so an IPv4 address that
    // only begins like it counts, too; of names that short there are none.
    {
      when: all(flags("NR"), expression("size(request.host) > 6 && source.address.startsWith(request.host)")),
      ...emptyHost,
    },
    { when: flags("NR"), ...unknownRoute },
    emptyPoolStatus === 404
      ? { when: flags("UH"), ...unknownRoute }
      : {
          when: flags("UH"),
          status: 503,
          routerError: "no_endpoints",
          message: "Requested route ('%REQ(:authority)%') has no available endpoints.",
          cacheControl: CACHED_SHORTLY,
        },
    {
      when: flags("UO"),
      status: 503,
      routerError: "Connection Limit Reached",
      message: "Requested route ('%REQ(:authority)%') has reached the connection limit.",
      cacheControl: NEVER_CACHED,
    },
    // Nothing moved on for too long: here, a request that waited for its routes; or its cluster has just gone.
    {
      when: flags("SI", "NC"),
      status: 503,
      routerError: "routes_unavailable",
      message: "Requested route ('%REQ(:authority)%') can not be looked up now.",
      cacheControl: NEVER_CACHED,
    },
    {
      when: expression("response.code_details == 'ext_authz_error'"),
      status: 503,
      routerError: "route_service_unavailable",
      message: "Requests can not be sent to the route service, nor taken from it, now.",
      cacheControl: NEVER_CACHED,
    },
    ...APP_TLS_REPLIES,
    { when: flags("UT"), ...endpointFailure("context deadline exceeded") },
    { when: flags("UC", "UF", "UR", "LR", "UPE", "DF"), ...endpointFailure("%RESPONSE_CODE_DETAILS%") },
  ];
}

/** @param urlHeader  of requests whose host is not the one that the client asked for: has the URL that it did ask for */
export function localReplies(options: LocalReplyOptions, urlHeader?: string) {
  return [
    ...healthReplies(),
    ...[...REFUSALS, ...replies(options), ...BY_ENVOY].flatMap((reply) => [
      ...options.errorPages.domains.map(({ domain, page }) => mapper(reply, page, ofDomain(domain, urlHeader))),
      mapper(reply, options.errorPages.page),
    ]),
    {
      filter: hasStatus(431),
      headers_to_add: [setHeader("x-cf-routererror", "max-request-size-exceeded")],
      body_format_override: { text_format_source: { inline_string: "" } },
    },
  ];
}

function mapper(reply: Reply, page: string | undefined, domain?: object) {
  const { when, status, routerError, message, cacheControl } = reply;
  const statusText = reply.statusText ?? STATUS_CODES[status] ?? "";
  const plain = `${status} ${statusText}${message === undefined ? "" : `: ${message}`}\n`;
  const fields = { status, statusText, message: message ?? "", routerError: routerError ?? "" };
  const headers = {
    "x-cf-routererror": routerError,
    "x-content-type-options": "nosniff",
    "cache-control": cacheControl,
  };
  return {
    filter: domain ? all(domain, when) : when,
    status_code: status,
    body_format_override:
      page === undefined
        ? {
            text_format_source: { inline_string: plain },
            content_type: "text/plain; charset=utf-8",
          }
        : {
            text_format_source: { inline_string: pageFormat(page, fields) },
            content_type: "text/html; charset=utf-8",
          },
    headers_to_add: Object.entries(headers).flatMap(([key, value]) =>
      value === undefined ? [] : [setHeader(key, value)],
    ),
  };
}

/** The domain and all below it, whatever the port. */
function ofDomain(domain: string, urlHeader: string | undefined) {
  const name = `(.*\\.)?${domain.replaceAll(".", "\\.")}`;
  const ofHost = headerMatch(":authority", `${name}(:[0-9]+)?`);
  if (urlHeader === undefined) return ofHost;
  const isMissing = { header_filter: { header: { name: urlHeader, present_match: true, invert_match: true } } };
  return any(headerMatch(urlHeader, `https?://${name}([/?].*)?`), all(ofHost, isMissing));
}

function headerMatch(name: string, regex: string) {
  return { header_filter: { header: { name, string_match: { safe_regex: { regex: `(?i)${regex}` } } } } };
}
