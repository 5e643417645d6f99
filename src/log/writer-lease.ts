/**
 * The right to write: one of several processes holds it, the others stand by. It lies in the log that it guards, as one
 * key, and each batch of its holder begins with a compare-and-set of that key: a holder that was paused, cut off or
 * replaced can't write a thing, whatever it believes. Clocks of different machines are never compared.
 */
import type { Clock } from "../lib/clock.js";
import { MeshError } from "../lib/errors.js";
import type { Logger } from "../lib/logger.js";
import type { LogEntry, MeshLog, Write } from "./log.js";

export type Role = "leader" | "standby";

export interface LeaseOptions {
  /** As in "control": its key is "lease.control". */
  readonly name: string;
  /** Of this process, no other has the same. */
  readonly holder: string;
  /** For how long a holder that says nothing keeps it. */
  readonly ttlMs: number;
  /** How often a holder that writes nothing else says that it is there. */
  readonly renewIntervalMs: number;
  readonly logger: Logger;
  /** Pauses between its looks. */
  readonly clock: Pick<Clock, "sleep">;
}

/** What stands under the key. No holder: it was given back, and is free at once. */
interface Claim {
  readonly holder: string;
  readonly ttlMs: number;
}

/** Of every lease's key; no reader but those who want the lease has a use for them. */
export const LEASE_PREFIX = "lease.";

export class WriterLease {
  readonly key: string;
  readonly #log: MeshLog;
  readonly #options: LeaseOptions;
  readonly #onRole: (role: Role) => void;
  #role: Role = "standby";
  /** The key's last write that is known; 0 for none. */
  #sequence = 0;
  #claim: Claim | undefined;
  /** When this process heard of the last claim, by a clock that never jumps. */
  #heardMs: number;
  #lastAppend: Promise<unknown> = Promise.resolve();
  /** Wakes the loop before its time. */
  #wake = new AbortController();

  constructor(log: MeshLog, options: LeaseOptions, onRole: (role: Role) => void) {
    this.key = LEASE_PREFIX + options.name;
    this.#log = log;
    this.#options = options;
    this.#onRole = onRole;
    this.#heardMs = performance.now();
  }

  get role(): Role {
    return this.#role;
  }

  /** To be told every write of its key, as the log is followed. */
  observe({ sequence, value }: Pick<LogEntry, "sequence" | "value">): void {
    if (sequence <= this.#sequence) return;
    this.#sequence = sequence;
    this.#claim = value && parseClaim(value);
    this.#heardMs = performance.now();
    if (this.#role === "leader" && this.#claim?.holder !== this.#options.holder)
      this.#lose("another process took over");
    if (this.#role === "standby" && this.#isFree()) this.#wake.abort();
  }

  /** The log is another one, or was emptied: what was known of the key says nothing. */
  forget(): void {
    this.#sequence = 0;
    this.#claim = undefined;
    if (this.#role === "leader") this.#lose("the log begins anew");
  }

  /**
   * Writes as the holder: all of it, or nothing when the lease is lost.
   *
   * Returns  the sequence of the last write; undefined when this process does not hold the lease (any more).
   * Throws   what the log's append throws, but for a conflict.
   */
  async append(writes: readonly Write[]): Promise<number | undefined> {
    return this.#inTurn(async () => (this.#role === "leader" ? this.#write(writes) : undefined));
  }

  /** Takes the lease when it is free, and keeps it, until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, renewIntervalMs } = this.#options;
    const hasEnded = () => signal.aborted;
    while (!hasEnded()) {
      this.#wake = new AbortController();
      const pauseMs = this.#role === "leader" ? renewIntervalMs : this.#untilFreeMs();
      if (pauseMs > 0) await clock.sleep(pauseMs, AbortSignal.any([signal, this.#wake.signal]));
      if (hasEnded()) return;
      await this.#inTurn(() => this.#keepOrTake()).catch(async (error: unknown) => {
        this.#options.logger.warn(
          { lease: this.#options.name, role: this.#role, error: String(error) },
          "the lease can't be written now; trying again",
        );
        await clock.sleep(renewIntervalMs, signal);
      });
    }
  }

  /** Gives it back, so that another takes over at once. */
  async release(): Promise<void> {
    await this.#inTurn(async () => {
      if (this.#role !== "leader") return;
      const claim: Claim = { holder: "", ttlMs: this.#options.ttlMs };
      await this.#log.append([{ key: this.key, value: encodeClaim(claim), expectedSequence: this.#sequence }]);
      this.#become("standby");
    });
  }

  async #keepOrTake(): Promise<void> {
    if (this.#role === "leader") {
      const quietMs = performance.now() - this.#heardMs;
      // A batch that was just written said it already.
      if (quietMs >= this.#options.renewIntervalMs / 2) await this.#write([]);
      return;
    }
    if (this.#untilFreeMs() > 0) return;
    if ((await this.#write([])) !== undefined) {
      this.#options.logger.info({ lease: this.#options.name, holder: this.#options.holder }, "this process writes now");
      this.#become("leader");
    }
  }

  async #write(writes: readonly Write[]): Promise<number | undefined> {
    const { holder, ttlMs } = this.#options;
    const claim: Claim = { holder, ttlMs };
    const guard: Write = { key: this.key, value: encodeClaim(claim), expectedSequence: this.#sequence };
    try {
      const last = await this.#log.append([guard, ...writes]);
      this.#sequence = Math.max(this.#sequence, last - writes.length);
      this.#claim = claim;
      this.#heardMs = performance.now();
      return last;
    } catch (error) {
      if (!(error instanceof MeshError) || error.code !== "MESH_LOG_CONFLICT") throw error;
      // Somebody else wrote the key, or an append whose answer was lost did: reading it tells.
      await this.#look();
      if (this.#role === "leader" && this.#claim?.holder !== holder) this.#lose("another process took over");
      return undefined;
    }
  }

  async #look(): Promise<void> {
    const entry = await this.#log.get(this.key);
    if (entry === undefined) this.#sequence = 0;
    else this.observe(entry);
  }

  #lose(reason: string): void {
    this.#options.logger.warn(
      { lease: this.#options.name, reason },
      "this process does not write any more; it stands by",
    );
    this.#become("standby");
  }

  #become(role: Role): void {
    if (this.#role === role) return;
    this.#role = role;
    this.#onRole(role);
    this.#wake.abort();
  }

  #isFree(): boolean {
    return this.#untilFreeMs() <= 0;
  }

  #untilFreeMs(): number {
    if (this.#claim === undefined || this.#claim.holder === "") return 0;
    return this.#heardMs + this.#claim.ttlMs - performance.now();
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#lastAppend.then(work);
    this.#lastAppend = result.catch(() => undefined);
    return result;
  }
}

function encodeClaim(claim: Claim): Uint8Array {
  return Buffer.from(JSON.stringify(claim));
}

/** Of a newer version's claim the parts that this one knows; undefined for what is none. */
function parseClaim(value: Uint8Array): Claim | undefined {
  try {
    const claim: unknown = JSON.parse(Buffer.from(value).toString());
    if (typeof claim !== "object" || claim === null || !("holder" in claim) || !("ttlMs" in claim)) return undefined;
    const { holder, ttlMs } = claim;
    return typeof holder === "string" && typeof ttlMs === "number" ? { holder, ttlMs } : undefined;
  } catch {
    return undefined;
  }
}
