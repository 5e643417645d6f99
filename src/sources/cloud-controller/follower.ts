/** The two loops of the source: full reads, and changes between them. */
import { Backoff } from "../../lib/backoff.js";
import type { Clock } from "../../lib/clock.js";
import { MeshError } from "../../lib/errors.js";
import type { Logger } from "../../lib/logger.js";
import type { KeySpaceWriter } from "../../log/key-space-writer.js";
import { Alarm } from "../alarm.js";
import type { CcClient } from "./cc-client.js";
import { RateLimited } from "../http-faults.js";
import type { FetchList } from "./lookups.js";
import { patiently } from "./patience.js";
import { Refusals } from "./refusals.js";
import type { RequestBudget } from "./request-budget.js";
import { type RefreshHint, RouteSync } from "./route-sync.js";
import type { Activity, StatusBoard } from "./status-board.js";
import { Turns } from "./turns.js";

export interface FollowerSettings {
  readonly budget: RequestBudget;
  readonly pageSize: number;
  readonly logger: Logger;
  readonly clock: Clock;
}

/** Pages that a full read asks for at a time when somebody waits for it: more would crowd others out. */
const FULL_READ_CONCURRENCY = 4;
/** Of one that only makes sure: it leaves room for what changes meanwhile. */
const ROUTINE_CONCURRENCY = 1;
const MIN_BACKOFF_MS = 250;
const MAX_BACKOFF_MS = 5_000;
/** Events tell of most changes, so they are looked for so many times as often as updated routes. */
const EVENT_LOOKS_PER_UPDATE_LOOK = 2;
/** After so long a time without an answer, everything is read once more. */
const OUTAGE_MS = 1_000;
/** A Cloud Controller's transaction that tells others shows its rows within this. */
const AGAIN_MS = 150;

export class Follower {
  readonly #settings: FollowerSettings;
  readonly #client: CcClient;
  readonly #board: StatusBoard;
  readonly #pollAlarm: Alarm;
  readonly #resyncAlarm: Alarm;
  readonly #hints: RefreshHint[];
  /** Hints whose read showed nothing new, and came from somebody who is certain. */
  #again: { readonly atMs: number; readonly hints: readonly RefreshHint[] } | undefined;
  /** Both loops write, one at a time. */
  readonly #writing = new Turns(1);
  readonly #stop = new AbortController();

  /** `pollAlarm` rings when there are new hints. */
  constructor(
    settings: FollowerSettings,
    client: CcClient,
    board: StatusBoard,
    pollAlarm: Alarm,
    hints: RefreshHint[],
  ) {
    this.#settings = settings;
    this.#client = client;
    this.#board = board;
    this.#pollAlarm = pollAlarm;
    this.#resyncAlarm = new Alarm(settings.clock);
    this.#hints = hints;
  }

