/** A request as a line of the log of the app that it went to: Gorouter's line, within bounds. */
import { gorouterLine, type LineOptions, responseTimeUs } from "./access-line.js";
import { MAX_LINE_BYTES } from "./cut.js";
import type { RequestRecord } from "./record.js";

const NS_PER_US = 1_000n;

/** @param whole  Gorouter's line of the request, where the caller has it already */
export type AppLineWriter = (record: RequestRecord, whole?: string) => string;

export function appLineWriter(options: LineOptions): AppLineWriter {
  return (record, whole = gorouterLine(record, options)) =>
    Buffer.byteLength(whole) <= MAX_LINE_BYTES ? whole : ended(gorouterLine(record, options, true));
}

/** Host and method are never cut, and quotes may take four bytes for one: a datagram of Gorouter's would be lost. */
function ended(line: string): string {
  const bytes = Buffer.from(line);
  if (bytes.length <= MAX_LINE_BYTES) return line;
  // No character is left half.
  return new TextDecoder().decode(bytes.subarray(0, MAX_LINE_BYTES), { stream: true });
}

/** When the request ended, Unix time in nanoseconds: Gorouter stamps its lines then. */
export function endedNs(record: RequestRecord): bigint {
  return record.startNs + BigInt(Math.trunc(responseTimeUs(record))) * NS_PER_US;
}
