import type { ResourceType } from "./resources.js";

/** What one proxy asked for of one type, and holds. Pure. */
export class Subscription {
  readonly type: ResourceType;
  /** Versions by name, as sent, or as the proxy told when it connected. "" for a name that it knows not to exist. */
  readonly #held = new Map<string, string>();
  readonly #names = new Map<string, Set<string>>();
  #wantsAll = false;
  #takesUnasked = false;

  constructor(type: ResourceType) {
    this.type = type;
  }

  /** How many resources the proxy holds. */
  get heldCount(): number {
    return this.#held.size;
  }

  get wantsAll(): boolean {
    return this.#wantsAll;
  }

  /** The proxy takes names that it did not ask for. */
  get takesUnasked(): boolean {
    return this.#takesUnasked;
  }

  /** For everything that the proxy is to have: of an eager type all there is, of one on demand what the server thinks best. */
  wantAll(): void {
    this.#takesUnasked = true;
    this.#wantsAll = this.type.delivery.mode === "eager";
  }

  /** Takes over what a reconnecting proxy says it holds. */
  resume(versions: Iterable<readonly [string, string]>): void {
    for (const [name, version] of versions) {
      this.#held.set(name, version);
      // What it was given unasked it does not ask for now, either.
      if (this.type.delivery.mode === "onDemand") this.subscribe(name);
    }
  }

  subscribe(name: string): void {
    const group = this.type.groupOf(name);
    const names = this.#names.get(group);
    if (names) names.add(name);
    else this.#names.set(group, new Set([name]));
  }

  unsubscribe(name: string): void {
    const group = this.type.groupOf(name);
    const names = this.#names.get(group);
    names?.delete(name);
    if (names?.size === 0) this.#names.delete(group);
    this.#held.delete(name);
  }

  /** The names asked for, of one group. */
  namesOf(group: string): Iterable<string> {
    if (this.#wantsAll) return [group];
    return this.#names.get(group) ?? [];
  }

  /** Every name that the proxy asked for or holds. */
  *names(): Iterable<string> {
    if (this.#wantsAll && this.type.delivery.mode === "eager") {
      yield* this.type.delivery.names();
      for (const name of this.#held.keys()) if (this.type.get(name) === undefined) yield name;
    }
    for (const names of this.#names.values()) yield* names;
  }

  /** The version that the proxy holds; undefined when it was told nothing of the name. */
  heldVersion(name: string): string | undefined {
    return this.#held.get(name);
  }

  told(name: string, version: string): void {
    if (version === "" && this.#wantsAll) this.#held.delete(name);
    else this.#held.set(name, version);
  }
}
