/**
 * The names by which Envoy, the agent and people know compiled things. A scope and a route configuration are called as
 * their group of hosts, a cluster "<host><path>|<protocol>".
 */
import type { Share, UpstreamProtocol } from "../model/shares.js";

/** The request header that carries the scope's key inside Envoy; never seen by an app. */
export const SCOPE_HEADER = "x-cf-mesh-scope";

/**
 * The filters that run only while a request has no route: one to Envoy, since each name that warm routes switch off costs
 * each active host 350 bytes.
 */
export const SEARCH_FILTER = "cf-mesh.search";

/** Where the metadata of a request says that it was found below the wildcards of its host's last two words. */
export const WILDCARD_MARK = { filter: SEARCH_FILTER, key: "wildcard" } as const;

/**
 * The mark of a connection: the domain that its client has shown a certificate for. And the request header that carries
 * the certificate's subject on such connections; never seen by an app.
 */
export const CONNECTION_DOMAIN = "cf-mesh.domain";
export const CALLER_HEADER = "x-cf-mesh-caller";

/** Where the metadata of a route says what kind of source it lets callers in by. */
export const POLICY_METADATA = "cf-mesh.route-policy";

/** Secrets of Envoy's bootstrap: the CA that signs the certificates of apps, and what the router shows to them. */
export const APPS_CA_SECRET = "cf-mesh.apps-ca";
export const ROUTER_CERTIFICATE_SECRET = "cf-mesh.router-certificate";

/** Where the metadata of an endpoint says whose it is. */
export const IDENTITY_NAMESPACE = "cf";

/** The filters that send a request to the instance that it asks for, and that tell a client its instance. */
export const INSTANCE_FILTER = "cf-mesh.instance";

/** Where the metadata of a route and of a request says what they need. */
export const INSTANCE_METADATA = { instances: "instances", cookiePath: "path", knowsCluster: "cluster" } as const;

/** The request header by which they name a cluster that they know the instance to be in; never seen by an app. */
export const CLUSTER_HEADER = "x-cf-mesh-cluster";

/** The request header that carries the URL of a route service to the cluster for route services; never seen by one. */
export const ROUTE_SERVICE_HEADER = "x-cf-mesh-route-service";

export const ROUTE_SERVICE_CLUSTER = "cf-mesh-route-services-outbound";

/** Where the metadata of a request says that it has been to its route service. */
export const ROUTE_SERVICE_FILTER = "envoy.filters.http.ext_authz";
export const ROUTE_SERVICE_METADATA = {
  hasBeenThere: "has-been-to-route-service",
  isInternal: "is-internal-route-service",
} as const;

/** What all clusters of routes are called in Envoy's statistics, which keep nothing of them. */
export const CLUSTER_STAT_NAME = "route";

/** @param owner  whose callers it serves, where those of several are served by clusters of their own */
export function clusterName(host: string, path: string, protocol: UpstreamProtocol, owner = ""): string {
  return `${host}${path}|${protocol}${owner === "" ? "" : `|${owner}`}`;
}

/** The cluster of one share of a place whose shares are told apart. */
export function shareClusterName(
  host: string,
  path: string,
  { protocol, name }: Pick<Share, "name" | "protocol">,
  owner = "",
): string {
  return `${clusterName(host, path, protocol, owner)}|${name}`;
}

/** The host in a cluster's name. */
export function hostOfCluster(name: string): string {
  const end = name.search(/[/|]/);
  return end < 0 ? name : name.slice(0, end);
}
