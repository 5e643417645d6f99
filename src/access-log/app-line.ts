/** A request as a line of the log of the app that it went to: Gorouter's line, within bounds. */
import { gorouterLine, type LineOptions, responseTimeUs } from "./access-line.js";
import { MAX_LINE_BYTES } from "./cut.js";
import type { RequestRecord } from "./record.js";

const NS_PER_US = 1_000n;

/**
 * @param whole  Gorouter's line of the request, where the caller has it already
 *
 * Returns  UTF-8.
 */
export type AppLineWriter = (record: RequestRecord, whole?: string) => Buffer;

export function appLineWriter(options: LineOptions): AppLineWriter {
  return (record, whole = gorouterLine(record, options)) => {
    const bytes = Buffer.from(whole);
    if (bytes.length <= MAX_LINE_BYTES) return bytes;
    // Host and method are never cut, and quotes may take four bytes for one: a datagram of Gorouter's would be lost.
    return Buffer.from(gorouterLine(record, options, true)).subarray(0, MAX_LINE_BYTES);
  };
}

/** When the request ended, Unix time in nanoseconds: Gorouter stamps its lines then. */
export function endedNs(record: RequestRecord): bigint {
  return record.startNs + BigInt(responseTimeUs(record)) * NS_PER_US;
}
