/**
 * The right to write a key space: one of several processes holds it, the others stand by. It lies in the log that it
 * guards, as one key, and each batch of its holder begins with a compare-and-set of that key: a holder that was paused, cut
 * off or replaced can't write a thing, whatever it believes. Clocks of different machines are never compared.
 */
import { randomUUID } from "node:crypto";
import { Backoff } from "../lib/backoff.js";
import { type Clock, systemClock } from "../lib/clock.js";
import { asError, MeshError } from "../lib/errors.js";
import { type Logger, silentLogger } from "../lib/logger.js";
import type { LogEntry, MeshLog, Write } from "./log.js";

export interface LeaseOptions {
  /** Name of this process, for people. */
  readonly holder: string;
  /** For how long a holder that says nothing keeps the lease; 1,500 when left out. It says something three times in it. */
  readonly ttlMs?: number;
  readonly clock?: Pick<Clock, "sleep">;
  readonly logger?: Logger;
}

export interface Lease {
  readonly name: string;
  /** The sequence of the lease key's last write by this holder: it grows with each write, and fences the next. */
  readonly sequence: number;
  /** Aborts, with MESH_LEASE_LOST, when another holder was seen. A log that can't be reached is no reason to. */
  readonly lost: AbortSignal;
  /**
   * As the log's append, of one write less at most, but all is refused once another process has the lease. Calls wait for
   * each other.
   *
   * Throws   MESH_LEASE_LOST: nothing was written, and nothing will be over this lease. What the log's append throws.
   */
  append(batch: readonly Write[]): Promise<number>;
  /** Gives it back, after what is being appended: a standby takes it at once. A second call does nothing. */
  release(): Promise<void>;
}

const TTL_MS = 1_500;
const RENEWALS_PER_TTL = 3;
const RETRY_INITIAL_MS = 50;
const RETRY_MAX_MS = 1_000;

/** What stands under the key. No holder: it was given back, and is free at once. */
interface Claim {
  readonly holder: string;
  /** Of this acquisition alone. */
  readonly token?: string | undefined;
  readonly ttlMs: number;
}

const FREE: Claim = { holder: "", ttlMs: 0 };

/** "lease.route.cc" of "route.cc". */
export const leaseKey = (name: string) => `lease.${name}`;

/**
 * Stands by until the lease is free, takes it, and keeps it until it is released or lost.
 *
 * Waits    as long as its holder renews it; while the log can't be reached, too.
 * Throws   the signal's reason when it aborts before the lease is there.
 */
export async function acquireLease(
  log: MeshLog,
  name: string,
  options: LeaseOptions,
  signal: AbortSignal,
): Promise<Lease> {
  const { clock = systemClock, logger = silentLogger } = options;
  const backoff = new Backoff(RETRY_INITIAL_MS, RETRY_MAX_MS);
  const standby = new Standby(log, name, options);
  for (;;) {
    signal.throwIfAborted();
    try {
      const lease = await standby.wait(signal);
      if (lease) return lease;
      backoff.reset();
    } catch (error) {
      signal.throwIfAborted();
      logger.warn({ lease: name, error: asError(error).message }, "the lease can't be looked at now; trying again");
      await clock.sleep(backoff.next(), signal);
    }
  }
}

class Standby {
  readonly #log: MeshLog;
  readonly #name: string;
  readonly #key: string;
  readonly #options: LeaseOptions;
  readonly #clock: Pick<Clock, "sleep">;
  /** The key's last write that is known. */
  #entry: LogEntry | undefined;
  /** Why the key can't be followed any more. */
  #fault: unknown;
  /** Aborts at the key's next write, and when it can't be followed any more. */
  #news = new AbortController();

