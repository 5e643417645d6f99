/**
 * Takes the messages out of a protobuf response while its bytes come. A list of 250,000 actual LRPs is some 150 MB:
 * decoded at once it would stop the event loop for seconds, and take several times that in memory.
 */
import { ProtocolViolation } from "../protocol-violation.js";

/** One actual LRP is about 1 KB. */
const MAX_MESSAGE_BYTES = 1024 * 1024;

const VARINT = 0;
const FIXED_64 = 1;
const LENGTH_DELIMITED = 2;
const FIXED_32 = 5;

/** A field of the response that holds a message. */
export interface MessageField {
  readonly number: number;
  /** Valid until the next feed. */
  readonly bytes: Uint8Array;
}

export class MessageSplitter {
  #pending: Uint8Array = new Uint8Array(0);

  /** True where a response may end: no field is half read. */
  get complete(): boolean {
    return this.#pending.length === 0;
  }

  /**
   * Returns  the message fields that these bytes complete; scalar fields are skipped.
   * Throws   ProtocolViolation for what is no protobuf, or a message of more than 1 MB.
   */
  feed(bytes: Uint8Array): readonly MessageField[] {
    const all = this.#pending.length === 0 ? bytes : Buffer.concat([this.#pending, bytes]);
    const fields: MessageField[] = [];
    let offset = 0;
    for (;;) {
      const field = readField(all, offset);
      if (field === undefined) break;
      offset = field.end;
      if (field.start !== undefined) fields.push({ number: field.number, bytes: all.subarray(field.start, field.end) });
    }
    // A copy: the rest of the buffer must not be kept for a few bytes.
    this.#pending = Uint8Array.from(all.subarray(offset));
    return fields;
  }
}

export interface FieldPosition {
  readonly number: number;
  /** undefined for scalars. */
  readonly start: number | undefined;
  readonly end: number;
}

/** undefined: the field goes on beyond these bytes. Throws ProtocolViolation for what is no protobuf. */
export function readField(bytes: Uint8Array, offset: number): FieldPosition | undefined {
  const tag = readVarint(bytes, offset);
  if (tag === undefined) return undefined;
  const number = Math.floor(tag.value / 8);
  if (number === 0) throw new ProtocolViolation("it is no protobuf: a field has the number 0");
  const scalar = (end: number) => (end > bytes.length ? undefined : { number, start: undefined, end });
  switch (tag.value % 8) {
    case VARINT: {
      const value = readVarint(bytes, tag.end);
      return value && scalar(value.end);
    }
    case FIXED_64:
      return scalar(tag.end + 8);
    case FIXED_32:
      return scalar(tag.end + 4);
    case LENGTH_DELIMITED: {
      const length = readVarint(bytes, tag.end);
      if (length === undefined) return undefined;
      if (length.value > MAX_MESSAGE_BYTES)
        throw new ProtocolViolation("it is no protobuf: a message of more than 1 MB");
      const end = length.end + length.value;
      return end > bytes.length ? undefined : { number, start: length.end, end };
    }
    default:
      throw new ProtocolViolation("it is no protobuf: a field has an unknown wire type");
  }
}

function readVarint(bytes: Uint8Array, offset: number): { readonly value: number; readonly end: number } | undefined {
  let value = 0;
  for (let index = 0; index < 10; index += 1) {
    const byte = bytes[offset + index];
    if (byte === undefined) return undefined;
    value += (byte & 0x7f) * 2 ** (7 * index);
    if (byte < 0x80) return { value, end: offset + index + 1 };
  }
  throw new ProtocolViolation("it is no protobuf: a number of more than 10 bytes");
}
