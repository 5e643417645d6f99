/** What the benchmarks measure, and what it is judged by. */

export const PARTS = [
  "log",
  "jetstream",
  "sync",
  "nats",
  "start",
  "memory",
  "cold",
  "changes",
  "cpu",
  "features",
] as const;
export type Part = (typeof PARTS)[number];

/** What results are kept of; the soak is a command of its own, as it runs for as long as it is told. */
export const RECORDED_PARTS = [...PARTS, "soak"] as const;
export type RecordedPart = (typeof RECORDED_PARTS)[number];

/** In the unit of what is measured. */
export type Goal = { readonly atMost: number } | { readonly atLeast: number };

export interface Measurement {
  readonly what: string;
  readonly value: number;
  readonly unit: string;
  readonly goal?: Goal | undefined;
  /** How it came about: samples, spread, what else is in it. */
  readonly note?: string | undefined;
}

/** How many times as bad as the goal: at most 1 when it is met; without end where nothing at all was wanted. */
export function shareOfGoal({ value }: Measurement, goal: Goal): number {
  if ("atLeast" in goal) return goal.atLeast / value;
  return value === 0 ? 0 : value / goal.atMost;
}