  constructor(log: MeshLog, name: string, options: LeaseOptions) {
    this.#log = log;
    this.#name = name;
    this.#key = leaseKey(name);
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Resolves with the lease; undefined when somebody else was faster. Throws what the log throws. */
  async wait(signal: AbortSignal): Promise<Lease | undefined> {
    this.#fault = undefined;
    this.#entry = await this.#log.get(this.#key);
    const ending = new AbortController();
    const following = this.#follow(AbortSignal.any([signal, ending.signal]));
    try {
      await this.#untilFree(signal);
      signal.throwIfAborted();
      return await this.#take();
    } finally {
      ending.abort();
      await following;
    }
  }

  /** Resolves when the holder gave the lease back, or was not heard of for its time, by the clock of this process. */
  async #untilFree(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (this.#fault !== undefined) throw asError(this.#fault);
      const { holder, ttlMs } = claimIn(this.#entry);
      if (holder === "") return;
      const news = this.#news.signal;
      await this.#clock.sleep(ttlMs, AbortSignal.any([signal, news]));
      if (signal.aborted || news.aborted) continue;
      // A process that was paused finds its time run out before it hears what was said meanwhile.
      const entry = await this.#log.get(this.#key);
      if (entry?.sequence === this.#entry?.sequence) return;
      this.#entry = entry;
    }
  }

  async #follow(signal: AbortSignal): Promise<void> {
    try {
      for await (const { entries } of this.#log.follow(this.#entry?.sequence ?? 0, signal, { prefix: this.#key })) {
        const entry = entries.findLast(({ key }) => key === this.#key);
        if (!entry || entry.sequence === this.#entry?.sequence) continue;
        this.#entry = entry;
        this.#wake();
      }
    } catch (error) {
      this.#fault = error;
      this.#wake();
    }
  }

  #wake(): void {
    const news = this.#news;
    this.#news = new AbortController();
    news.abort();
  }

  async #take(): Promise<Lease | undefined> {
    const { holder, ttlMs = TTL_MS, logger = silentLogger } = this.#options;
    const claim: Claim = { holder, token: randomUUID(), ttlMs };
    const former = claimIn(this.#entry).holder;
    try {
      const sequence = await this.#log.append([claimWrite(this.#key, claim, this.#entry?.sequence ?? 0)]);
      logger.info({ lease: this.#name, holder, former, sequence }, "the lease was taken");
      return new HeldLease(this.#log, this.#name, claim, sequence, this.#clock, logger);
    } catch (error) {
      if (isConflict(error)) return undefined;
      throw error;
    }
  }
}

class HeldLease implements Lease {
  readonly name: string;
  readonly #key: string;
  readonly #log: MeshLog;
  readonly #claim: Claim;
  readonly #clock: Pick<Clock, "sleep">;
  readonly #logger: Logger;
  readonly #lost = new AbortController();
  readonly #releasing = new AbortController();
  readonly #renewing: Promise<void>;
  #sequence: number;
  /** Whether something was appended since the last look: then the lease needs no renewal of its own. */
  #isFresh = true;
  #lastAppend: Promise<unknown> = Promise.resolve();
  #released: Promise<void> | undefined;

  constructor(log: MeshLog, name: string, claim: Claim, sequence: number, clock: Pick<Clock, "sleep">, logger: Logger) {
    this.#log = log;
    this.name = name;
    this.#key = leaseKey(name);
    this.#claim = claim;
    this.#sequence = sequence;
    this.#clock = clock;
    this.#logger = logger;
    this.#renewing = this.#renew();
  }

  get sequence(): number {
    return this.#sequence;
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  async append(batch: readonly Write[]): Promise<number> {
    if (this.#released) throw leaseLost(this.name, "it was given back");
    return this.#inTurn(() => this.#append(this.#claim, batch));
  }

  async release(): Promise<void> {
    this.#released ??= this.#release();
    await this.#released;
  }

  async #release(): Promise<void> {
    this.#releasing.abort();
    await this.#renewing;
    if (this.lost.aborted) return;
    try {
      await this.#inTurn(() => this.#append(FREE, []));
      this.#logger.info({ lease: this.name }, "the lease was given back");
    } catch (error) {
      this.#logger.warn(
        { lease: this.name, error: asError(error).message },
        "the lease can't be given back; it ends by itself",
      );
    }
  }

  async #renew(): Promise<void> {
    const ending = AbortSignal.any([this.#releasing.signal, this.lost]);
    let hasFailed = false;
    for (;;) {
      await this.#clock.sleep(this.#claim.ttlMs / RENEWALS_PER_TTL, ending);
      if (ending.aborted) return;
      const isFresh = this.#isFresh;
      this.#isFresh = false;
      if (isFresh) continue;
      try {
        await this.#inTurn(() => this.#append(this.#claim, []));
        this.#isFresh = false;
        hasFailed = false;
      } catch (error) {
        if (!hasFailed && !this.lost.aborted) {
          this.#logger.warn({ lease: this.name, error: asError(error).message }, "the lease can't be renewed now");
        }
        hasFailed = true;
      }
    }
  }

  async #append(claim: Claim, batch: readonly Write[]): Promise<number> {
    for (;;) {
      this.#lost.signal.throwIfAborted();
      try {
        const last = await this.#log.append([claimWrite(this.#key, claim, this.#sequence), ...batch]);
        this.#sequence = last - batch.length;
        this.#isFresh = true;
        return last;
      } catch (error) {
        if (!isConflict(error)) throw error;
        // Another holder; or an own write whose answer was lost; or one of the batch's own conditions.
        const entry = await this.#log.get(this.#key);
        if (!entry || claimIn(entry).token !== this.#claim.token) this.#lose(entry);
        else if (entry.sequence === this.#sequence) throw error;
        else this.#sequence = entry.sequence;
      }
    }
  }

  #lose(entry: LogEntry | undefined): void {
    const { holder } = claimIn(entry);
    const error = leaseLost(
      this.name,
      holder === "" ? "the log does not have it any more" : `${holder} took it, as nothing was heard from here in time`,
    );
    this.#logger.warn({ lease: this.name, holder, sequence: entry?.sequence }, "the lease is lost");
    this.#lost.abort(error);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#lastAppend.then(work);
    this.#lastAppend = result.catch(() => undefined);
    return result;
  }
}

const leaseLost = (name: string, reason: string) =>
  new MeshError(
    "MESH_LEASE_LOST",
    `lease ${name}: ${reason}; nothing was written, this process stands by`,
    "none is needed when that process writes now; seen often, look for what stops this one for more than a second",
  );

const isConflict = (error: unknown) => error instanceof MeshError && error.code === "MESH_LOG_CONFLICT";

const claimWrite = (key: string, claim: Claim, expectedSequence: number): Write => ({
  key,
  value: Buffer.from(JSON.stringify(claim)),
  expectedSequence,
});

/** Free where there is none, or something that is none; of a newer version's claim the parts that this one knows. */
function claimIn(entry: LogEntry | undefined): Claim {
  if (!entry?.value) return FREE;
  try {
    const claim: unknown = JSON.parse(Buffer.from(entry.value).toString());
    if (typeof claim !== "object" || claim === null || !("holder" in claim) || !("ttlMs" in claim)) return FREE;
    const { holder, ttlMs } = claim;
    if (typeof holder !== "string" || typeof ttlMs !== "number") return FREE;
    const token = "token" in claim && typeof claim.token === "string" ? claim.token : undefined;
    return { holder, token, ttlMs };
  } catch {
    return FREE;
  }
}
