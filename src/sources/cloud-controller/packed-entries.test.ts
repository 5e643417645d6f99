import { describe, expect, it } from "vitest";
import { PackedEntries } from "./packed-entries.js";

describe("packed entries", () => {
  it("give back what was put in, over many slabs", () => {
    const packed = new PackedEntries();
    const values = new Map(
      Array.from({ length: 5000 }, (_, index) => [`g-${index}`, Buffer.alloc(index % 1000, index)]),
    );
    for (const [guid, value] of values) packed.set(guid, value);
    packed.set("large", Buffer.alloc(3_000_000, 7));
    packed.set("after", Buffer.from("x"));
    values.set("large", Buffer.alloc(3_000_000, 7)).set("after", Buffer.from("x"));
    expect(packed.size).toBe(values.size);
    for (const [guid, value] of packed) expect(values.get(guid)?.equals(value)).toBe(true);
  });

  it("have the newest value of a guid, and forget deleted ones", () => {
    const packed = new PackedEntries();
    packed.set("a", Buffer.from("old"));
    packed.set("b", Buffer.from("gone"));
    packed.set("a", Buffer.from("new"));
    packed.delete("b");
    expect([...packed].map(([guid, value]) => [guid, Buffer.from(value).toString()])).toEqual([["a", "new"]]);
    expect([packed.has("a"), packed.has("b")]).toEqual([true, false]);
  });
});
