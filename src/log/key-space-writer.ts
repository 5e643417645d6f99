import type { MeshLog } from "./log.js";

/** A wanted value of a key; undefined wants it gone. */
export interface Want {
  readonly key: string;
  readonly value: Uint8Array | undefined;
}

export interface WriteCounts {
  readonly written: number;
  readonly deleted: number;
  readonly unchanged: number;
}

/** The one writer of a key space. Knows what stands in the log, and writes the differences only. */
export interface KeySpaceWriter {
  readonly keySpace: string;
  /** Makes these keys so, leaves the others as they are. */
  apply(wants: readonly Want[]): Promise<WriteCounts>;
  /** Makes the whole key space so: keys that do not come up are deleted. */
  replaceAll(wants: Iterable<Want>): Promise<WriteCounts>;
  /** The keys that have a value now. */
  keys(): IterableIterator<string>;
}

/** Reads the key space once, so that a restart with nothing new writes nothing. */
export declare function openKeySpaceWriter(log: MeshLog, keySpace: string): Promise<KeySpaceWriter>;
