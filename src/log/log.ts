/**
 * The mesh log: the only thing that the jobs share. An ordered stream of entries with one current value per key; each
 * write gets the next sequence number, and replaces the value that its key had.
 *
 * Implementations pass the suite in log.contract.ts.
 */

/** One write as readers see it. */
export interface LogEntry {
  readonly key: string;
  /** Position in the log, from 1 on; grows with every write, never reused. */
  readonly sequence: number;
  /**
   * Opaque; no bytes at all is a value like any other. undefined: the key was deleted. Such markers are kept for a
   * while, so that readers who were away hear of it.
   */
  readonly value: Uint8Array | undefined;
}

export interface Write {
  /** Tokens of letters, digits, "-" and "_", joined by dots; at most MAX_KEY_LENGTH characters. */
  readonly key: string;
  /** At most MAX_VALUE_BYTES; undefined deletes the key. */
  readonly value: Uint8Array | undefined;
  /**
   * Compare-and-set: the batch is refused unless the key's last write has this sequence; 0 means that the key
   * has no value (never written, or deleted). Left out: no condition. Compared with the log as it was before the batch.
   */
  readonly expectedSequence?: number;
}

/** A piece of the log, in order. */
export interface LogBatch {
  readonly entries: readonly LogEntry[];
  /**
   * True when this batch reaches what was the end of the log as it was read: a reader that started at 0 then has a
   * complete picture. A reader that is at the end already gets one empty batch that says so.
   */
  readonly caughtUp: boolean;
  /**
   * True on the first batch of a reading that begins anew, because the log can't tell what changed since the sequence
   * the reader has: it forgot deletions since, or it is another log, shorter than that. What follows is the whole log,
   * and a key that does not come up in it until `caughtUp` is gone. Never true for who starts at 0 and keeps up.
   */
  readonly fromStart: boolean;
}

export interface FollowOptions {
  /** Tells of keys that begin so alone. */
  readonly prefix?: string;
  /**
   * The id() of the log that the sequence is of: when it is another log by now, the reading begins anew. Left out: that of
   * the last reading with the same signal, else the one that this handle saw last.
   */
  readonly logId?: string;
}

export interface MeshLog {
  /**
   * Appends all of the batch (at most MAX_BATCH_WRITES), or nothing. Its writes get consecutive sequences, in their order; of two writes to one
   * key the later one stands.
   *
   * Returns  the sequence of its last write (the current last sequence for an empty batch), when it is durable.
   * Throws   MESH_LOG_CONFLICT when an expectation does not hold; MESH_LOG_UNAVAILABLE when it can't be stored (disk
   *          full, closed): nothing was written then, and the log goes on serving reads. A replicated log that stops
   *          answering may leave it open whether the batch was written; the message says so. A plain Error for a write
   *          that checkWrite refuses, and for a batch that is too large.
   */
  append(batch: readonly Write[]): Promise<number>;

  /** The current entry of a key; undefined when it has no value. */
  get(key: string): Promise<LogEntry | undefined>;

  /**
   * Current entries whose key begins with `prefix`, no delete markers, in the order of their sequences. Each piece is
   * of the time when it is read: a key that is written meanwhile may come twice, the later entry counts.
   */
  read(prefix?: string): AsyncIterable<readonly LogEntry[]>;

  /**
   * Everything after a sequence: first what is there (one current entry or marker per key), then new writes as they
   * come, until the signal aborts or the log closes; then it ends without an error. A reader that stops before its
   * first `caughtUp` starts over with the sequence it had before.
   *
   * Throws   MESH_LOG_UNAVAILABLE when the log can't be read, or is closed already.
   */
  follow(afterSequence: number, signal: AbortSignal, options?: FollowOptions): AsyncIterable<LogBatch>;

  /** The sequence of the newest write; 0 for an empty log. */
  lastSequence(): Promise<number>;

  /**
   * Which log it is: as long as this stays, sequences mean what they meant. Another one when the log was made anew or went
   * back to a backup. One that was made anew may be empty still: completion.ts tells how to see that.
   */
  id(): Promise<string>;

  /** Ends what is appended and followed. A second call does nothing. */
  close(): Promise<void>;
}

export const MAX_KEY_LENGTH = 1_024;
/** A NATS server takes 1,048,576 bytes with all that goes with them, as long as nobody told it otherwise. */
export const MAX_VALUE_BYTES = 1_000_000;
/** A JetStream server takes no more as one. */
export const MAX_BATCH_WRITES = 1_000;

const KEY = /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/;

/** Throws a plain Error that names the key, when no log may hold the write. */
export function checkWrite({ key, value }: Write): void {
  if (key.length > MAX_KEY_LENGTH || !KEY.test(key)) {
    throw new Error(
      `bad key ${JSON.stringify(key.slice(0, MAX_KEY_LENGTH))}: a key is tokens of letters, digits, "-" and "_", ` +
        `joined by dots, of at most ${MAX_KEY_LENGTH} characters`,
    );
  }
  if (value && value.length > MAX_VALUE_BYTES) {
    throw new Error(`the value of ${key} has ${value.length} bytes; at most ${MAX_VALUE_BYTES} go into the log`);
  }
}
