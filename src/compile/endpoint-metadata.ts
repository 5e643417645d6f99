/** What Envoy knows of an endpoint beside its address. */
import { create } from "@bufbuild/protobuf";
import { type Metadata, MetadataSchema } from "../gen/envoy/config/core/v3/base_pb.js";
import type { EndpointIdentity } from "../model/endpoints.js";
import { TLS_MARK } from "./app-tls.js";
import { IDENTITY_NAMESPACE } from "./names.js";

/** `%UPSTREAM_METADATA(cf:app_id)%` and the like in headers and logs; what is not known is left out. A field costs Envoy 1.2 kB. */
export function endpointMetadata(identity: EndpointIdentity, isTls: boolean): Metadata {
  const { appGuid, instanceGuid, instanceIndex } = identity;
  const fields = { app_id: appGuid, instance_id: instanceGuid, instance_index: instanceIndex };
  const known = Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== ""));
  return create(MetadataSchema, { filterMetadata: { [IDENTITY_NAMESPACE]: known, ...(isTls && TLS_MARK) } });
}
