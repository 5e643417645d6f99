/** Headers that the router adds, replaces and takes away, natively: as Gorouter does, for each request. */
import type { ForwardedClientCert } from "./forwarded-client-cert.js";
import { type ForwardedProto, forwardedProtoMutations } from "./forwarded-proto.js";
import { append, headerMutation, remove } from "./header-mutations.js";
import { type } from "./json.js";
import { filtersOfCase, type Predicate, requestHeader } from "./matchers.js";

export interface HeaderOptions {
  /** The request header that carries the scope's key within Envoy. */
  readonly scopeHeader: string;
  /** Other headers that requests have within Envoy alone. */
  readonly innerHeaders: readonly string[];
  /** The namespace of endpoints' metadata that tells whose they are. */
  readonly identityNamespace: string;
  /** Of an endpoint whose metadata has no other. */
  readonly defaultInstanceIndex: string;
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
export function upstreamHeaderMutation(
  options: HeaderOptions,
  signed: Predicate | undefined,
  callerHeader: string | undefined,
) {
  const { scopeHeader, identityNamespace, defaultInstanceIndex, forwardedProto } = options;
  const innerHeaders = [...options.innerHeaders, ...(callerHeader === undefined ? [] : [callerHeader])];
  const identity = (field: string) => `%UPSTREAM_METADATA(${identityNamespace}:${field})%`;
  const request_mutations = [
    ...[scopeHeader, ...innerHeaders, "x-envoy-external-address", "x-envoy-internal"].map(remove),
    // What a client says to its proxy. Envoy itself takes the others of that kind away.
    remove("proxy-authorization"),
    // In two steps each: what is not in the metadata is empty, and changes nothing. The app's guid comes with the route.
    append("x-cf-applicationid", identity("app_id")),
    append("x-cf-instanceid", "%UPSTREAM_HOST_NAME%"),
    append("x-cf-instanceid", identity("instance_id")),
    append("x-cf-instanceindex", defaultInstanceIndex),
    append("x-cf-instanceindex", identity("instance_index")),
    ...forwardedProtoMutations(forwardedProto, signed),
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

/** Of requests whose URL has a semicolon, which Gorouter warns of. */
export const semicolonWarning = () =>
  headerMutation({
    response_mutations: [append("x-cf-routererror", "deprecated-semicolon-params", "ADD_IF_ABSENT")],
  });

/** Of requests that ask which way they went. */
export function traceFilters({ traceKey }: HeaderOptions) {
  if (traceKey === undefined) return [];
  const response_mutations = [
    append("x-vcap-router", "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%"),
    append("x-vcap-backend", "%UPSTREAM_REMOTE_ADDRESS%"),
    append("x-cf-routeendpoint", "%UPSTREAM_REMOTE_ADDRESS%"),
  ];
  // As a case of its own: a request that Envoy refuses before any filter has seen it matches nothing then.
  const name = "cf-mesh.trace";
  return [
    filtersOfCase(name, [
      {
        predicates: [requestHeader("x-vcap-trace", { exact: traceKey })],
        filters: { [name]: headerMutation({ response_mutations }) },
      },
    ]),
  ];
}

/** As text in what Envoy reads as a format. */
export function escapeFormat(text: string): string {
  return text.replaceAll("%", "%%");
}