  async run(writer: KeySpaceWriter, signal: AbortSignal): Promise<void> {
    const end = () => {
      this.#stop.abort();
      this.#pollAlarm.wake();
      this.#resyncAlarm.wake();
    };
    signal.addEventListener("abort", end);
    if (signal.aborted) end();
    try {
      const sync = await this.#begin(writer);
      if (sync === undefined) return;
      // Neither loop goes on when the other meets a broken invariant.
      await Promise.all([this.#resync(sync).finally(end), this.#poll(sync).finally(end)]);
    } finally {
      signal.removeEventListener("abort", end);
    }
  }

  /** Learns the Cloud Controller's time, and reads everything once. Returns undefined when it was stopped. */
  async #begin(writer: KeySpaceWriter): Promise<RouteSync | undefined> {
    const { clock, pageSize, logger } = this.#settings;
    const signal = this.#stop.signal;
    const backoff = new Backoff(MIN_BACKOFF_MS, MAX_BACKOFF_MS);
    let sync: RouteSync | undefined;
    while (!signal.aborted) {
      const pauseMs = await this.#attempt("full read", backoff, async () => {
        if (sync === undefined) {
          await this.#client.discover(signal);
          sync = new RouteSync(this.#client.serverMs ?? 0, {
            fetch: this.#fetch,
            serverMs: () => this.#client.serverMs,
            writer,
            refusals: new Refusals(logger),
            clock,
            pageSize,
          });
        }
        await this.#readAll(sync, FULL_READ_CONCURRENCY);
      });
      if (pauseMs === undefined) return sync;
      await clock.sleep(pauseMs, signal);
    }
    return undefined;
  }

  async #resync(sync: RouteSync): Promise<void> {
    const { clock, budget } = this.#settings;
    const backoff = new Backoff(MIN_BACKOFF_MS, MAX_BACKOFF_MS);
    // Should the count never agree, full reads for its sake become as rare as all others.
    const needless = new Backoff(MIN_BACKOFF_MS, budget.fullReadPauseMs);
    let pauseMs = budget.fullReadPauseMs;
    let notBeforeMs = 0;
    for (;;) {
      const early = await this.#resyncAlarm.sleep(pauseMs);
      await clock.sleep(notBeforeMs - clock.now(), this.#stop.signal);
      if (this.#stop.signal.aborted) return;
      const failedMs = await this.#attempt("full read", backoff, async () => {
        const changed = await this.#readAll(sync, early ? FULL_READ_CONCURRENCY : ROUTINE_CONCURRENCY);
        if (changed) needless.reset();
        else if (early) notBeforeMs = clock.now() + needless.next();
      });
      pauseMs = failedMs ?? budget.fullReadPauseMs;
    }
  }

  /** Looks for events and for updates as often as the budget allows; what is hinted at is read at once. */
  async #poll(sync: RouteSync): Promise<void> {
    const { clock, budget } = this.#settings;
    const backoff = new Backoff(MIN_BACKOFF_MS, MAX_BACKOFF_MS);
    let eventsAtMs = clock.now();
    // Between two looks for events, so that requests come evenly.
    let updatesAtMs = eventsAtMs + this.#eventIntervalMs / 2;
    let notBeforeMs = 0;
    let failingSinceMs: number | undefined;
    for (;;) {
      const again = this.#again;
      const nextMs = Math.min(eventsAtMs, updatesAtMs, again?.atMs ?? Infinity);
      await this.#pollAlarm.sleep(Math.max(nextMs, notBeforeMs) - clock.now());
      if (this.#stop.signal.aborted) return;
      const hints = this.#hints.splice(0);
      for (const hint of hints) sync.hint(hint);
      const startedMs = clock.now();
      // Hints wait on while reads fail: they would ask faster than the backoff.
      if (startedMs < notBeforeMs) continue;
      if (again && startedMs >= again.atMs) {
        this.#again = undefined;
        for (const hint of again.hints) sync.hint(hint);
      }
      // What is due for longer comes first: where each look takes long, one kind must not keep the other from its turn.
      const looksAtEvents = startedMs >= eventsAtMs && eventsAtMs <= updatesAtMs;
      const looksAtUpdates = startedMs >= updatesAtMs && updatesAtMs < eventsAtMs;
      if (!looksAtEvents && !looksAtUpdates && !budget.mayFollowHints) continue;
      const failedMs = await this.#attempt("changes", backoff, () =>
        this.#writing.run(async () => {
          if (looksAtEvents) await sync.followEvents();
          else if (looksAtUpdates) await this.#followUpdates(sync);
          else if (await sync.settle()) return;
          this.#repeatLater(hints);
        }),
      );
      if (failedMs !== undefined) {
        notBeforeMs = clock.now() + failedMs;
        failingSinceMs ??= startedMs;
        continue;
      }
      // Whoever stood in for the Cloud Controller meanwhile goes on until all of it was read.
      if (failingSinceMs !== undefined && clock.now() - failingSinceMs >= OUTAGE_MS) this.#resyncAlarm.wake();
      failingSinceMs = undefined;
      if (looksAtEvents) eventsAtMs = startedMs + this.#eventIntervalMs;
      else if (looksAtUpdates) updatesAtMs = startedMs + EVENT_LOOKS_PER_UPDATE_LOOK * this.#eventIntervalMs;
    }
  }

  #repeatLater(hints: readonly RefreshHint[]): void {
    const certain = hints.filter(({ isCertain }) => isCertain);
    if (certain.length === 0) return;
    const earlier = this.#again?.hints ?? [];
    this.#again = { atMs: this.#settings.clock.now() + AGAIN_MS, hints: [...earlier, ...certain] };
  }

  get #eventIntervalMs(): number {
    return ((1 + 1 / EVENT_LOOKS_PER_UPDATE_LOOK) * 1000) / this.#settings.budget.looksPerSecond;
  }

  async #followUpdates(sync: RouteSync): Promise<void> {
    if (await sync.followUpdates()) return;
    // What is missing may be a deletion that the events tell of; else only a full read can say which route it is.
    await sync.followEvents();
    if (!(await sync.followUpdates())) this.#resyncAlarm.wake();
  }

  /** Returns whether it changed anything. */
  async #readAll(sync: RouteSync, concurrency: number): Promise<boolean> {
    const { clock, budget, logger } = this.#settings;
    const startedMs = clock.now();
    let requestCount = 0;
    const countingFetch: FetchList = (path, query) => {
      requestCount += 1;
      return this.#fetch(path, query);
    };
    const read = await sync.readAll(
      patiently(countingFetch, {
        clock,
        signal: this.#stop.signal,
        onFailed: (fault, retryInMs) => this.#board.failed("full read", fault, retryInMs),
        onWorked: () => this.#board.worked("full read"),
      }),
      concurrency,
    );
    const { written, deleted, unchanged } = await this.#writing.run(() => sync.commit(read));
    budget.fullReadTook(requestCount);
    this.#board.synced(clock.now());
    const changed = written + deleted > 0;
    logger[changed ? "info" : "debug"](
      { written, deleted, unchanged, requestCount, durationMs: clock.now() - startedMs },
      "all routes of the Cloud Controller were read",
    );
    return changed;
  }

  readonly #fetch: FetchList = (path, query) => this.#client.page(path, query, this.#stop.signal);

  /** Returns the pause before the next attempt, in ms; undefined when the work succeeded, or was stopped. */
  async #attempt(activity: Activity, backoff: Backoff, work: () => Promise<void>): Promise<number | undefined> {
    try {
      await work();
    } catch (error) {
      if (this.#stop.signal.aborted) return undefined;
      if (!(error instanceof MeshError)) throw error;
      const pauseMs = Math.max(backoff.next(), error instanceof RateLimited ? error.retryAfterMs : 0);
      this.#board.failed(activity, error, pauseMs);
      return pauseMs;
    }
    backoff.reset();
    this.#board.worked(activity);
    return undefined;
  }
}
