/** The smallest sample that at least this part of all samples does not exceed (nearest rank); `part` is 0 to 1. */
export function quantile(samples: readonly number[], part: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  const value = sorted[Math.max(0, Math.ceil(sorted.length * part) - 1)];
  if (value === undefined) throw new Error("no samples, no quantile");
  return value;
}

export const median = (samples: readonly number[]): number => quantile(samples, 0.5);
