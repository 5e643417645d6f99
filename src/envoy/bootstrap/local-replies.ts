/** What the router itself answers, as Gorouter words it. */
import { STATUS_CODES } from "node:http";
import { APP_TLS_REPLIES } from "./app-tls-replies.js";
import { type ErrorPages, pageFormat } from "./error-pages.js";
import { all, CACHED_SHORTLY, expression, flags, NEVER_CACHED, type Reply } from "./reply.js";

export interface LocalReplyOptions {
  /** The answer for a route whose apps have nothing running: 503, or 404 as for a route that is not there. */
  readonly emptyPoolStatus: 404 | 503;
  readonly errorPages: ErrorPages;
}

const UNKNOWN_ROUTE = "Requested route ('%REQ(:authority)%') does not exist.";

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
    { when: expression("response.code_details == 'missing_host_header'"), ...emptyHost },
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
    // Nothing moved on for too long: here, a request that waited for its routes.
    {
      when: flags("SI"),
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
    { when: flags("UC", "UF", "UR", "LR", "UPE"), ...endpointFailure("%RESPONSE_CODE_DETAILS%") },
  ];
}

export function localReplies(options: LocalReplyOptions) {
  return [
    ...replies(options).flatMap((reply) => [
      ...options.errorPages.domains.map(({ domain, page }) => mapper(reply, page, ofDomain(domain))),
      mapper(reply, options.errorPages.page),
    ]),
    {
      filter: expression("response.code == 431"),
      headers_to_add: [header("x-cf-routererror", "max-request-size-exceeded")],
      body_format_override: { text_format_source: { inline_string: "" } },
    },
  ];
}

function mapper(reply: Reply, page: string | undefined, domain?: object) {
  const { when, status, routerError, message, cacheControl } = reply;
  const statusText = reply.statusText ?? STATUS_CODES[status] ?? "";
  const plain = `${status} ${statusText}${message === undefined ? "" : `: ${message}`}\n`;
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
            text_format_source: {
              inline_string: pageFormat(page, { status, statusText, message: message ?? "", routerError }),
            },
            content_type: "text/html; charset=utf-8",
          },
    headers_to_add: [
      header("x-cf-routererror", routerError),
      header("x-content-type-options", "nosniff"),
      header("cache-control", cacheControl),
    ],
  };
}

function header(key: string, value: string) {
  return { header: { key, value }, append_action: "OVERWRITE_IF_EXISTS_OR_ADD" };
}

/** The domain and all below it, whatever the port. */
function ofDomain(domain: string) {
  const regex = `(?i)(.*\\.)?${domain.replaceAll(".", "\\.")}(:[0-9]+)?`;
  return { header_filter: { header: { name: ":authority", string_match: { safe_regex: { regex } } } } };
}
