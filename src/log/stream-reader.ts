import { AckPolicy, type ConsumerMessages, DeliverPolicy, jetstream, type JsMsg } from "@nats-io/jetstream";
import { nanos } from "@nats-io/transport-node";
import type { Connected } from "./jetstream-connection.js";
import { entryOf } from "./jetstream-message.js";
import type { LogEntry } from "./log.js";

/** Messages of a stream, in order. */
export interface StreamPiece {
  readonly entries: readonly LogEntry[];
  /** True when the server that delivers knew of no more: it may lag behind the stream's leader. */
  readonly isLast: boolean;
  /** Unix time in milliseconds, rounded up, of its last message; 0 for an empty piece. */
  readonly timeMs: number;
}

const NANOS_PER_MS = 1_000_000;
const MAX_PIECE_ENTRIES = 5_000;
const MAX_PIECE_BYTES = 1_048_576;
/** How long a message may wait for more to come with it. */
const MAX_PIECE_WAIT_MS = 5;
/** What the server sends ahead of a reader that is slow. */
const MAX_AHEAD = 10_000;
const HEARTBEAT_MS = 500;
const PULL_EXPIRES_MS = 10_000;
/** For how long the server keeps a consumer that nobody asks for messages. */
const CONSUMER_INACTIVE_MS = 30_000;

export interface StreamReaderOptions {
  readonly stream: string;
  readonly subjects: string;
  /** Messages up to this one are left out. */
  readonly afterSequence: number;
}

/**
 * Reads on until the signal aborts; then it ends without an error. The first piece comes at once, and is empty when
 * there is nothing to read.
 *
 * Throws   the client's errors, and an Error when heartbeats stay out or a message is missing: whoever reads on begins
 *          again after the last sequence that came.
 */
export async function* readStream(
  { nats, manager }: Connected,
  { stream, subjects, afterSequence }: StreamReaderOptions,
  signal: AbortSignal,
): AsyncGenerator<StreamPiece> {
  const info = await manager.consumers.add(stream, {
    ack_policy: AckPolicy.None,
    deliver_policy: DeliverPolicy.StartSequence,
    opt_start_seq: afterSequence + 1,
    filter_subject: subjects,
    inactive_threshold: nanos(CONSUMER_INACTIVE_MS),
    mem_storage: true,
    num_replicas: 1,
  });
  const messages = await jetstream(nats).consumers.getConsumerFromInfo(info).consume({
    max_messages: MAX_AHEAD,
    expires: PULL_EXPIRES_MS,
    idle_heartbeat: HEARTBEAT_MS,
    abort_on_missing_resource: true,
  });
  const stop = () => messages.stop();
  signal.addEventListener("abort", stop);
  try {
    if (signal.aborted) stop();
    void stopOnSilence(messages);
    if (info.num_pending === 0 && !signal.aborted) yield { entries: [], isLast: true, timeMs: 0 };
    yield* pieces(stream, messages);
    if (nats.isClosed() && !signal.aborted) throw new Error("the connection is gone");
  } finally {
    signal.removeEventListener("abort", stop);
    messages.stop();
    if (!nats.isClosed()) manager.consumers.delete(stream, info.name).catch(() => undefined);
  }
}

/** The client asks again on its own, but what was told meanwhile, and whether the stream is the same, it does not know. */
async function stopOnSilence(messages: ConsumerMessages): Promise<void> {
  for await (const { type } of messages.status()) {
    if (type === "heartbeats_missed" || type === "consumer_not_found" || type === "stream_not_found") {
      messages.stop(new Error(`the server that delivers it is silent (${type.replaceAll("_", " ")})`));
    }
  }
}

async function* pieces(stream: string, messages: AsyncIterable<JsMsg>): AsyncGenerator<StreamPiece> {
  let entries: LogEntry[] = [];
  let byteCount = 0;
  let startedMs = 0;
  let delivered = 0;
  for await (const message of messages) {
    const { deliverySequence, streamSequence, pending, timestampNanos } = message.info;
    delivered += 1;
    if (deliverySequence !== delivered) throw new Error(`message ${delivered} of the reading is missing`);
    if (entries.length === 0) startedMs = performance.now();
    entries.push(entryOf(stream, streamSequence, message));
    byteCount += message.data.length;
    const isFull = entries.length === MAX_PIECE_ENTRIES || byteCount >= MAX_PIECE_BYTES;
    if (pending > 0 && !isFull && performance.now() - startedMs < MAX_PIECE_WAIT_MS) continue;
    yield { entries, isLast: pending === 0, timeMs: Math.ceil(timestampNanos / NANOS_PER_MS) };
    entries = [];
    byteCount = 0;
  }
}
