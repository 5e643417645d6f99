import { describe, expect, it } from "vitest";
import { Backoff } from "./backoff.js";

describe("a backoff", () => {
  it("doubles its pauses up to the longest, and begins anew after a success", () => {
    const backoff = new Backoff(100, 1_000, () => 0);
    expect(Array.from({ length: 6 }, () => backoff.next())).toEqual([100, 200, 400, 800, 1_000, 1_000]);
    expect(backoff.attempts).toBe(6);
    backoff.reset();
    expect(backoff.next()).toBe(100);
  });

  it("shortens each pause by up to half, so that many do not come back together", () => {
    expect(new Backoff(100, 1_000, () => 1).next()).toBe(50);
  });
});
