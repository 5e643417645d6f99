/** What was registered over NATS: pure, time comes as an argument. */
import { hash } from "node:crypto";
import { decodeRegistration } from "../../entries/entries.js";
import { KEY_SPACES } from "../../entries/keys.js";
import type { Want } from "../../log/key-space-writer.js";
import type { RegisteredEndpoint, RegistryMessage } from "./message.js";
import type { UriPlace } from "../uri.js";
import { writeRegistration } from "./write-registration.js";

const MS_PER_SECOND = 1_000;
/** 128 bits of SHA-256, 22 characters of base64url. */
const KEY_BYTES = 16;
/** A TLS endpoint that an earlier run left goes after so many thresholds in which others were registered, and it was not. */
const TAKEN_OVER_THRESHOLDS = 3;

/** One message that is in force: as long as it comes again byte by byte, all its endpoints are alive. */
interface Announcement {
  /** Hash of its bytes. */
  readonly digest: string;
  seenMs: number;
}

/** One endpoint of one URI. */
interface Known {
  readonly isTls: boolean;
  readonly staleMs: number;
  readonly appGuid: string;
  readonly instanceGuid: string;
  /** Unix time in nanoseconds; 0 where it was not said. */
  readonly updatedAtNs: bigint;
  readonly announcement: Announcement;
}

export interface RegistrationsOptions {
  /** How long an endpoint without TLS stands, and the most that a message may ask for. */
  readonly staleThresholdMs: number;
  /** Endpoints of URIs; more are not taken. */
  readonly maxCount: number;
  /** Told of each entry that a message leads to, changed or not: the writer of the log knows the difference. */
  readonly onWant: (want: Want) => void;
}

/** How many of a message's URIs came to what. */
export interface Registered {
  readonly taken: number;
  /** What stands is newer. */
  readonly outdated: number;
  /** There are too many already. */
  readonly surplus: number;
}

/**
 * Gorouter's rules (route/pool.go, registry/registry.go), and these where they leave something open:
 *
 * - Order. Of one instance, a message whose `endpoint_updated_at_ns` is older than what stands changes nothing and keeps
 *   nothing alive; where one of the two does not say it, the later message counts. Another instance or app at the
 *   same address and port has taken it over, whatever the times say: clocks of cells differ, and a port has one listener.
 * - An unregister message that is older than what stands was overtaken: it removes nothing. Nothing is remembered
 *   of what is removed, so that a registration that comes after it counts.
 * - An endpoint of the log, which an earlier run left, counts as seen when this run began. Gorouter forgets all when it
 *   restarts; so one with TLS that is not registered again goes as well, after three thresholds of an unbroken
 *   connection, in which others were registered: silence of all is a fault of the platform's, and removes none.
 */
export class Registrations {
  readonly #options: RegistrationsOptions;
  /** By the end of the entry's key. */
  readonly #known = new Map<string, Known>();
  /** Those in force, by the hash of their bytes: every endpoint that such a message names points at it. */
  readonly #inForce = new Map<string, Announcement>();
  /** What all entries have in common that an earlier run left. */
  readonly #takenOver: Announcement = { digest: "", seenMs: 0 };
  /** Nothing counts as older than this: NATS was away before. */
  #freshenedMs = 0;
  #registeredSinceFreshened = false;

  constructor(options: RegistrationsOptions) {
    this.#options = options;
  }

  get count(): number {
    return this.#known.size;
  }

  /** Whether anything was registered since everything was freshened. */
  get isHeard(): boolean {
    return this.#registeredSinceFreshened;
  }

  /** Returns whether the message is one that is in force: all it says is known, and alive again. */
  refresh(digest: string, nowMs: number): boolean {
    const announcement = this.#inForce.get(digest);
    if (!announcement) return false;
    announcement.seenMs = nowMs;
    this.#registeredSinceFreshened = true;
    return true;
  }

