import { describe, expect, it } from "vitest";
import { OpinionJudge } from "./opinion-judge.js";

const following = (lastSyncMs: number) => ({ state: "following" as const, lastSyncMs, lastError: undefined });
const retrying = (lastSyncMs?: number) => ({ state: "retrying" as const, lastSyncMs, lastError: "it is down" });
const STARTING = { state: "starting" as const, lastSyncMs: undefined, lastError: undefined };

describe("a second opinion", () => {
  it("is asked for once the source has failed for long enough, and kept until it was read completely again", () => {
    const judge = new OpinionJudge(5_000);
    expect(judge.look(following(1), 0)).toBe(false);
    expect(judge.look(retrying(1), 1_000)).toBeUndefined();
    expect(judge.look(retrying(1), 5_999)).toBeUndefined();
    expect(judge.look(retrying(1), 6_000)).toBe(true);
    // It answers, but what it was asked since is a part only.
    expect(judge.look(following(1), 7_000)).toBe(true);
    expect(judge.look(following(8_000), 8_000)).toBe(false);
  });

  it("is not asked for when the source fails for a moment, however often", () => {
    const judge = new OpinionJudge(5_000);
    for (let nowMs = 0; nowMs < 60_000; nowMs += 4_000) {
      expect(judge.look(retrying(1), nowMs)).toBeUndefined();
      expect(judge.look(following(1), nowMs + 2_000)).toBe(false);
    }
  });

  it("is asked for when the source could never be read, and an earlier one stands until either is known", () => {
    const judge = new OpinionJudge(5_000);
    expect(judge.look(STARTING, 0)).toBeUndefined();
    expect(judge.look(retrying(), 1_000)).toBeUndefined();
    expect(judge.look(retrying(), 6_000)).toBe(true);
    expect(judge.look(following(9_000), 9_000)).toBe(false);
  });
});
