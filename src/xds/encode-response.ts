/**
 * A delta xDS response as bytes. Written by hand where others are left to protobuf-es, because a router starts with a
 * response per 20,000 scopes: one buffer of the exact size instead of three messages for each of them.
 *
 * Source   envoy/service/discovery/v3/discovery.proto, and google/protobuf/any.proto, for the numbers of the fields.
 */
import { fieldLength, ProtobufWriter } from "../lib/protobuf-writer.js";
import type { XdsResource } from "./resources.js";

export interface DeltaResponse {
  readonly typeUrl: string;
  readonly nonce: string;
  readonly resources: readonly XdsResource[];
  /** Names of those that the proxy is to drop. */
  readonly removedResources: readonly string[];
}

const RESPONSE = { resources: 2, typeUrl: 4, nonce: 5, removedResources: 6 } as const;
const RESOURCE = { version: 1, resource: 2, name: 3 } as const;
const ANY = { typeUrl: 1, value: 2 } as const;

const textLength = (text: string) => fieldLength(Buffer.byteLength(text));

export function encodeResponse({ typeUrl, nonce, resources, removedResources }: DeltaResponse): Buffer {
  const typeUrlLength = Buffer.byteLength(typeUrl);
  const anyLength = ({ body }: XdsResource) => fieldLength(typeUrlLength) + fieldLength(body.length);
  const lengths = resources.map(
    (resource) => textLength(resource.version) + fieldLength(anyLength(resource)) + textLength(resource.name),
  );
  const size =
    lengths.reduce((sum, length) => sum + fieldLength(length), 0) +
    removedResources.reduce((sum, name) => sum + textLength(name), 0) +
    textLength(typeUrl) +
    textLength(nonce);

  const writer = new ProtobufWriter(size);
  resources.forEach((resource, place) => {
    writer.message(RESPONSE.resources, lengths[place] ?? 0);
    writer.text(RESOURCE.version, resource.version);
    writer.message(RESOURCE.resource, anyLength(resource));
    writer.text(ANY.typeUrl, typeUrl, typeUrlLength);
    writer.bytes(ANY.value, resource.body);
    writer.text(RESOURCE.name, resource.name);
  });
  writer.text(RESPONSE.typeUrl, typeUrl);
  writer.text(RESPONSE.nonce, nonce);
  for (const name of removedResources) writer.text(RESPONSE.removedResources, name);
  return writer.buffer;
}
