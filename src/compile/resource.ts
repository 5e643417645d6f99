import { createHash } from "node:crypto";
import { type DescMessage, type MessageShape, toBinary } from "@bufbuild/protobuf";

/** One named xDS message, encoded. */
export interface EncodedResource {
  readonly name: string;
  /** Content hash: same content, same version. */
  readonly version: string;
  /** The message's bytes; its type URL is known from where it was asked for. */
  readonly body: Uint8Array;
}

export function encodeResource<Desc extends DescMessage>(
  schema: Desc,
  name: string,
  message: MessageShape<Desc>,
): EncodedResource {
  const body = toBinary(schema, message);
  return { name, version: createHash("sha1").update(body).digest("base64url").slice(0, 12), body };
}
