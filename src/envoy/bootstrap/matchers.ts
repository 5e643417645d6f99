/** Filters that run for some requests alone: Envoy skips what does not match. */
import { type } from "./json.js";

/** What a header holds; a request or an answer without it matches nothing. */
export type HeaderValue =
  | { readonly contains: string; readonly ignore_case?: boolean }
  | { readonly prefix: string; readonly ignore_case?: boolean }
  | { readonly exact: string }
  | "any";

export const requestHeader = (name: string, value: HeaderValue) => header("HttpRequestHeaderMatchInput", name, value);
export const responseHeader = (name: string, value: HeaderValue) => header("HttpResponseHeaderMatchInput", name, value);

export type Predicate = ReturnType<typeof header>;

/** `filter` where one of `predicates` holds. What asks for headers of the answer alone must not act on the request. */
export function filterWhere(name: string, filter: object, predicates: readonly [Predicate, ...Predicate[]]) {
  const [first, ...others] = predicates;
  const any = others.length > 0 ? { or_matcher: { predicate: predicates } } : first;
  const skip = {
    name: "skip",
    typed_config: { "@type": type("extensions.filters.common.matcher.action.v3.SkipFilter") },
  };
  return {
    name,
    typed_config: {
      "@type": type("extensions.common.matching.v3.ExtensionWithMatcher"),
      extension_config: { name, typed_config: filter },
      xds_matcher: {
        matcher_list: { matchers: [{ predicate: { not_matcher: any }, on_match: { action: skip } }] },
      },
    },
  };
}

function header(input: string, name: string, value: HeaderValue) {
  return {
    single_predicate: {
      input: { name: "header", typed_config: { "@type": type(`type.matcher.v3.${input}`), header_name: name } },
      value_match: value === "any" ? { safe_regex: { google_re2: {}, regex: ".*" } } : value,
    },
  };
}
