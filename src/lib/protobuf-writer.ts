/**
 * Protobuf's wire format, for the few messages that are written by the million; all others are left to protobuf-es.
 * Fields with a length before their content, and flags. The caller computes the size first, so that nothing is copied.
 *
 * Source   protobuf.dev, "Encoding".
 */
const VARINT = 0;
const LENGTH_DELIMITED = 2;
const MORE = 0x80;

/** Bytes of a field (number 1 to 15): its tag, its length, and `length` bytes of content. */
export function fieldLength(length: number): number {
  let lengthBytes = 1;
  for (let rest = length; rest >= MORE; rest = Math.floor(rest / MORE)) lengthBytes += 1;
  return 1 + lengthBytes + length;
}

/** Bytes of a flag that is set. */
export const FLAG_LENGTH = 2;

export class ProtobufWriter {
  readonly buffer: Buffer;
  #end = 0;

  /** @param size in bytes, exactly: what is not written holds anything. */
  constructor(size: number) {
    this.buffer = Buffer.allocUnsafe(size);
  }

  /** Begins a message: `length` bytes are to follow. */
  message(field: number, length: number): void {
    this.buffer[this.#end++] = (field << 3) | LENGTH_DELIMITED;
    let rest = length;
    for (; rest >= MORE; rest = Math.floor(rest / MORE)) this.buffer[this.#end++] = (rest % MORE) | MORE;
    this.buffer[this.#end++] = rest;
  }

  /** @param length of the text in bytes. */
  text(field: number, text: string, length = Buffer.byteLength(text)): void {
    this.message(field, length);
    this.#end += this.buffer.write(text, this.#end);
  }

  bytes(field: number, bytes: Uint8Array): void {
    this.message(field, bytes.length);
    this.fields(bytes);
  }

  /** Fields that are written already. */
  fields(bytes: Uint8Array): void {
    this.buffer.set(bytes, this.#end);
    this.#end += bytes.length;
  }

  setFlag(field: number): void {
    this.buffer[this.#end++] = (field << 3) | VARINT;
    this.buffer[this.#end++] = 1;
  }
}
