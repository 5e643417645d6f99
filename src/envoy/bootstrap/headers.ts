/** Headers that the router adds, replaces and takes away, natively: as Gorouter does, for each request. */
import type { ForwardedClientCert } from "./forwarded-client-cert.js";
import { type } from "./json.js";
import { filterWhere, requestHeader, type HeaderValue, type Predicate } from "./matchers.js";

/** What becomes of a client's X-Forwarded-Proto: kept, replaced by how it came, or "https" whatever it says. */
export type ForwardedProto = "keep" | "sanitize" | "https";

export interface HeaderOptions {
  /** The request header that carries the scope's key within Envoy. */
  readonly scopeHeader: string;
  /** Other headers that requests have within Envoy alone. */
  readonly innerHeaders: readonly string[];
  /** The namespace of endpoints' metadata that tells whose they are. */
  readonly identityNamespace: string;
  readonly forwardedProto: ForwardedProto;
  readonly forwardedClientCert: ForwardedClientCert;
  /** Of all answers, the router's own included: these are removed, then those added that are not there. */
  readonly responses: {
    readonly remove: readonly string[];
    readonly addIfAbsent: readonly { readonly name: string; readonly value: string }[];
  };
  /** A request with it in X-Vcap-Trace is told which router and endpoint served it; undefined: none is. */
  readonly traceKey: string | undefined;
}

export const REQUEST_ID = "x-vcap-request-id";

type AppendAction = "ADD_IF_ABSENT" | "OVERWRITE_IF_EXISTS_OR_ADD";

const append = (key: string, value: string, append_action: AppendAction = "OVERWRITE_IF_EXISTS_OR_ADD") => ({
  append: { header: { key, value }, append_action },
});
const remove = (name: string) => ({ remove: name });
const headerMutation = (mutations: object) => ({
  "@type": type("extensions.filters.http.header_mutation.v3.HeaderMutation"),
  mutations,
});

/**
 * Before anything else sees the request: the scope's key, its id, and when it came.
 *
 * @param callerHeader  on connections whose clients show a certificate for their domain, what tells routes its subject
 */
export function earlyHeaderMutation({ scopeHeader }: HeaderOptions, callerHeader?: string) {
  return {
    name: "envoy.http.early_header_mutation.header_mutation",
    typed_config: {
      "@type": type("extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"),
      mutations: [
        // Whatever a client sends under these names counts for nothing.
        append(scopeHeader, "%REQ(:authority)%"),
        append(REQUEST_ID, "%UNIQUE_ID%"),
        append("x-request-start", "%START_TIME(%s%3f)%", "ADD_IF_ABSENT"),
        // First away with what a client says: an empty subject changes nothing.
        ...(callerHeader === undefined
          ? []
          : [remove(callerHeader), append(callerHeader, "%DOWNSTREAM_PEER_SUBJECT%")]),
      ],
    },
  };
}

/** For each attempt, when its endpoint is known. */
export function upstreamHeaderMutation(options: HeaderOptions, callerHeader?: string) {
  const { scopeHeader, identityNamespace, forwardedProto } = options;
  const innerHeaders = [...options.innerHeaders, ...(callerHeader === undefined ? [] : [callerHeader])];
  const identity = (field: string) => `%UPSTREAM_METADATA(${identityNamespace}:${field})%`;
  const request_mutations = [
    ...[scopeHeader, ...innerHeaders, "x-envoy-external-address", "x-envoy-internal"].map(remove),
    // An attempt before may have had an endpoint of which more is known; an empty value changes nothing.
    ...["x-cf-applicationid", "x-cf-instanceindex"].map(remove),
    append("x-cf-applicationid", identity("app_id")),
    append("x-cf-instanceindex", identity("instance_index")),
    append("x-cf-instanceid", "%UPSTREAM_REMOTE_ADDRESS%"),
    append("x-cf-instanceid", identity("instance_id")),
    ...(forwardedProto === "https" ? [append("x-forwarded-proto", "https")] : []),
  ];
  return { name: "cf-mesh.upstream-headers", typed_config: headerMutation({ request_mutations }) };
}

/** The first filter, so that answers pass it last: the router's own errors as well. */
export function responseHeaderFilter({ responses }: HeaderOptions) {
  const response_mutations = [
    append(REQUEST_ID, `%REQ(${REQUEST_ID})%`, "ADD_IF_ABSENT"),
    // What a route service is sent is no client's business.
    remove("x-cf-proxy-signature"),
    ...responses.remove.map(remove),
    ...responses.addIfAbsent.map(({ name, value }) => append(name, escapeFormat(value), "ADD_IF_ABSENT")),
  ];
  return { name: "cf-mesh.response-headers", typed_config: headerMutation({ response_mutations }) };
}

/** Of few requests: those that ask which way they went, and those whose URL has what Gorouter warns of. */
export function rareResponseHeaders({ traceKey }: HeaderOptions) {
  const semicolons = rare("cf-mesh.semicolons", requestHeader(":path", { contains: ";" }), [
    append("x-cf-routererror", "deprecated-semicolon-params", "ADD_IF_ABSENT"),
  ]);
  if (traceKey === undefined) return [semicolons];
  const exact: HeaderValue = { exact: traceKey };
  const trace = rare("cf-mesh.trace", requestHeader("x-vcap-trace", exact), [
    append("x-vcap-router", "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%"),
    append("x-vcap-backend", "%UPSTREAM_REMOTE_ADDRESS%"),
    append("x-cf-routeendpoint", "%UPSTREAM_REMOTE_ADDRESS%"),
  ]);
  return [semicolons, trace];
}

function rare(name: string, predicate: Predicate, response_mutations: readonly object[]) {
  return filterWhere(name, headerMutation({ response_mutations }), [predicate]);
}

/** As text in what Envoy reads as a format. */
export function escapeFormat(text: string): string {
  return text.replaceAll("%", "%%");
}
