/** Log Cache's envelopes, in the JSON form of its protobuf: 64-bit numbers are strings, bytes are base64. */
import type { LogLine } from "../logs.js";

export interface Envelope {
  /** Unix time in nanoseconds. */
  readonly timestampNs: bigint;
  readonly line: LogLine;
}

const NS_PER_MS = 1_000_000n;

/**
 * Lines with a time of their own each: clients that follow a log ask for what is newer than the last one they have.
 * Lines of one millisecond keep their order.
 */
export function envelopesOf(lines: readonly LogLine[]): readonly Envelope[] {
  let lastNs = -1n;
  return lines.map((line) => {
    const ns = BigInt(Math.floor(line.timestampMs)) * NS_PER_MS;
    lastNs = ns > lastNs ? ns : lastNs + 1n;
    return { timestampNs: lastNs, line };
  });
}

/** `tags`: what is said of every line of the app. Source: loggregator-api v2, envelope.proto. */
export function presentEnvelope(
  sourceId: string,
  { timestampNs, line }: Envelope,
  tags: Readonly<Record<string, string>>,
): object {
  const slash = line.source.lastIndexOf("/");
  const instanceId = line.source.slice(slash + 1);
  return {
    timestamp: String(timestampNs),
    source_id: sourceId,
    instance_id: instanceId,
    deprecated_tags: {},
    tags: { ...tags, source_type: line.source.slice(0, Math.max(slash, 0)), instance_id: instanceId },
    log: {
      payload: Buffer.from(line.text).toString("base64"),
      type: line.stream === "stdout" ? "OUT" : "ERR",
    },
  };
}
