/** Zip files for tests, also such as no honest tool makes. Entries are stored, not compressed. */

export interface ZipEntry {
  readonly name: string;
  readonly content?: string;
  /** Unix file type and permissions; left out: as a zip from a system that has none. */
  readonly mode?: number;
  /** What the entry claims its size to be. */
  readonly claimedSize?: number;
}

const FROM_UNIX = 3;

export function zip(entries: readonly ZipEntry[]): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const { name, content = "", mode, claimedSize } of entries) {
    const data = Buffer.from(content);
    const bytes = Buffer.from(name);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(0x800, 2);
    common.writeUInt32LE(crc32(data), 10);
    common.writeUInt32LE(data.length, 14);
    common.writeUInt32LE(claimedSize ?? data.length, 18);
    common.writeUInt16LE(bytes.length, 22);
    const local = Buffer.concat([Buffer.from("PK\x03\x04"), common, bytes, data]);
    const rest = Buffer.alloc(14);
    rest.writeUInt32LE(((mode ?? 0) << 16) >>> 0, 6);
    rest.writeUInt32LE(offset, 10);
    const madeBy = Buffer.from([20, mode === undefined ? 0 : FROM_UNIX]);
    directory.push(Buffer.concat([Buffer.from("PK\x01\x02"), madeBy, common, rest, bytes]));
    parts.push(local);
    offset += local.length;
  }
  const entriesAtEnd = Buffer.concat(directory);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(entries.length, 4);
  end.writeUInt16LE(entries.length, 6);
  end.writeUInt32LE(entriesAtEnd.length, 8);
  end.writeUInt32LE(offset, 12);
  return Buffer.concat([...parts, entriesAtEnd, Buffer.from("PK\x05\x06"), end]);
}

function crc32(data: Buffer): number {
  let crc = 0xffffffff;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}
