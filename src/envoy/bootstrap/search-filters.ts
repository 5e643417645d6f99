/** Filters that run while a request has no route. */
import { ADS, type } from "./json.js";

/** A filter that runs while a request has no route. */
export interface SearchFilter {
  readonly name: string;
  /** Its Lua; undefined for one that fetches what is missing from the agent. */
  readonly lua: string | undefined;
}

/** How long a host's first request waits for what the agent is asked for: its routes, then their cluster. */
export const ON_DEMAND_TIMEOUT = "5s";

export function searchFilter({ name, lua }: SearchFilter) {
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
