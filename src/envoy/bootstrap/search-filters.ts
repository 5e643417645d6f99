/** Filters that run while a request has no route. */
import { ADS, type } from "./json.js";

export interface SearchFilter {
  /** Its name to Envoy, by which routes switch it off. */
  readonly name: string;
  /** In the order in which they run: Lua; undefined for one that fetches what is missing from the agent. */
  readonly steps: readonly { readonly name: string; readonly lua: string | undefined }[];
}

/** How long a host's first request waits for what the agent is asked for: its routes, then their cluster. */
export const ON_DEMAND_TIMEOUT = "5s";

export function searchFilter({ name, steps }: SearchFilter) {
  return {
    name,
    typed_config: {
      "@type": type("extensions.filters.http.filter_chain.v3.FilterChainConfig"),
      default_filter_chain: { filters: steps.map(({ name: step, lua }) => filterOf(step, lua)) },
    },
  };
}

function filterOf(name: string, lua: string | undefined) {
  if (lua === undefined) return onDemandFilter(name);
  return {
    name,
    typed_config: { "@type": type("extensions.filters.http.lua.v3.Lua"), default_source_code: { inline_string: lua } },
  };
}

/** Fetches the routes of a scope, and the cluster of a route, when the first request for them comes. */
export function onDemandFilter(name: string) {
  return {
    name,
    typed_config: {
      "@type": type("extensions.filters.http.on_demand.v3.OnDemand"),
      odcds: { source: ADS, timeout: ON_DEMAND_TIMEOUT },
    },
  };
}