  register(message: RegistryMessage, digest: string, nowMs: number): Registered {
    const { endpoint } = message;
    const announcement: Announcement = { digest, seenMs: nowMs };
    const staleMs = this.#staleMs(message.staleThresholdSeconds);
    const next: Known = {
      isTls: endpoint.tls,
      staleMs,
      appGuid: endpoint.appGuid,
      instanceGuid: endpoint.instanceGuid,
      updatedAtNs: endpoint.updatedAtNs,
      announcement,
    };
    const isOwnThreshold = staleMs === message.staleThresholdSeconds * MS_PER_SECOND && !endpoint.tls;
    const staleThresholdSeconds = isOwnThreshold ? message.staleThresholdSeconds : 0;
    let outdated = 0;
    let surplus = 0;
    for (const place of message.places) {
      const id = idOf(place, endpoint);
      const before = this.#known.get(id);
      if (before && isSameInstance(before, next) && isOlder(next.updatedAtNs, before.updatedAtNs)) {
        outdated += 1;
      } else if (!before && this.#known.size >= this.#options.maxCount) {
        surplus += 1;
      } else {
        if (before) this.#inForce.delete(before.announcement.digest);
        this.#known.set(id, next);
        this.#options.onWant({
          key: KEY_SPACES.natsRegistrations + id,
          value: writeRegistration(endpoint, place, staleThresholdSeconds),
        });
      }
    }
    const taken = message.places.length - outdated - surplus;
    if (taken > 0) this.#registeredSinceFreshened = true;
    // One that has to be looked at again each time is not in force.
    if (outdated + surplus + message.badUris.length === 0 && taken > 0) this.#inForce.set(digest, announcement);
    return { taken, outdated, surplus };
  }

  /** Returns how many endpoints of URIs it removed. */
  unregister({ endpoint, places }: RegistryMessage): number {
    let removed = 0;
    for (const place of places) {
      const id = idOf(place, endpoint);
      const known = this.#known.get(id);
      if (!known || isOlder(endpoint.updatedAtNs, known.updatedAtNs)) continue;
      this.#remove(id, known);
      removed += 1;
    }
    return removed;
  }

  /** An entry that an earlier run left. */
  takeOver(key: string, value: Uint8Array, nowMs: number): void {
    const { tls, staleThresholdSeconds, appGuid, instanceGuid, updatedAtNs } = decodeRegistration(value);
    this.#takenOver.seenMs = nowMs;
    this.#known.set(key.slice(KEY_SPACES.natsRegistrations.length), {
      isTls: tls,
      staleMs: this.#staleMs(staleThresholdSeconds),
      appGuid,
      instanceGuid,
      updatedAtNs,
      announcement: this.#takenOver,
    });
  }

  /** Everything counts as seen now: nobody could be heard before. */
  freshen(nowMs: number): void {
    this.#freshenedMs = nowMs;
    this.#registeredSinceFreshened = false;
  }

  /** Removes what was not registered again in time. Returns how many endpoints of URIs that were. */
  prune(nowMs: number): number {
    let pruned = 0;
    const takenOverMs = TAKEN_OVER_THRESHOLDS * this.#options.staleThresholdMs;
    for (const [id, known] of this.#known) {
      const { isTls, staleMs, announcement } = known;
      const isTakenOver = announcement === this.#takenOver;
      if (isTls && !(isTakenOver && this.#registeredSinceFreshened)) continue;
      const ageMs = nowMs - Math.max(announcement.seenMs, this.#freshenedMs);
      if (ageMs <= (isTls ? takenOverMs : staleMs)) continue;
      this.#remove(id, known);
      pruned += 1;
    }
    return pruned;
  }

  #remove(id: string, { announcement }: Known): void {
    this.#known.delete(id);
    this.#inForce.delete(announcement.digest);
    this.#options.onWant({ key: KEY_SPACES.natsRegistrations + id, value: undefined });
  }

  #staleMs(seconds: number): number {
    const { staleThresholdMs } = this.#options;
    const wantedMs = seconds * MS_PER_SECOND;
    return wantedMs > 0 && wantedMs <= staleThresholdMs ? wantedMs : staleThresholdMs;
  }
}

/** The end of the key of an endpoint's entry. */
function idOf({ host, path }: UriPlace, { address, port }: RegisteredEndpoint): string {
  return hash("sha256", `${host}${path} ${address}:${port}`, "buffer").toString("base64url", 0, KEY_BYTES);
}

function isSameInstance(a: Known, b: Known): boolean {
  return a.instanceGuid === b.instanceGuid && a.appGuid === b.appGuid;
}

function isOlder(aNs: bigint, bNs: bigint): boolean {
  return aNs !== 0n && bNs !== 0n && aNs < bNs;
}
