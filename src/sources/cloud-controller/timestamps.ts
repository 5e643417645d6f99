/**
 * How far reads of what is new reach back behind the Cloud Controller's clock: its timestamps have whole seconds, its
 * machines differ a little, and a transaction shows its rows later than it stamps them.
 */
export const OVERLAP_MS = 10_000;

/** Unix ms in the form that the API's filters take, rounded down to the second. */
export function timestampOf(unixMs: number): string {
  return new Date(Math.max(0, unixMs)).toISOString().replace(/\.\d+Z$/, "Z");
}
