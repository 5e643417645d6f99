import type { LogEntry } from "./log.js";

/** A power of two. */
const INITIAL_SLOTS = 1_024;
const MAX_LOAD = 0.7;

/**
 * Where a key was written last: a hash table of (hash of the key, sequence), 12 bytes a slot outside the JS heap. It
 * holds no keys: what it says is a hint, which the entry itself proves. Open addressing, linear probing; sequence 0
 * marks a free slot.
 *
 * LMDB could hold this, too. But keys are random, and each write would touch a page of its own there: measured with
 * batches of 900 new keys, 22 ms a batch instead of 6.
 */
export class KeyIndex {
  readonly #entryAt: (sequence: number) => LogEntry | undefined;
  #hashes = new Uint32Array(INITIAL_SLOTS);
  #sequences = new Float64Array(INITIAL_SLOTS);
  #size = 0;

  /** `entryAt` reads the entry with a sequence; undefined when there is none any more. */
  constructor(entryAt: (sequence: number) => LogEntry | undefined) {
    this.#entryAt = entryAt;
  }

  /** How many keys it holds. */
  get size(): number {
    return this.#size;
  }

  /** The key's last entry, a delete marker too; undefined when the log has none. */
  find(key: string): LogEntry | undefined {
    const hash = hashOf(key);
    const mask = this.#sequences.length - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const sequence = this.#sequences[slot] ?? 0;
      if (sequence === 0) return undefined;
      if (this.#hashes[slot] !== hash) continue;
      const entry = this.#entryAt(sequence);
      if (entry?.key === key) return entry;
    }
  }

  /** The key's last entry has this sequence now. */
  set(key: string, sequence: number): void {
    const hash = hashOf(key);
    const slot = this.#slotFor(key, hash);
    if (this.#sequences[slot] === 0) this.#size += 1;
    this.#hashes[slot] = hash;
    this.#sequences[slot] = sequence;
    if (this.#size > this.#sequences.length * MAX_LOAD) this.#grow();
  }

  /** Forgets a key whose entry is gone from the log. */
  delete(key: string): void {
    let free = this.#slotFor(key, hashOf(key));
    if (this.#sequences[free] === 0) return;
    this.#size -= 1;
    const mask = this.#sequences.length - 1;
    // Later ones of the same run move up, so that a search never meets a gap before its key.
    for (let slot = (free + 1) & mask; this.#sequences[slot] !== 0; slot = (slot + 1) & mask) {
      const home = (this.#hashes[slot] ?? 0) & mask;
      if (((slot - home) & mask) < ((slot - free) & mask)) continue;
      this.#hashes[free] = this.#hashes[slot] ?? 0;
      this.#sequences[free] = this.#sequences[slot] ?? 0;
      free = slot;
    }
    this.#sequences[free] = 0;
  }

  /** The slot of the key; else one of its hash whose entry is gone (most likely its former one); else a free one. */
  #slotFor(key: string, hash: number): number {
    const mask = this.#sequences.length - 1;
    let gone: number | undefined;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const sequence = this.#sequences[slot] ?? 0;
      if (sequence === 0) return gone ?? slot;
      if (this.#hashes[slot] !== hash) continue;
      const entry = this.#entryAt(sequence);
      if (entry?.key === key) return slot;
      if (entry === undefined) gone ??= slot;
    }
  }

  #grow(): void {
    const hashes = this.#hashes;
    const sequences = this.#sequences;
    this.#hashes = new Uint32Array(hashes.length * 2);
    this.#sequences = new Float64Array(sequences.length * 2);
    const mask = this.#sequences.length - 1;
    for (let from = 0; from < sequences.length; from += 1) {
      const sequence = sequences[from] ?? 0;
      if (sequence === 0) continue;
      const hash = hashes[from] ?? 0;
      let to = hash & mask;
      while (this.#sequences[to] !== 0) to = (to + 1) & mask;
      this.#hashes[to] = hash;
      this.#sequences[to] = sequence;
    }
  }
}

/** FNV-1a over the characters, with the last mixing steps of MurmurHash3: linear probing needs its low bits good. */
function hashOf(key: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i += 1) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
