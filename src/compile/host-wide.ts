/** What all routes of a host have alike is the host's: there it costs Envoy once what it costs for each route. */
import { equals } from "@bufbuild/protobuf";
import { type HeaderValueOption, HeaderValueOptionSchema, type Metadata } from "../gen/envoy/config/core/v3/base_pb.js";
import type { Route as RdsRoute } from "../gen/envoy/config/route/v3/route_components_pb.js";

export interface HostWide {
  readonly requestHeadersToAdd: HeaderValueOption[];
  readonly metadata?: Metadata;
}

/** Takes from `routes` what is for their virtual host: the one header that all of them add, and their metadata. */
export function hoistToHost(routes: readonly RdsRoute[]): HostWide {
  const [first, ...others] = routes;
  if (!first) return { requestHeadersToAdd: [] };
  const { metadata } = first;
  const [header] = first.requestHeadersToAdd;
  const isSameHeader = routes.every(
    ({ requestHeadersToAdd: [only, ...more] }) =>
      header && only && more.length === 0 && equals(HeaderValueOptionSchema, only, header),
  );
  // Routes of one path share one object.
  const isSameMetadata = others.every((route) => route.metadata === metadata);
  for (const route of routes) {
    if (isSameHeader) route.requestHeadersToAdd = [];
    if (isSameMetadata) delete route.metadata;
  }
  return {
    requestHeadersToAdd: header && isSameHeader ? [header] : [],
    ...(metadata && isSameMetadata && { metadata }),
  };
}
