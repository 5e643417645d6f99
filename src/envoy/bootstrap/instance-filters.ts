/** Filters of requests that want a certain instance: by their session, or by a header. */
import { type } from "./json.js";
import { filterWhere, requestHeader, responseHeader } from "./matchers.js";

export interface InstanceFilters {
  /** Sends a request to its instance. */
  readonly instance: LuaFilter;
  /** Tells a client with a session its instance. */
  readonly stickyCookie: LuaFilter;
  /** Headers that `instance` acts on. */
  readonly requestHeaders: readonly string[];
  /** The cookie that names the instance, and that it acts on as well. */
  readonly cookieName: string;
  /** Cookies of apps that make a session. */
  readonly sessionCookieNames: readonly string[];
  /** Answers of SPNEGO make a session, too. */
  readonly authNegotiate: boolean;
  /** Header that carries the answering instance to `stickyCookie`. */
  readonly answeringInstanceHeader: string;
  /** An access log's command for the answering instance. */
  readonly answeringInstance: string;
}

interface LuaFilter {
  readonly name: string;
  readonly lua: string;
}

export function instanceFilters(options: InstanceFilters) {
  const { instance, stickyCookie, cookieName, sessionCookieNames, authNegotiate } = options;
  const hadSession = requestHeader("cookie", { contains: `${cookieName}=` });
  const makesSession = [
    ...sessionCookieNames.map((name) => responseHeader("set-cookie", { contains: `${name}=` })),
    ...(authNegotiate ? [responseHeader("www-authenticate", { prefix: "negotiate", ignore_case: true })] : []),
  ];
  const answering = {
    header: { key: options.answeringInstanceHeader, value: options.answeringInstance },
    append_action: "OVERWRITE_IF_EXISTS_OR_ADD",
  };
  return [
    filterWhere(instance.name, lua(instance), [
      hadSession,
      ...options.requestHeaders.map((name) => requestHeader(name, "any")),
    ]),
    filterWhere(stickyCookie.name, lua(stickyCookie), [hadSession, ...makesSession]),
    // Answers pass the filters from the last to the first.
    filterWhere(
      `${stickyCookie.name}-instance`,
      {
        "@type": type("extensions.filters.http.header_mutation.v3.HeaderMutation"),
        mutations: { response_mutations: [{ append: answering }] },
      },
      [hadSession, ...makesSession],
    ),
  ];
}

function lua({ lua: source }: LuaFilter) {
  return { "@type": type("extensions.filters.http.lua.v3.Lua"), default_source_code: { inline_string: source } };
}
