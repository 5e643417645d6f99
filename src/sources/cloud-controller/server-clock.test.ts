import { expect, it } from "vitest";
import { ServerClock } from "./server-clock.js";

const NOW = Date.parse("2026-01-01T00:00:00Z");
const HOUR_MS = 3_600_000;

function clockAt(startMs: number) {
  let nowMs = startMs;
  const clock = new ServerClock({ now: () => nowMs, sleep: () => Promise.resolve() });
  return { clock, pass: (ms: number) => (nowMs += ms) };
}

it("is what the latest answer told, however far from our own time", () => {
  const { clock, pass } = clockAt(NOW);
  expect(clock.latestMs).toBeUndefined();
  clock.saw(NOW + HOUR_MS);
  pass(5_000);
  clock.saw(NOW + HOUR_MS + 5_000);
  expect(clock.latestMs).toBe(NOW + HOUR_MS + 5_000);
});

it("does not leap ahead with one answer, nor with one of two servers", () => {
  const { clock, pass } = clockAt(NOW);
  for (let second = 0; second < 300; second += 1) {
    clock.saw(NOW + second * 1_000);
    clock.saw(NOW + second * 1_000 + HOUR_MS);
    expect(clock.latestMs).toBe(NOW + second * 1_000);
    pass(1_000);
  }
});

it("goes on from a time ahead that was told for a minute: the server's clock was set", () => {
  const { clock, pass } = clockAt(NOW);
  clock.saw(NOW);
  clock.saw(NOW + HOUR_MS);
  pass(59_000);
  clock.saw(NOW + HOUR_MS + 59_000);
  expect(clock.latestMs).toBe(NOW);
  pass(1_000);
  clock.saw(NOW + HOUR_MS + 60_000);
  expect(clock.latestMs).toBe(NOW + HOUR_MS + 60_000);
});

it("goes back at once", () => {
  const { clock } = clockAt(NOW);
  clock.saw(NOW + HOUR_MS);
  clock.saw(NOW);
  expect(clock.latestMs).toBe(NOW);
});
