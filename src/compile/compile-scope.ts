import { FLAG_LENGTH, fieldLength, ProtobufWriter } from "../lib/protobuf-writer.js";
import type { EncodedResource } from "./resource.js";

/** A group's scope is made of its name alone, so this is a content hash of it in one letter. Change it with the shape. */
const SCOPE_VERSION = "1";

/** Numbers of the fields in envoy/config/route/v3/scoped_route.proto. */
const SCOPE = { name: 1, routeConfigurationName: 2, key: 3, onDemand: 4 } as const;
const KEY = { fragments: 1 } as const;
const FRAGMENT = { stringKey: 1 } as const;

/**
 * The scope of a group of hosts: what tells Envoy that it exists. Its routes come when the first request does.
 *
 * A ScopedRouteConfiguration: name and route_configuration_name are the group's, on_demand is set, and the key is one
 * fragment, the group's name as string_key. Written by hand: there may be a million. `routes`: the group whose routes they are, for a
 * host that has none of its own.
 */
export function compileScope(group: string, routes = group): EncodedResource {
  const nameLength = Buffer.byteLength(group);
  const name = fieldLength(nameLength);
  const routesLength = Buffer.byteLength(routes);
  const fragment = fieldLength(name);
  const key = fieldLength(fragment);
  const writer = new ProtobufWriter(name + fieldLength(routesLength) + key + FLAG_LENGTH);
  writer.text(SCOPE.name, group, nameLength);
  writer.text(SCOPE.routeConfigurationName, routes, routesLength);
  writer.message(SCOPE.key, fragment);
  writer.message(KEY.fragments, name);
  writer.text(FRAGMENT.stringKey, group, nameLength);
  writer.setFlag(SCOPE.onDemand);
  const version = routes === group ? SCOPE_VERSION : `${SCOPE_VERSION} ${routes}`;
  return { name: group, version, body: writer.buffer };
}
