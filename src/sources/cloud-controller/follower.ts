/** The two loops of the source: full reads, and changes between them. */
import { Backoff } from "../../lib/backoff.js";
import type { Clock } from "../../lib/clock.js";
import { MeshError } from "../../lib/errors.js";
import type { Logger } from "../../lib/logger.js";
import type { KeySpaceWriter } from "../../log/key-space-writer.js";
import { Alarm } from "./alarm.js";
import type { CcClient } from "./cc-client.js";
import { RateLimited } from "./faults.js";
import type { FetchList } from "./lookups.js";
import { patiently } from "./patience.js";
import { Refusals } from "./refusals.js";
import { type RefreshHint, RouteSync } from "./route-sync.js";
import type { Activity, StatusBoard } from "./status-board.js";
import { Turns } from "./turns.js";

export interface FollowerSettings {
  readonly pollIntervalMs: number;
  readonly resyncIntervalMs: number;
  readonly pageSize: number;
  readonly logger: Logger;
  readonly clock: Clock;
}

const MAX_BACKOFF_MS = 10_000;

export class Follower {
  readonly #settings: FollowerSettings;
  readonly #client: CcClient;
  readonly #board: StatusBoard;
  readonly #pollAlarm: Alarm;
  readonly #resyncAlarm: Alarm;
  readonly #hints: RefreshHint[];
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
    const { clock, pageSize, pollIntervalMs, logger } = this.#settings;
    const signal = this.#stop.signal;
    const backoff = new Backoff(pollIntervalMs, MAX_BACKOFF_MS);
    let sync: RouteSync | undefined;
    while (!signal.aborted) {
      const pauseMs = await this.#attempt("full read", backoff, async () => {
        if (sync === undefined) {
          await this.#client.discover(signal);
          sync = new RouteSync(this.#client.newestDateMs ?? 0, {
            fetch: this.#fetch,
            serverMs: () => this.#client.newestDateMs,
            writer,
            refusals: new Refusals(logger),
            clock,
            pageSize,
          });
        }
        await this.#readAll(sync);
      });
      if (pauseMs === undefined) return sync;
      await clock.sleep(pauseMs, signal);
    }
    return undefined;
  }

  async #resync(sync: RouteSync): Promise<void> {
    const { clock, pollIntervalMs, resyncIntervalMs } = this.#settings;
    const backoff = new Backoff(pollIntervalMs, MAX_BACKOFF_MS);
    // Should the count never agree, full reads for its sake become as rare as all others.
    const needless = new Backoff(pollIntervalMs, resyncIntervalMs);
    let pauseMs = resyncIntervalMs;
    let notBeforeMs = 0;
    for (;;) {
      const early = await this.#resyncAlarm.sleep(pauseMs);
      await clock.sleep(notBeforeMs - clock.now(), this.#stop.signal);
      if (this.#stop.signal.aborted) return;
      const failedMs = await this.#attempt("full read", backoff, async () => {
        const changed = await this.#readAll(sync);
        if (changed) needless.reset();
        else if (early) notBeforeMs = clock.now() + needless.next();
      });
      pauseMs = failedMs ?? resyncIntervalMs;
    }
  }

  /** One read per interval, by turns for events and for updates; what is hinted at is read at once. */
  async #poll(sync: RouteSync): Promise<void> {
    const { clock, pollIntervalMs } = this.#settings;
    const backoff = new Backoff(pollIntervalMs, MAX_BACKOFF_MS);
    let updatesNext = false;
    let nextMs = clock.now();
    for (;;) {
      await this.#pollAlarm.sleep(nextMs - clock.now());
      if (this.#stop.signal.aborted) return;
      for (const hint of this.#hints.splice(0)) sync.hint(hint);
      const isTurn = clock.now() >= nextMs;
      const failing = backoff.attempts > 0;
      // Hints wait on while reads fail: they would ask faster than the backoff.
      if (!isTurn && failing) continue;
      const startedMs = clock.now();
      const failedMs = await this.#attempt("changes", backoff, () =>
        this.#writing.run(async () => {
          if (!isTurn) return sync.settle();
          if (updatesNext) await this.#followUpdates(sync);
          else await sync.followEvents();
          updatesNext = !updatesNext;
        }),
      );
      if (failedMs !== undefined) nextMs = clock.now() + failedMs;
      else if (isTurn) nextMs = startedMs + pollIntervalMs;
    }
  }

  async #followUpdates(sync: RouteSync): Promise<void> {
    if (await sync.followUpdates()) return;
    // What is missing may be a deletion that the events tell of; else only a full read can say which route it is.
    await sync.followEvents();
    if (!(await sync.followUpdates())) this.#resyncAlarm.wake();
  }

  /** Returns whether it changed anything. */
  async #readAll(sync: RouteSync): Promise<boolean> {
    const { clock, logger } = this.#settings;
    const startedMs = clock.now();
    const read = await sync.readAll(
      patiently(this.#fetch, {
        clock,
        signal: this.#stop.signal,
        onFailed: (fault, retryInMs) => this.#board.failed("full read", fault, retryInMs),
        onWorked: () => this.#board.worked("full read"),
      }),
    );
    const { written, deleted, unchanged } = await this.#writing.run(() => sync.commit(read));
    this.#board.synced(clock.now());
    const changed = written + deleted > 0;
    logger[changed ? "info" : "debug"](
      { written, deleted, unchanged, durationMs: clock.now() - startedMs },
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
