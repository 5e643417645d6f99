/** Filters that run for some requests alone: Envoy skips what does not match. */
import { type } from "./json.js";

/** What a header holds; a request or an answer without it matches nothing. */
export type HeaderValue =
  | { readonly contains: string; readonly ignore_case?: boolean }
  | { readonly prefix: string; readonly ignore_case?: boolean }
  | { readonly exact: string }
  | { readonly safe_regex: { readonly google_re2: object; readonly regex: string } }
  | "any";

export const requestHeader = (name: string, value: HeaderValue) => header("HttpRequestHeaderMatchInput", name, value);
export const responseHeader = (name: string, value: HeaderValue) => header("HttpResponseHeaderMatchInput", name, value);

type HeaderPredicate = ReturnType<typeof header>;
export type Predicate = HeaderPredicate | { readonly not_matcher: HeaderPredicate };

type Predicates = readonly [Predicate, ...Predicate[]];

function anyOf(predicates: Predicates) {
  const [first, ...others] = predicates;
  return others.length > 0 ? { or_matcher: { predicate: predicates } } : first;
}

/** `filter` where one of `predicates` holds. What asks for headers of the answer alone must not act on the request. */
export function filterWhere(name: string, filter: object, predicates: Predicates) {
  return filterSkipped(name, filter, { not_matcher: anyOf(predicates) });
}

/** `filter` where none of `predicates` holds. */
export function filterUnless(name: string, filter: object, predicates: Predicates) {
  return filterSkipped(name, filter, anyOf(predicates));
}

function filterSkipped(name: string, filter: object, predicate: object) {
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
        matcher_list: { matchers: [{ predicate, on_match: { action: skip } }] },
      },
    },
  };
}

/** Filters by the name that they have in Envoy's log, in the order in which they run. */
export type Filters = Readonly<Record<string, object>>;

export interface FilterCase {
  readonly predicates: Predicates;
  readonly filters: Filters;
}

/**
 * The filters of the first case that holds. A request in which none does pays for one match, whatever the number of
 * filters. A case that asks for headers of the answer gets the answer alone.
 */
export function filtersOfCase(name: string, cases: readonly FilterCase[]) {
  const chain = (index: number, filters: Filters) => ({
    name: `${name}-${index}`,
    typed_config: {
      "@type": type("extensions.filters.http.composite.v3.ExecuteFilterAction"),
      filter_chain: {
        typed_config: Object.entries(filters).map(([filter, config]) => ({ name: filter, typed_config: config })),
      },
    },
  });
  return {
    name,
    typed_config: {
      "@type": type("extensions.common.matching.v3.ExtensionWithMatcher"),
      extension_config: { name, typed_config: { "@type": type("extensions.filters.http.composite.v3.Composite") } },
      xds_matcher: {
        matcher_list: {
          matchers: cases.map(({ predicates, filters }, index) => ({
            predicate: anyOf(predicates),
            on_match: { action: chain(index, filters) },
          })),
        },
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
