/**
 * What becomes of long values in a line for an app's own log. Gorouter sends those in datagrams, which hold so much; what
 * reads them after it knows these words.
 *
 * Source   accesslog/schema/access_log_record.go of Gorouter, routing-release.
 */

/** A line up to this size has its values whole. */
export const MAX_LINE_BYTES = 65_400;

/** Of headers that a browser sends, and of the URI. All extra headers have as much as the URI between them. */
export const SMALL_BYTES = 1_000;
export const LARGE_BYTES = 20_000;

/** Stands for the extra headers that have no place. */
export const HEADERS_CUT = "...EXTRA-REQUEST-HEADERS-TOO-LONG-TO-LOG--TRUNCATED";

/** Halves a value until it has at most so many bytes with the words that say so; a byte in each character. */
export function cutTo(value: string, name: string, maxBytes: number): string {
  let cut = value;
  while (cut.length > maxBytes)
    cut = `${cut.slice(0, Math.floor(cut.length / 2))}...${name}-TOO-LONG-TO-LOG--TRUNCATED`;
  return cut;
}
