/** Several values by key, where nearly every key has one. Values keep the order in which they came. */
export class Multimap {
  readonly #values = new Map<string, string | Set<string>>();

  has(key: string): boolean {
    return this.#values.has(key);
  }

  keys(): IterableIterator<string> {
    return this.#values.keys();
  }

  get(key: string): Iterable<string> {
    const held = this.#values.get(key);
    if (held === undefined) return [];
    return typeof held === "string" ? [held] : held;
  }

  add(key: string, value: string): void {
    const held = this.#values.get(key);
    if (held === undefined) this.#values.set(key, value);
    else if (typeof held !== "string") held.add(value);
    else if (held !== value) this.#values.set(key, new Set([held, value]));
  }

  remove(key: string, value: string): void {
    const held = this.#values.get(key);
    if (held === value) this.#values.delete(key);
    if (held === undefined || typeof held === "string") return;
    held.delete(value);
    const [last] = held;
    if (held.size === 1 && last !== undefined) this.#values.set(key, last);
  }
}
