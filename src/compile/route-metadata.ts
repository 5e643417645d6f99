/** What the Lua of instance-filters.ts reads of a route. */
import { create } from "@bufbuild/protobuf";
import { type Metadata, MetadataSchema } from "../gen/envoy/config/core/v3/base_pb.js";
import type { Pool } from "./compile-cluster.js";
import { instanceIndex } from "./instance-index.js";
import { INSTANCE_FILTER, INSTANCE_METADATA } from "./names.js";

/** `pools`: those that requests of the route go to. A Lua filter sees what lies under its own name. */
export function routeMetadata(pools: readonly Pool[], cookiePath: string): Metadata {
  const known = {
    [INSTANCE_METADATA.instances]: instanceIndex(pools),
    ...(cookiePath !== "/" && { [INSTANCE_METADATA.cookiePath]: cookiePath }),
  };
  return create(MetadataSchema, { filterMetadata: { [INSTANCE_FILTER]: known } });
}
