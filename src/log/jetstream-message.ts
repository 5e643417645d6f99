/** How entries of the mesh log lie in a stream: one subject per key, the value as payload, what else there is as headers. */
import { headers, type MsgHdrs } from "@nats-io/transport-node";
import type { LogEntry, Write } from "./log.js";

export const subjectOf = (stream: string, key: string) => `${stream}.${key}`;

/** Matches all keys that begin with the prefix, and where tokens do not end with it, some more. */
export function subjectsOf(stream: string, prefix: string): string {
  const tokens = prefix.slice(0, prefix.lastIndexOf(".") + 1);
  return `${stream}.${tokens}>`;
}

/** What a server itself puts in the place of a message that it removed. */
const SERVER_MARKER = "Nats-Marker-Reason";
/** The word of key-value stores for a deletion. A server leaves no marker of its own when one of these expires. */
const OPERATION = "KV-Operation";
const DELETION = "PURGE";
const TTL = "Nats-TTL";
const EXPECTED = "Nats-Expected-Last-Subject-Sequence";
const MESSAGE_ID = "Nats-Msg-Id";
/** Source: ADR-50, JetStream batch publishing. */
const BATCH_ID = "Nats-Batch-Id";
const BATCH_SEQUENCE = "Nats-Batch-Sequence";
const BATCH_COMMIT = "Nats-Batch-Commit";

export interface StreamMessage {
  readonly subject: string;
  readonly data: Uint8Array;
  readonly headers?: MsgHdrs | undefined;
}

/** The entry in a message of the stream. */
export function entryOf(stream: string, sequence: number, message: StreamMessage): LogEntry {
  const key = message.subject.slice(stream.length + 1);
  return { key, sequence, value: isMarker(message) ? undefined : message.data };
}

function isMarker(message: StreamMessage): boolean {
  // Markers have no payload. The client parses headers when they are asked for, and that takes as long as all the rest.
  if (message.data.length > 0) return false;
  const { headers: given } = message;
  return given !== undefined && (given.get(OPERATION) === DELETION || given.has(SERVER_MARKER));
}

/** The messages of one atomic batch, without conditions. */
export class Batch {
  readonly id: string;
  readonly messages: readonly { readonly subject: string; readonly data: Uint8Array; readonly headers: MsgHdrs }[];

  /** @param expected by place in the batch: the sequence that the key's last message has to have, 0 for none */
  constructor(
    id: string,
    stream: string,
    writes: readonly Write[],
    expected: ReadonlyMap<number, number>,
    markerTtlMs: number,
  ) {
    this.id = id;
    this.messages = writes.map(({ key, value }, place) => {
      const given = headers();
      given.set(BATCH_ID, id);
      given.set(BATCH_SEQUENCE, `${place + 1}`);
      const sequence = expected.get(place);
      if (sequence !== undefined) given.set(EXPECTED, `${sequence}`);
      if (value === undefined) {
        given.set(OPERATION, DELETION);
        given.set(TTL, `${Math.ceil(markerTtlMs / 1_000)}s`);
      }
      if (place === writes.length - 1) {
        given.set(BATCH_COMMIT, "1");
        // A batch that is sent again because its answer was lost is known by it, and not applied twice.
        given.set(MESSAGE_ID, id);
      }
      return { subject: subjectOf(stream, key), data: value ?? new Uint8Array(), headers: given };
    });
  }

  /** The sequence of the batch's last message, if this is a message of it; else undefined. */
  lastSequence(message: { readonly seq: number; readonly header: MsgHdrs }): number | undefined {
    if (message.header.get(BATCH_ID) !== this.id) return undefined;
    return message.seq + this.messages.length - Number(message.header.get(BATCH_SEQUENCE));
  }
}
