import { describe, expect, it } from "vitest";
import type { Clock } from "../../lib/clock.js";
import { RequestBudget } from "./request-budget.js";

class ManualClock implements Clock {
  ms = 1_000_000;
  now(): number {
    return this.ms;
  }
  sleep(): Promise<void> {
    throw new Error("nobody sleeps here");
  }
}

function budget(requestsPerSecond = 2) {
  const clock = new ManualClock();
  return { clock, budget: new RequestBudget({ requestsPerSecond, resyncIntervalMs: 60_000, clock }) };
}

describe("the request budget", () => {
  it("gives looks what full reads leave, so that both together keep to it", () => {
    const { budget: two } = budget();
    expect(two.looksPerSecond).toBe(2);
    two.fullReadTook(18);
    expect(two.looksPerSecond + 18 / 60).toBeCloseTo(2);
  });

  it("makes full reads rarer before they take more than a quarter of it", () => {
    const { budget: two } = budget();
    two.fullReadTook(100);
    expect(two.fullReadPauseMs).toBe(200_000);
    expect(two.looksPerSecond).toBeCloseTo(1.5);
  });

  it("counts the requests of the last minute", () => {
    const { budget: two, clock } = budget();
    for (let second = 0; second < 90; second += 1) {
      clock.ms += 1_000;
      two.sent();
      two.sent();
    }
    expect(two.usage.lastMinute).toBe(120);
    clock.ms += 60_000;
    expect(two.usage.lastMinute).toBe(0);
  });

  it("slows looks down to what a rate limit leaves, with a tenth of the limit to spare", () => {
    const { budget: two, clock } = budget();
    two.limited({ limit: 1_000, remaining: 200, resetsInMs: 1_000_000 });
    expect(two.looksPerSecond).toBeCloseTo(0.1);
    two.limited({ limit: 1_000, remaining: 600, resetsInMs: 1_000_000 });
    expect(two.looksPerSecond).toBeCloseTo(0.5);
    expect(two.usage).toMatchObject({ rateLimit: 1_000, rateLimitRemaining: 600 });
    clock.ms += 1_000_000;
    expect(two.looksPerSecond).toBe(2);
    expect(two.usage.rateLimitRemaining).toBeUndefined();
  });

  it("never stops looking, however little a rate limit leaves", () => {
    const { budget: two } = budget();
    two.limited({ limit: 1_000, remaining: 0, resetsInMs: 3_600_000 });
    expect(two.looksPerSecond).toBeCloseTo(0.1);
  });

  it("puts a full read off until a rate limit has room for it", () => {
    const { budget: two } = budget();
    two.fullReadTook(20);
    two.limited({ limit: 1_000, remaining: 110, resetsInMs: 500_000 });
    expect(two.fullReadPauseMs).toBe(500_000);
    two.limited({ limit: 1_000, remaining: 130, resetsInMs: 500_000 });
    expect(two.fullReadPauseMs).toBe(60_000);
  });

  it("lets hints cost five times the budget on top of it, and no more", () => {
    const { budget: two } = budget();
    for (let request = 0; request < 719; request += 1) two.sent();
    expect(two.mayFollowHints).toBe(true);
    two.sent();
    expect(two.mayFollowHints).toBe(false);
  });

  it("has hints wait where a rate limit has nothing left but its tenth", () => {
    const { budget: two } = budget();
    two.limited({ limit: 1_000, remaining: 200, resetsInMs: 1_000_000 });
    expect(two.mayFollowHints).toBe(true);
    two.limited({ limit: 1_000, remaining: 100, resetsInMs: 1_000_000 });
    expect(two.mayFollowHints).toBe(false);
  });
});
