import { setImmediate as nextTurn } from "node:timers/promises";
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
    const quiet = new Quiet();
    void watch(messages, quiet);
    const isEmpty = info.num_pending === 0;
    if (isEmpty && !signal.aborted) yield { entries: [], isLast: true, timeMs: 0 };
    yield* pieces(stream, messages, quiet, isEmpty);
    if (nats.isClosed() && !signal.aborted) throw new Error("the connection is gone");
  } finally {
    signal.removeEventListener("abort", stop);
    messages.stop();
    if (!nats.isClosed()) manager.consumers.delete(stream, info.name).catch(() => undefined);
  }
}

/** Heartbeats, which the server sends while it has nothing else to send. */
class Quiet {
  #hear: ((messageCount: number) => void) | undefined;

  /** @param messageCount  how many messages the server has sent by now */
  heard(messageCount: number): void {
    this.#hear?.(messageCount);
  }

  /** Resolves with what arrives, or with undefined when the server has nothing beyond the messages that came. */
  async until<T>(arriving: Promise<T>, messageCount: number): Promise<T | undefined> {
    try {
      return await new Promise<T | undefined>((resolve, reject) => {
        this.#hear = (sent) => {
          if (sent === messageCount) resolve(undefined);
        };
        arriving.then(resolve, reject);
      });
    } finally {
      this.#hear = undefined;
    }
  }
}

/** On silence the client would ask again on its own, and does not know what was told meanwhile, or of which stream. */
async function watch(messages: ConsumerMessages, quiet: Quiet): Promise<void> {
  for await (const status of messages.status()) {
    const { type } = status;
    if (type === "heartbeat") quiet.heard(status.lastConsumerSequence);
    if (type === "heartbeats_missed" || type === "consumer_not_found" || type === "stream_not_found") {
      messages.stop(new Error(`the server that delivers it is silent (${type.replaceAll("_", " ")})`));
    }
  }
}

async function* pieces(
  stream: string,
  messages: AsyncIterable<JsMsg>,
  quiet: Quiet,
  isEmpty: boolean,
): AsyncGenerator<StreamPiece> {
  const iterator = messages[Symbol.asyncIterator]();
  let arriving: Promise<IteratorResult<JsMsg>> | undefined;
  let wasLast = isEmpty;
  let entries: LogEntry[] = [];
  let byteCount = 0;
  let startedMs = 0;
  let delivered = 0;
  let timeMs = 0;
  for (;;) {
    arriving ??= iterator.next();
    // What was pending may be gone before it is sent: overwritten, or expired.
    const arrived = wasLast ? await arriving : await quiet.until(arriving, delivered);
    if (arrived) {
      arriving = undefined;
      if (arrived.done) return;
      const { deliverySequence, streamSequence, pending, timestampNanos } = arrived.value.info;
      delivered += 1;
      if (deliverySequence !== delivered) throw new Error(`message ${delivered} of the reading is missing`);
      if (entries.length === 0) startedMs = performance.now();
      entries.push(entryOf(stream, streamSequence, arrived.value));
      byteCount += arrived.value.data.length;
      timeMs = Math.ceil(timestampNanos / NANOS_PER_MS);
      wasLast = pending === 0;
      const isFull = entries.length === MAX_PIECE_ENTRIES || byteCount >= MAX_PIECE_BYTES;
      if (!wasLast && !isFull && performance.now() - startedMs < MAX_PIECE_WAIT_MS) continue;
    } else {
      wasLast = true;
    }
    yield { entries, isLast: wasLast, timeMs: entries.length > 0 ? timeMs : 0 };
    entries = [];
    byteCount = 0;
    // What has arrived already would follow at once, piece after piece, while all else waits.
    if (!wasLast) await nextTurn();
  }
}
