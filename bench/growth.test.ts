import { describe, expect, it } from "vitest";
import { growthLimit, growthOf, type MemorySample } from "./growth.js";

const HOUR_MS = 3_600_000;
const MB = 1e6;

/** Of an hour, one every 10 s. */
function sampled(bytesAt: (hours: number, index: number) => number): readonly MemorySample[] {
  return Array.from({ length: 361 }, (_, index) => ({
    atMs: index * 10_000,
    bytes: bytesAt((index * 10_000) / HOUR_MS, index),
  }));
}

describe("growth", () => {
  it("is the slope of what came after the warm-up, by the value at its end", () => {
    const growth = growthOf(sampled((hours) => (hours < 1 / 3 ? 100 * hours : 80 + 60 * hours) * MB));
    expect(growth.fromBytes / MB).toBeCloseTo(100, 3);
    expect(growth.percentPerHour).toBeCloseTo(60, 3);
    expect(growth.marginPercentPerHour).toBeCloseTo(0, 3);
    expect(growth.hours).toBeCloseTo(2 / 3, 5);
  });

  it("is nothing certain where memory goes up and down, and no more", () => {
    const { percentPerHour, marginPercentPerHour } = growthOf(
      sampled((_, index) => (100 + ((index * 7919) % 31)) * MB),
    );
    expect(percentPerHour - marginPercentPerHour).toBeLessThan(0);
  });

  it("is seen through a heap that is collected from time to time", () => {
    const { percentPerHour, marginPercentPerHour } = growthOf(
      sampled((hours, index) => (100 + 50 * hours + ((index * 7919) % 31)) * MB),
    );
    expect(percentPerHour - marginPercentPerHour).toBeGreaterThan(growthLimit(2 / 3));
  });

  it("can't be told of too few samples", () => {
    expect(() => growthOf([])).toThrow("too few");
    expect(() => growthOf(sampled(() => MB).slice(0, 3))).toThrow("too few");
  });

  it("may be larger in a short run, where what settles shows as a steep line", () => {
    expect(growthLimit(0.05)).toBeCloseTo(70);
    expect(growthLimit(10)).toBeCloseTo(10.3);
  });
});
