/** Whether a process grows: its memory over time, as a straight line and what is certain of its slope. */

export interface MemorySample {
  /** Since the first sample. */
  readonly atMs: number;
  readonly bytes: number;
}

export interface Growth {
  /** By the line, when the warm-up ended. */
  readonly fromBytes: number;
  /** Of `fromBytes`. */
  readonly percentPerHour: number;
  /** Two standard errors of it: what the scatter around the line leaves open. */
  readonly marginPercentPerHour: number;
  /** From the end of the warm-up to the last sample. */
  readonly hours: number;
}

/** Caches fill, code is compiled and heaps find their size in the first part of a run. */
const WARM_UP_PART = 1 / 3;
/** Neighbouring samples are alike: only means of so many pieces scatter independently enough to be counted. */
const BLOCKS = 12;
/** A line through fewer says nothing about its scatter. */
const LEAST_BLOCKS = 4;
const MS_PER_HOUR = 3_600_000;

/** For ever, no process may grow by more. */
const LONG_RUN_LIMIT = 10;
/** A heap that still settles may take so much in the whole time that is looked at. */
const SETTLING_PERCENT = 3;

/** The slope that a run of this length may show at most, in percent per hour. */
export const growthLimit = (hours: number): number => LONG_RUN_LIMIT + SETTLING_PERCENT / hours;

/** Throws a plain Error for samples that are too few or too close. */
export function growthOf(samples: readonly MemorySample[]): Growth {
  const lastMs = samples.at(-1)?.atMs ?? 0;
  const beginMs = lastMs * WARM_UP_PART;
  const points = blockMeans(
    samples.filter(({ atMs }) => atMs >= beginMs),
    beginMs,
    lastMs,
  );
  if (points.length < LEAST_BLOCKS) throw new Error(`${samples.length} samples are too few to see growth`);
  const { intercept, slope, standardError } = fitLine(
    points.map(({ atMs, bytes }) => ({ x: (atMs - beginMs) / MS_PER_HOUR, y: bytes })),
  );
  return {
    fromBytes: intercept,
    percentPerHour: (100 * slope) / intercept,
    marginPercentPerHour: (200 * standardError) / intercept,
    hours: (lastMs - beginMs) / MS_PER_HOUR,
  };
}

function blockMeans(samples: readonly MemorySample[], beginMs: number, endMs: number): readonly MemorySample[] {
  const blocks = Array.from({ length: BLOCKS }, (): MemorySample[] => []);
  for (const sample of samples) {
    const index = Math.floor((BLOCKS * (sample.atMs - beginMs)) / (endMs - beginMs));
    blocks[Math.min(BLOCKS - 1, index)]?.push(sample);
  }
  return blocks
    .filter((block) => block.length > 0)
    .map((block) => ({ atMs: mean(block.map(({ atMs }) => atMs)), bytes: mean(block.map(({ bytes }) => bytes)) }));
}

interface Point {
  readonly x: number;
  readonly y: number;
}

/** Least squares. `standardError` is the slope's. */
function fitLine(points: readonly Point[]): { intercept: number; slope: number; standardError: number } {
  const meanX = mean(points.map(({ x }) => x));
  const meanY = mean(points.map(({ y }) => y));
  const spread = sum(points.map(({ x }) => (x - meanX) ** 2));
  const slope = sum(points.map(({ x, y }) => (x - meanX) * (y - meanY))) / spread;
  const intercept = meanY - slope * meanX;
  const scatter = sum(points.map(({ x, y }) => (y - intercept - slope * x) ** 2)) / (points.length - 2);
  return { intercept, slope, standardError: Math.sqrt(scatter / spread) };
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
const mean = (values: readonly number[]) => sum(values) / values.length;
