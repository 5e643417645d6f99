/** Conditions on a header of a request, as a route's match has them. */

type StringPattern =
  | { readonly case: "exact"; readonly value: string }
  | { readonly case: "safeRegex"; readonly value: { readonly regex: string } };

export function stringMatcher(name: string, matchPattern: StringPattern) {
  return { name, headerMatchSpecifier: { case: "stringMatch" as const, value: { matchPattern } } };
}

/** What the whole value is like. */
export function regexMatcher(name: string, regex: string) {
  return stringMatcher(name, { case: "safeRegex", value: { regex } });
}

/** As a part of a regular expression. */
export function escaped(text: string): string {
  return text.replace(/[^0-9A-Za-z_]/g, "\\$&");
}
