/**
 * Filters of requests that want a certain instance: by their session, or by a header; and of those that Gorouter warns of,
 * which share their match, for a match costs every request.
 */
import { semicolonWarning } from "./headers.js";
import { type } from "./json.js";
import { filtersOfCase, requestHeader, responseHeader } from "./matchers.js";

export interface InstanceFilters {
  /** Their name to Envoy: under it, Lua finds the metadata of a route. */
  readonly name: string;
  /** Lua that sends a request to its instance. */
  readonly instanceLua: string;
  /** Lua that tells a client with a session its instance. */
  readonly stickyCookieLua: string;
  /** Headers that `instanceLua` acts on. */
  readonly requestHeaders: readonly string[];
  /** The cookie that names the instance, and that it acts on as well. */
  readonly cookieName: string;
  /** Cookies of apps that make a session. */
  readonly sessionCookieNames: readonly string[];
  /** Answers of SPNEGO make a session, too. */
  readonly authNegotiate: boolean;
  /** Header that carries the answering instance to `stickyCookieLua`. */
  readonly answeringInstanceHeader: string;
  /** Its value: a format of Envoy's. */
  readonly answeringInstance: string;
}

export function instanceFilters(options: InstanceFilters) {
  const { name, cookieName, sessionCookieNames, authNegotiate } = options;
  const answering = {
    header: { key: options.answeringInstanceHeader, value: options.answeringInstance },
    append_action: "OVERWRITE_IF_EXISTS_OR_ADD",
  };
  const ofAnswers = {
    "sticky-cookie": lua(options.stickyCookieLua),
    // Answers pass the filters from the last to the first.
    "answering-instance": {
      "@type": type("extensions.filters.http.header_mutation.v3.HeaderMutation"),
      mutations: { response_mutations: [{ append: answering }] },
    },
  };
  const [sessionStart, ...otherStarts] = [
    ...sessionCookieNames.map((session) => responseHeader("set-cookie", { contains: `${session}=` })),
    ...(authNegotiate ? [responseHeader("www-authenticate", { prefix: "negotiate", ignore_case: true })] : []),
  ];
  const ofRequests = { instance: lua(options.instanceLua), ...ofAnswers };
  return filtersOfCase(name, [
    // It may have a session as well: "/start;jsessionid=...". The warning comes last, for Lua takes it for the router's error.
    {
      predicates: [requestHeader(":path", { contains: ";" })],
      filters: { semicolons: semicolonWarning(), ...ofRequests },
    },
    {
      predicates: [
        requestHeader("cookie", { contains: `${cookieName}=` }),
        ...options.requestHeaders.map((header) => requestHeader(header, "any")),
      ],
      filters: ofRequests,
    },
    ...(sessionStart ? [{ predicates: [sessionStart, ...otherStarts] as const, filters: ofAnswers }] : []),
  ]);
}

function lua(source: string) {
  return { "@type": type("extensions.filters.http.lua.v3.Lua"), default_source_code: { inline_string: source } };
}
