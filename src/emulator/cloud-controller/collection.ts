/** Records by guid, in the order in which they came: Cloud Controller's default order. */
export class Collection<T extends { readonly guid: string }> {
  readonly #byGuid = new Map<string, T>();
  readonly #indexes: { readonly keyOf: (item: T) => string; readonly items: Map<string, T[]> }[] = [];
  #inOrder: readonly T[] | undefined;
  #onChange = (): void => undefined;

  /** Called when a record came or went; what changes within one is its owner's to tell. */
  onChange(listener: () => void): void {
    this.#onChange = listener;
  }

  /** A lookup by a key that never changes. To be called while the collection is empty. */
  indexBy(keyOf: (item: T) => string): (key: string) => readonly T[] {
    const items = new Map<string, T[]>();
    this.#indexes.push({ keyOf, items });
    return (key) => items.get(key) ?? [];
  }

  add(item: T): T {
    this.#byGuid.set(item.guid, item);
    this.#inOrder = undefined;
    for (const index of this.#indexes) {
      const key = index.keyOf(item);
      const siblings = index.items.get(key);
      if (siblings === undefined) index.items.set(key, [item]);
      else siblings.push(item);
    }
    this.#onChange();
    return item;
  }

  get(guid: string): T | undefined {
    return this.#byGuid.get(guid);
  }

  /** For guids that other records hold: throws when the record is gone. */
  require(guid: string): T {
    const item = this.#byGuid.get(guid);
    if (item === undefined) throw new Error(`a record refers to ${guid}, which does not exist`);
    return item;
  }

  delete(item: T): void {
    if (!this.#byGuid.delete(item.guid)) return;
    this.#inOrder = undefined;
    for (const index of this.#indexes) {
      const key = index.keyOf(item);
      // A new array, so that callers may delete while they walk the old one.
      const siblings = (index.items.get(key) ?? []).filter((sibling) => sibling !== item);
      if (siblings.length === 0) index.items.delete(key);
      else index.items.set(key, siblings);
    }
    this.#onChange();
  }

  all(): readonly T[] {
    this.#inOrder ??= [...this.#byGuid.values()];
    return this.#inOrder;
  }
}
