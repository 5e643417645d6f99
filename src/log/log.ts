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
  /** undefined: the key was deleted. Such markers are kept for a while, so that readers who were away hear of it. */
  readonly value: Uint8Array | undefined;
}

export interface Write {
  readonly key: string;
  /** undefined deletes the key. */
  readonly value: Uint8Array | undefined;
  /**
   * Compare-and-set: the batch is refused unless the key's last write has this sequence; 0 means that the key
   * has no value (never written, or deleted). Left out: no condition.
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
   * True when the log no longer knows all that was deleted since the asked-for sequence: what follows is the whole log
   * from its beginning, and a key that does not come up in it until `caughtUp` is gone.
   */
  readonly fromStart: boolean;
}

export interface MeshLog {
  /**
   * Appends all of the batch, or nothing.
   *
   * Returns  the sequence of its last write (the current last sequence for an empty batch), when it is durable.
   * Throws   MESH_LOG_CONFLICT when an expectation does not hold; MESH_LOG_UNAVAILABLE when it can't be stored (disk
   *          full, closed): nothing was written then, and the log goes on serving reads.
   */
  append(batch: readonly Write[]): Promise<number>;

  /** The current entry of a key; undefined when it has no value. */
  get(key: string): Promise<LogEntry | undefined>;

  /** Current entries whose key begins with `prefix`, no delete markers, in the order of their sequences. */
  read(prefix?: string): AsyncIterable<readonly LogEntry[]>;

  /**
   * Everything after a sequence: first what is there (one current entry or marker per key), then new writes as they
   * come, until the signal aborts; then it ends without an error.
   */
  follow(afterSequence: number, signal: AbortSignal): AsyncIterable<LogBatch>;

  /** The sequence of the newest write; 0 for an empty log. */
  lastSequence(): Promise<number>;

  close(): Promise<void>;
}
