/**
 * What Envoy knows of an endpoint beside its address: whose it is, for headers and logs. A text in an endpoint's metadata costs
 * Envoy 2 kB, a hostname 250 bytes. So an instance's guid is its hostname (`%UPSTREAM_HOST_NAME%`, which is the address where
 * there is none), and metadata has what no hostname says, and what is not so by default.
 */
import { create } from "@bufbuild/protobuf";
import { type Metadata, MetadataSchema } from "../gen/envoy/config/core/v3/base_pb.js";
import { socketText } from "../lib/ip-address.js";
import type { Endpoint } from "../model/endpoints.js";
import { PLAIN_MARK } from "./app-tls.js";
import { IDENTITY_NAMESPACE } from "./names.js";

/** What `x-cf-instanceindex` says where the metadata has no other. */
export const DEFAULT_INSTANCE_INDEX = "0";

/** Envoy takes no empty value for one. */
const NOT_KNOWN = " ";

export interface EndpointLabels {
  /** The name in the certificate that it must show, or its instance's guid; "" for neither. */
  readonly hostname: string;
  /** `app_id`, `instance_id`, `instance_index`; undefined where there is nothing to say. */
  readonly metadata: Metadata | undefined;
}

export interface LabelOptions {
  /** The endpoints of its path are of several apps. */
  readonly namesApp: boolean;
  /** Endpoints without TLS are marked. */
  readonly dialsTls: boolean;
}

export function endpointLabels(endpoint: Endpoint, { namesApp, dialsTls }: LabelOptions): EndpointLabels {
  const { address, port, tls } = endpoint;
  const { appGuid, instanceGuid, instanceIndex } = endpoint.identity;
  const hostname = tls ? tls.certSan : instanceGuid;
  const identity = {
    ...(namesApp && { app_id: appGuid || NOT_KNOWN }),
    ...(hostname !== instanceGuid && { instance_id: instanceGuid || socketText(address, port) }),
    ...(instanceIndex !== DEFAULT_INSTANCE_INDEX && { instance_index: instanceIndex || NOT_KNOWN }),
  };
  const filterMetadata = {
    ...(Object.keys(identity).length > 0 && { [IDENTITY_NAMESPACE]: identity }),
    ...(dialsTls && !tls && PLAIN_MARK),
  };
  return {
    hostname,
    metadata: Object.keys(filterMetadata).length > 0 ? create(MetadataSchema, { filterMetadata }) : undefined,
  };
}
