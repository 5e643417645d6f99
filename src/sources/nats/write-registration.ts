/**
 * Entries as bytes, field by field: protobuf-es takes several times as long, and a foundation's first round of
 * registrations has to be taken as fast as it comes.
 *
 * Source   protobuf.dev, "Encoding".
 */
import { MAX_MESSAGE_BYTES, type RegisteredEndpoint } from "./message.js";
import type { UriPlace } from "../uri.js";

const VARINT = 0;
const LENGTH_DELIMITED = 2;
const MORE = 0x80;
const MAX_INT32 = 0x7fffffff;
/** No text takes more bytes here than in the message; the rest is for tags and lengths, of up to 9,000 policy sources too. */
const scratch = Buffer.allocUnsafe(MAX_MESSAGE_BYTES + 64 * 1_024);
let end = 0;

/** The same bytes as encodeRegistration gives for the endpoint at this place; proto/mesh/v1/entries.proto has the numbers. */
export function writeRegistration(
  endpoint: RegisteredEndpoint,
  { host, path }: UriPlace,
  staleThresholdSeconds: number,
): Uint8Array {
  end = 0;
  writeText(1, host);
  writeText(2, path);
  writeText(3, endpoint.address);
  writeNumber(4, endpoint.port);
  writeNumber(5, endpoint.tls ? 1 : 0);
  writeText(6, endpoint.certSan);
  writeText(7, endpoint.protocol);
  writeText(8, endpoint.appGuid);
  writeText(9, endpoint.processGuid);
  writeText(10, endpoint.instanceGuid);
  writeText(11, endpoint.instanceIndex);
  writeText(12, endpoint.availabilityZone);
  writeText(13, endpoint.isolationSegment);
  if (endpoint.options) {
    const { loadbalancing, hashHeader, hashBalance, routePolicyScope, routePolicySources } = endpoint.options;
    writeMessage(14, [loadbalancing, hashHeader, hashBalance, routePolicyScope], routePolicySources);
  }
  writeText(15, endpoint.routeServiceUrl);
  writeInt64(16, endpoint.updatedAtNs);
  writeNumber(17, staleThresholdSeconds);
  for (const { name, value } of endpoint.tags) writeMessage(18, [name, value]);
  return new Uint8Array(scratch.subarray(0, end));
}

/** A message of texts, which are its fields from 1 on; `repeated` are those of the next one. None of them is empty. */
function writeMessage(field: number, texts: readonly string[], repeated: readonly string[] = []): void {
  writeVarint((field << 3) | LENGTH_DELIMITED);
  const length = [...texts, ...repeated].reduce((sum, text) => sum + fieldLength(Buffer.byteLength(text)), 0);
  writeVarint(length);
  for (const [index, text] of texts.entries()) writeText(index + 1, text);
  for (const text of repeated) writeText(texts.length + 1, text);
}

/** Bytes of a text's field with a number below 16. */
function fieldLength(textLength: number): number {
  if (textLength === 0) return 0;
  let lengthBytes = 1;
  for (let rest = textLength; rest >= MORE; rest >>>= 7) lengthBytes += 1;
  return 1 + lengthBytes + textLength;
}

/** An empty text, as a zero, is what a reader takes for a field that is not there. */
function writeText(field: number, text: string): void {
  if (text === "") return;
  writeVarint((field << 3) | LENGTH_DELIMITED);
  writeVarint(Buffer.byteLength(text));
  end += scratch.write(text, end);
}

function writeNumber(field: number, value: number): void {
  if (value === 0) return;
  writeVarint((field << 3) | VARINT);
  writeVarint(value);
}

function writeInt64(field: number, value: bigint): void {
  if (value === 0n) return;
  writeVarint((field << 3) | VARINT);
  let rest = BigInt.asUintN(64, value);
  while (rest > BigInt(MAX_INT32)) {
    scratch[end++] = Number(rest & 0x7fn) | MORE;
    rest >>= 7n;
  }
  writeVarint(Number(rest));
}

/** @param value below 2^31. */
function writeVarint(value: number): void {
  let rest = value;
  while (rest >= MORE) {
    scratch[end++] = (rest & (MORE - 1)) | MORE;
    rest >>>= 7;
  }
  scratch[end++] = rest;
}
