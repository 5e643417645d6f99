/**
 * The steps of the search filter. They run only for requests that have no route yet: warm routes switch it off, and Envoy
 * does not even create it then.
 *
 * `clearRouteCache` alone changes nothing within a filter: Envoy looks the route up again when the route's metadata is
 * asked for, and a filter gets to ask once. A route that was found has a name.
 */
import { SCOPE_HEADER, WILDCARD_MARK } from "./names.js";

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

/** Takes the scope of a group of wildcard hosts; `pattern` finds its words at the end of the host, a dot before them; `found` is done then. */
const wildcard = (pattern: string, found = "") => `
function envoy_on_request(handle)
  if handle:streamInfo():routeName() ~= "" then return end
  local host = handle:headers():get(":authority")
  if host == nil then return end
  local words = string.match(string.match(host, "^[^:]*"), "${pattern}")
  if words == nil then return end
  handle:headers():replace("${SCOPE_HEADER}", "*" .. string.lower(words))
  handle:clearRouteCache()
  handle:metadata():get("")
${found}end
`;

/** For the agent, which gives a scope to hosts that are used much (jobs/wildcard-hosts.ts). */
const MARK = `  if handle:streamInfo():routeName() ~= "" then
    handle:streamInfo():dynamicMetadata():set("${WILDCARD_MARK.filter}", "${WILDCARD_MARK.key}", true)
  end
`;

export interface SearchStep {
  readonly name: string;
  /** undefined for one that fetches what is missing. */
  readonly lua: string | undefined;
}

const ON_DEMAND = { name: "on-demand", lua: undefined };

/** In the order in which they run: the host in lower case, its wildcards, and the wildcards of its last word. */
export const SEARCH_STEPS: readonly SearchStep[] = [
  { name: "lower-case-host", lua: LOWER_CASE_HOST },
  ON_DEMAND,
  { name: "wildcard", lua: wildcard("%.[^.]+%.[^.]+$", MARK) },
  ON_DEMAND,
  { name: "top-level-wildcard", lua: wildcard("%.[^.]+$") },
  ON_DEMAND,
];
