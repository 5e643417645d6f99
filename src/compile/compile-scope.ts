import { create, toBinary } from "@bufbuild/protobuf";
import {
  ScopedRouteConfiguration_Key_FragmentSchema,
  ScopedRouteConfiguration_KeySchema,
  ScopedRouteConfigurationSchema,
} from "../gen/envoy/config/route/v3/scoped_route_pb.js";
import type { EncodedResource } from "./resource.js";

/** A scope is made of its name alone, so this is a content hash of it in one letter. Change it with the shape. */
const SCOPE_VERSION = "1";

/** The scope of a group of hosts: what tells Envoy that it exists. Its routes come when the first request does. */
export function compileScope(group: string): EncodedResource {
  const scope = create(ScopedRouteConfigurationSchema, {
    name: group,
    routeConfigurationName: group,
    onDemand: true,
    key: create(ScopedRouteConfiguration_KeySchema, {
      fragments: [create(ScopedRouteConfiguration_Key_FragmentSchema, { type: { case: "stringKey", value: group } })],
    }),
  });
  return { name: group, version: SCOPE_VERSION, body: toBinary(ScopedRouteConfigurationSchema, scope) };
}
