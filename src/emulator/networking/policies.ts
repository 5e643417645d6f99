import type { Clock } from "../../lib/clock.js";

/** Who may send to whom: apps by guid, container ports from `start` to `end`. */
export interface Policy {
  readonly sourceId: string;
  readonly destinationId: string;
  readonly protocol: "tcp" | "udp";
  readonly startPort: number;
  readonly endPort: number;
}

/** The mark that packets of an app carry: four hexadecimal digits. */
export interface Tag {
  readonly id: string;
  readonly tag: string;
  readonly type: string;
}

export interface PolicyFilter {
  readonly sourceIds: ReadonlySet<string>;
  readonly destinationIds: ReadonlySet<string>;
  /** Whether both must match, or either may. */
  readonly both: boolean;
}

/** What stays over a restart. */
export interface PolicyState {
  readonly policies: readonly Policy[];
  readonly tags: readonly Tag[];
  /** See `Policies.lastUpdated`. */
  readonly lastUpdated: number;
}

const MAX_TAG = 0xffff;
const APP = "app";

/** The policy server's database. */
export class Policies {
  readonly #policies = new Map<string, Policy>();
  readonly #tags = new Map<string, Tag>();
  readonly #clock: Clock;
  #lastUpdated = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Grows with each change: the time of the last one, in Unix microseconds, or a little more. */
  get lastUpdated(): number {
    return this.#lastUpdated;
  }

  /** In the order in which they came. */
  all(): readonly Policy[] {
    return [...this.#policies.values()];
  }

  matching({ sourceIds, destinationIds, both }: PolicyFilter): readonly Policy[] {
    return this.all().filter(({ sourceId, destinationId }) => {
      const [isSource, isDestination] = [sourceIds.has(sourceId), destinationIds.has(destinationId)];
      return both ? isSource && isDestination : isSource || isDestination;
    });
  }

  tags(): readonly Tag[] {
    return [...this.#tags.values()];
  }

  tagOf(appGuid: string): string {
    return this.#tags.get(appGuid)?.tag ?? "";
  }

  /** Those that exist already stay as they are. */
  create(policies: readonly Policy[]): void {
    for (const policy of policies) {
      this.#policies.set(keyOf(policy), policy);
      this.createTag(policy.sourceId, APP);
      this.createTag(policy.destinationId, APP);
    }
    this.#touch();
  }

  /** Those that do not exist are left in peace. A tag that no policy needs is free again. */
  delete(policies: readonly Policy[]): void {
    for (const policy of policies) this.#policies.delete(keyOf(policy));
    const used = new Set(this.all().flatMap(({ sourceId, destinationId }) => [sourceId, destinationId]));
    for (const { id, type } of this.tags()) if (type === APP && !used.has(id)) this.#tags.delete(id);
    this.#touch();
  }

  /** Drops the policies of apps that are gone. */
  forget(isGone: (appGuid: string) => boolean): void {
    const stale = this.all().filter(({ sourceId, destinationId }) => isGone(sourceId) || isGone(destinationId));
    if (stale.length > 0) this.delete(stale);
  }

  /** The one that exists, or a new one. Throws a plain Error when all 65,535 are taken. */
  createTag(id: string, type: string): Tag {
    const existing = this.#tags.get(id);
    if (existing !== undefined) return existing;
    const taken = new Set(this.tags().map(({ tag }) => tag));
    for (let number = 1; number <= MAX_TAG; number++) {
      const tag = number.toString(16).toUpperCase().padStart(4, "0");
      if (taken.has(tag)) continue;
      const created = { id, tag, type };
      this.#tags.set(id, created);
      return created;
    }
    throw new Error("every tag is taken");
  }

  get state(): PolicyState {
    return { policies: this.all(), tags: this.tags(), lastUpdated: this.#lastUpdated };
  }

  restore({ policies, tags, lastUpdated }: PolicyState): void {
    for (const policy of policies) this.#policies.set(keyOf(policy), policy);
    for (const tag of tags) this.#tags.set(tag.id, tag);
    this.#lastUpdated = lastUpdated;
  }

  #touch(): void {
    this.#lastUpdated = Math.max(this.#lastUpdated + 1, this.#clock.now() * 1_000);
  }
}

function keyOf({ sourceId, destinationId, protocol, startPort, endPort }: Policy): string {
  return [sourceId, destinationId, protocol, startPort, endPort].join(" ");
}
