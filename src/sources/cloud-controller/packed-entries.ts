/** Values by guid, in a few large buffers: a million small ones would cost several times their bytes. */

const SLAB_BYTES = 1024 * 1024;
const LENGTH_BYTES = 4;

export class PackedEntries {
  readonly #slabs: Buffer[] = [];
  /** Slab number times SLAB_BYTES plus the offset in it. */
  readonly #places = new Map<string, number>();
  #free = SLAB_BYTES;

  get size(): number {
    return this.#places.size;
  }

  has(guid: string): boolean {
    return this.#places.has(guid);
  }

  /** The bytes are copied. What the guid had before is left behind: values are replaced seldom. */
  set(guid: string, value: Uint8Array): void {
    const needed = LENGTH_BYTES + value.length;
    if (this.#free + needed > SLAB_BYTES) {
      this.#slabs.push(Buffer.allocUnsafeSlow(Math.max(SLAB_BYTES, needed)));
      this.#free = 0;
    }
    const slab = this.#slabs.at(-1);
    if (slab === undefined) throw new Error("a full or missing slab is followed by a new one");
    slab.writeUInt32LE(value.length, this.#free);
    slab.set(value, this.#free + LENGTH_BYTES);
    this.#places.set(guid, (this.#slabs.length - 1) * SLAB_BYTES + this.#free);
    this.#free += needed;
  }

  delete(guid: string): void {
    this.#places.delete(guid);
  }

  /** In the order in which the guids came up first. Values are views, to be read and not kept. */
  *[Symbol.iterator](): IterableIterator<readonly [guid: string, value: Uint8Array]> {
    for (const [guid, place] of this.#places) {
      const slab = this.#slabs[Math.floor(place / SLAB_BYTES)];
      if (slab === undefined) throw new Error("places point into slabs");
      const start = (place % SLAB_BYTES) + LENGTH_BYTES;
      yield [guid, slab.subarray(start, start + slab.readUInt32LE(start - LENGTH_BYTES))];
    }
  }
}
