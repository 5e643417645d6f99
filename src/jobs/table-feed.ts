import { setTimeout as delay } from "node:timers/promises";
import { asError } from "../lib/errors.js";
import type { Logger } from "../lib/logger.js";
import type { LogBatch, MeshLog } from "../log/log.js";
import type { EndpointListener, RouteProblem, RoutingTable } from "../model/routing-table.js";

/** Pause before a log that failed is followed again. */
const RETRY_MS = 1_000;

/**
 * Who is behind reads of each key what it is by now: what replaces a route may come long after its deletion. So what moved
 * is told when the table is up to date; at the latest after this, since a log that is written all the time may run ahead.
 */
const MAX_BEHIND_MS = 1_000;

export interface TableFeed {
  /** Resolves when the table holds the log as it was at the start. */
  readonly complete: Promise<void>;
  /** The newest write that the table holds. */
  readonly sequence: number;
  /** Resolves when the feed has ended, after its signal aborted. */
  readonly ended: Promise<void>;
}

/**
 * Keeps a routing table as the log says, and tells which groups of hosts moved. A log that fails is tried again.
 *
 * @param onAdded  told of each endpoint that comes while the log is followed, not of those that were there before
 */
export function feedTable(
  table: RoutingTable,
  log: Pick<MeshLog, "follow">,
  signal: AbortSignal,
  logger: Logger,
  onMoved: (groups: ReadonlySet<string>) => void,
  onAdded?: EndpointListener,
): TableFeed {
  let sequence = 0;
  /** While the log is told from its start: the keys that came up. */
  let seen: Set<string> | undefined;
  let complete: () => void = () => undefined;
  let isComplete = false;

  /** The sequence that `seen` leads to: one that was interrupted begins anew. */
  let seenSequence = 0;

  /** Groups that moved and were not told yet, and what will tell of them at the latest. */
  let untold = new Set<string>();
  let timer: NodeJS.Timeout | undefined;

  function tell(): void {
    clearTimeout(timer);
    timer = undefined;
    const moved = untold;
    untold = new Set();
    if (moved.size > 0) onMoved(moved);
  }

  function tellProblems(problems: Iterable<RouteProblem>): void {
    for (const { place, routeGuid, name, value, reason } of problems) {
      logger.warn({ route: place, routeGuid, annotation: name, value }, `the annotation is ignored: ${reason}`);
    }
  }

  function take({ entries, caughtUp, fromStart }: LogBatch): void {
    if (fromStart && sequence > 0) seen = new Set();
    for (const { key } of entries) seen?.add(key);
    const last = entries.at(-1)?.sequence;
    if (seen) seenSequence = last ?? seenSequence;
    else sequence = last ?? sequence;
    const isFollowing = isComplete && !seen;
    for (const group of table.apply(entries, isFollowing ? onAdded : undefined)) untold.add(group);
    if (isComplete) for (const { key } of entries) tellProblems(table.problems(key));
    if (seen && caughtUp) {
      const current = seen;
      const gone = [...table.keys()].filter((key) => !current.has(key));
      for (const group of table.apply(gone.map((key) => ({ key, value: undefined })))) untold.add(group);
      seen = undefined;
      sequence = seenSequence;
      seenSequence = 0;
    }
    if (caughtUp) tell();
    else if (untold.size > 0) timer ??= setTimeout(tell, MAX_BEHIND_MS);
    if (caughtUp && !isComplete) {
      isComplete = true;
      const count = table.problemCount;
      if (count > 0)
        logger.warn({ count }, "annotations of routes can't be followed and are ignored: status shows them");
      complete();
    }
  }

  async function follow(): Promise<void> {
    while (!signal.aborted) {
      try {
        for await (const batch of log.follow(sequence, signal)) take(batch);
      } catch (error) {
        seen = undefined;
        seenSequence = 0;
        logger.error(
          { sequence, error: asError(error).message },
          "the mesh log can't be followed; serving what it said so far, trying again",
        );
        await delay(RETRY_MS, undefined, { signal }).catch(() => undefined);
      }
    }
    clearTimeout(timer);
  }

  return {
    complete: new Promise((resolve) => {
      complete = resolve;
    }),
    get sequence() {
      return sequence;
    },
    ended: follow(),
  };
}
