/**
 * Envelopes of loggregator's v2 API that hold a line of an app's log, as they stand in a batch. A line comes for each
 * request, so that what all lines of an instance have alike is made once.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { EnvelopeBatchSchema, EnvelopeSchema, LogSchema } from "../gen/loggregator/v2/loggregator_pb.js";
import { fieldLength, ProtobufWriter } from "../lib/protobuf-writer.js";

export interface LogSource {
  /** Guid of the app. */
  readonly sourceId: string;
  /** Which of several that are alike wrote it: "0". */
  readonly instanceId: string;
  readonly tags: Readonly<Record<string, string>>;
}

/** Fields of an envelope. */
export type EncodedSource = Uint8Array;

const BATCH = EnvelopeBatchSchema.field.batch.number;
const TIMESTAMP = EnvelopeSchema.field.timestamp.number;
const LOG = EnvelopeSchema.field.log.number;
const PAYLOAD = LogSchema.field.payload.number;

export function encodeSource({ sourceId, instanceId, tags }: LogSource): EncodedSource {
  return toBinary(EnvelopeSchema, create(EnvelopeSchema, { sourceId, instanceId, tags: { ...tags } }));
}

/**
 * A line of standard output. Envelopes one behind the other are a batch.
 *
 * @param timestampNs  Unix time in nanoseconds
 */
export function encodeLine(source: EncodedSource, timestampNs: bigint, line: string): Buffer {
  const timestamp = new BinaryWriter().tag(TIMESTAMP, WireType.Varint).int64(timestampNs).finish();
  const payloadLength = Buffer.byteLength(line);
  const logLength = fieldLength(payloadLength);
  const length = source.length + timestamp.length + fieldLength(logLength);
  const writer = new ProtobufWriter(fieldLength(length));
  writer.message(BATCH, length);
  writer.fields(source);
  writer.fields(timestamp);
  writer.message(LOG, logLength);
  writer.text(PAYLOAD, line, payloadLength);
  return writer.buffer;
}
