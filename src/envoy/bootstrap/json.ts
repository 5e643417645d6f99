/** What all parts of the bootstrap write alike. */

/** An Any's type, by the name of its message below `envoy.`. */
export const type = (name: string) => `type.googleapis.com/envoy.${name}`;

/** "Ask the agent", as a config source. */
export const ADS = { ads: {}, resource_api_version: "V3" };

/** The cluster of the agent's xDS server. */
export const XDS_CLUSTER = "cf-mesh-agent";

/** The cluster of the agent's server for the records of requests. */
export const ACCESS_LOG_CLUSTER = "cf-mesh-access-log";
