/**
 * The records in what Envoy's OpenTelemetry access logger sends: an ExportLogsServiceRequest of
 * opentelemetry/proto/collector/logs/v1. Read from its bytes without decoding the rest: there is one for each request.
 */
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";

/** The path of the gRPC method, which answers an empty message. */
export const EXPORT_LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/** Numbers of the fields that lead to a record: resource_logs, scope_logs, log_records. */
const WAY = [1, 2, 2] as const;
/** Fields of LogRecord, and of AnyValue. */
const TIME_UNIX_NANO = 1;
const BODY = 5;
const STRING_VALUE = 1;

export interface LogRecord {
  /** Unix time in nanoseconds. */
  readonly startNs: bigint;
  /** A byte in each character. */
  readonly text: string;
}

/** Throws when the bytes are no message. */
export function* logRecords(message: Buffer): Iterable<LogRecord> {
  for (const bytes of inside([message], WAY)) {
    const reader = new BinaryReader(bytes);
    let startNs = 0n;
    let text = "";
    while (reader.pos < reader.len) {
      const [field, wireType] = reader.tag();
      if (field === TIME_UNIX_NANO && wireType === WireType.Bit64) startNs = BigInt(reader.fixed64());
      else if (field === BODY && wireType === WireType.LengthDelimited) text = stringValue(reader.bytes());
      else reader.skip(wireType);
    }
    yield { startNs, text };
  }
}

/** The messages at the end of a way of fields. */
function* inside(messages: Iterable<Uint8Array>, [next, ...rest]: readonly number[]): Iterable<Uint8Array> {
  if (next === undefined) yield* messages;
  else for (const message of messages) yield* inside(fields(message, next), rest);
}

function* fields(message: Uint8Array, wanted: number): Iterable<Uint8Array> {
  const reader = new BinaryReader(message);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === wanted && wireType === WireType.LengthDelimited) yield reader.bytes();
    else reader.skip(wireType);
  }
}

function stringValue(anyValue: Uint8Array): string {
  for (const { buffer, byteOffset, byteLength } of fields(anyValue, STRING_VALUE)) {
    return Buffer.from(buffer, byteOffset, byteLength).toString("latin1");
  }
  return "";
}
