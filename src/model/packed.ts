/**
 * Entries as they are kept: the bytes that they came as, in a string of one byte per character. A decoded message costs
 * several times that, a buffer of its own about 100 bytes more.
 */

export function pack(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

export function unpack(packed: string): Uint8Array {
  return Buffer.from(packed, "latin1");
}
