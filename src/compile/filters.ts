/**
 * The Lua of the search filters. They run only for requests that have no route yet: warm routes switch them off, and
 * Envoy does not even create them then.
 *
 * `clearRouteCache` alone changes nothing within a filter: Envoy looks the route up again when the route's metadata is
 * asked for, and a filter gets to ask once. A route that was found has a name.
 */
import { SCOPE_HEADER, type SearchFilter } from "./names.js";

/** Hosts match in any case, scopes do not: takes the scope in lower case for a host that has capitals. */
const LOWER_CASE_HOST = `
function envoy_on_request(handle)
  local host = handle:headers():get(":authority")
  if host == nil or not string.find(host, "%u") then return end
  handle:headers():replace("${SCOPE_HEADER}", string.lower(host))
  handle:clearRouteCache()
  handle:metadata():get("")
end
`;

/** Takes the scope of a group of wildcard hosts; `pattern` finds its words at the end of the host, a dot before them. */
const wildcard = (pattern: string) => `
function envoy_on_request(handle)
  if handle:streamInfo():routeName() ~= "" then return end
  local host = handle:headers():get(":authority")
  if host == nil then return end
  local words = string.match(string.match(host, "^[^:]*"), "${pattern}")
  if words == nil then return end
  handle:headers():replace("${SCOPE_HEADER}", "*" .. string.lower(words))
  handle:clearRouteCache()
  handle:metadata():get("")
end
`;

/** The source of each search filter, in the order in which they run; undefined for those that fetch what is missing. */
export const SEARCH_FILTER_LUA: Readonly<Record<SearchFilter, string | undefined>> = {
  "cf-mesh.lower-case-host": LOWER_CASE_HOST,
  "cf-mesh.wildcard": wildcard("%.[^.]+%.[^.]+$"),
  "cf-mesh.wildcard-on-demand": undefined,
  "cf-mesh.top-level-wildcard": wildcard("%.[^.]+$"),
  "cf-mesh.top-level-wildcard-on-demand": undefined,
};
