/** Names that labels of metrics may have: so many at a time, the others count as one. */

/** What stands for all that have no place. */
export const OTHER = "other";

export class BoundedNames {
  readonly #limit: number;
  readonly #idleMs: number;
  readonly #onGone: (name: string) => void;
  /** When each was last asked for; those that were longest ago come first. */
  readonly #usedMs = new Map<string, number>();

  /**
   * @param idleMs  how long a name must not have been asked for until another may have its place
   * @param onGone  hears which name lost its place
   */
  constructor(limit: number, idleMs: number, onGone: (name: string) => void) {
    this.#limit = limit;
    this.#idleMs = idleMs;
    this.#onGone = onGone;
  }

  /** The name, or OTHER when there is no place for it. */
  take(name: string, nowMs: number): string {
    if (!this.#usedMs.delete(name) && !this.#hasPlace(nowMs)) return OTHER;
    this.#usedMs.set(name, nowMs);
    return name;
  }

  #hasPlace(nowMs: number): boolean {
    if (this.#usedMs.size < this.#limit) return true;
    for (const [oldest, usedMs] of this.#usedMs) {
      if (nowMs - usedMs < this.#idleMs) return false;
      this.#usedMs.delete(oldest);
      this.#onGone(oldest);
      return true;
    }
    return false;
  }
}
