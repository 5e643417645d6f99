/**
 * A source turns what one part of the platform says into entries of one key space. Sources do not know each other, and
 * nobody calls them: they write, and tell how they fare.
 */
import type { KeySpaceWriter } from "../log/key-space-writer.js";

export interface SourceStatus {
  /**
   * starting: nothing complete was read yet. following: entries are as the platform says. retrying: the platform
   * can't be read; what is in the log keeps serving.
   */
  readonly state: "starting" | "following" | "retrying";
  /** Unix time in milliseconds of the last complete read; undefined before the first. */
  readonly lastSyncMs: number | undefined;
  /** Message of the fault that made it retry; undefined while all is well. */
  readonly lastError: string | undefined;
  /** Left out by sources that nobody limits. */
  readonly requests?: RequestUsage;
  /** Left out by sources that nobody sends messages. */
  readonly messages?: MessageCounts;
}

/** What a source was sent since it was made. */
export interface MessageCounts {
  /** What registers, and what takes back; that included which changed nothing. */
  readonly registered: number;
  readonly unregistered: number;
  /** What nobody registered again in time. */
  readonly pruned: number;
  /** Endpoints that were told of and are not in the log yet: now. */
  readonly waiting: number;
  /** Endpoints that were not taken, because there are too many. */
  readonly dropped: number;
  /** What could not be taken: it is malformed. */
  readonly refused: number;
}

/** What a source asks of a platform that limits its clients. */
export interface RequestUsage {
  /** Requests sent. */
  readonly lastMinute: number;
  /** Requests that the platform allows in its interval; undefined where it says nothing of a limit. */
  readonly rateLimit: number | undefined;
  readonly rateLimitRemaining: number | undefined;
}

export interface Source {
  /** For logs and health: "cloud-controller", "diego". */
  readonly name: string;
  readonly status: SourceStatus;
  /**
   * Keeps the key space as the platform says, until the signal aborts. Never throws for what the outside world does:
   * it reports, backs off and goes on. A failed or partial read changes nothing that was written.
   */
  run(writer: KeySpaceWriter, signal: AbortSignal): Promise<void>;
}
