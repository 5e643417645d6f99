/** Routes that answer in the app's place. The bootstrap makes a whole answer of what they say, as of the router's other errors. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { HeaderValueOption_HeaderAppendAction } from "../gen/envoy/config/core/v3/base_pb.js";
import {
  type Route as RdsRoute,
  type RouteMatchSchema,
  RouteSchema,
} from "../gen/envoy/config/route/v3/route_components_pb.js";

export interface DirectReply {
  readonly status: number;
  readonly message: string;
  /** For X-Cf-RouterError. */
  readonly routerError: string;
}

/** `name`: routes that are there have one. */
export function directReply(
  name: string,
  match: MessageInitShape<typeof RouteMatchSchema>,
  { status, message, routerError }: DirectReply,
): RdsRoute {
  return create(RouteSchema, {
    name,
    match,
    action: {
      case: "directResponse",
      value: { status, body: { specifier: { case: "inlineString", value: message } } },
    },
    responseHeadersToAdd: [replacedHeader("x-cf-routererror", routerError)],
  });
}

/** `value` is a format of Envoy's. */
export function replacedHeader(key: string, value: string) {
  return { header: { key, value }, appendAction: HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD };
}
