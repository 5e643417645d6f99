import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { KeyIndex } from "./key-index.js";
import type { LogEntry } from "./log.js";

/** An index over entries that are written as a log writes them: a key's former entry goes before the new one is set. */
function indexed() {
  const entries = new Map<number, LogEntry>();
  const sequences = new Map<string, number>();
  const index = new KeyIndex((sequence) => entries.get(sequence));
  let sequence = 0;
  return {
    index,
    write: (key: string): number => {
      entries.delete(sequences.get(key) ?? 0);
      sequence += 1;
      entries.set(sequence, { key, sequence, value: undefined });
      sequences.set(key, sequence);
      index.set(key, sequence);
      return sequence;
    },
    drop: (key: string): void => {
      entries.delete(sequences.get(key) ?? 0);
      sequences.delete(key);
      index.delete(key);
    },
    expected: (key: string) => sequences.get(key),
  };
}

describe("KeyIndex", () => {
  it("finds each key's last entry, whatever is written and dropped", () => {
    const key = fc.nat({ max: 3_000 }).map((number) => `route.cc.${number}`);
    fc.assert(
      fc.property(fc.array(fc.record({ key, isDrop: fc.boolean() }), { maxLength: 4_000, size: "max" }), (steps) => {
        const { index, write, drop, expected } = indexed();
        for (const step of steps)
          if (step.isDrop) drop(step.key);
          else write(step.key);
        for (const { key: name } of steps) expect(index.find(name)?.sequence).toBe(expected(name));
      }),
      { numRuns: 30 },
    );
  });

  it("tells keys apart that have the same hash", () => {
    const sequences = new Map<string, string>();
    const { index, write, drop } = indexed();
    // 200,000 keys in 2^32 hashes: some 4 pairs share one.
    for (let number = 0; number < 200_000; number += 1) sequences.set(`k.${number}`, `${write(`k.${number}`)}`);
    const wrong = (expected: (key: string) => string) =>
      [...sequences.keys()].filter((key) => `${index.find(key)?.sequence}` !== expected(key));
    expect(wrong((key) => sequences.get(key) ?? "")).toEqual([]);
    for (let number = 0; number < 200_000; number += 2) drop(`k.${number}`);
    expect(wrong((key) => (Number(key.slice(2)) % 2 === 0 ? "undefined" : (sequences.get(key) ?? "")))).toEqual([]);
  });

  it("takes no more room for keys that are written again and again, or come and go", () => {
    const { index, write, drop } = indexed();
    for (let round = 0; round < 5_000; round += 1) {
      write("same");
      write(`other.${round}`);
      drop(`other.${round}`);
    }
    expect(index.size).toBe(1);
  });
});
