/**
 * Places: a host and a path in one text, "shop.example.com/cart". A host without a path is a place as it is, since that
 * is what most have.
 */
import { compareText } from "../lib/compare-text.js";
import { groupOf, isWildcard } from "./hosts.js";
import { Multimap } from "./multimap.js";

/** Paths match in any case, and whole segments: "/Cart/" is "/cart". */
export function placeOf(host: string, path: string): string {
  const lower = path.toLowerCase();
  return host + (lower.endsWith("/") ? lower.slice(0, -1) : lower);
}

export function hostOf(place: string): string {
  const end = place.indexOf("/");
  return end < 0 ? place : place.slice(0, end);
}

/** "", or a lower-case path without a slash at its end. */
export function pathOf(place: string): string {
  const begin = place.indexOf("/");
  return begin < 0 ? "" : place.slice(begin);
}

/** Whether requests of `path` match `prefix`, too; both as of pathOf. */
export function isWithin(path: string, prefix: string): boolean {
  return path.startsWith(prefix) && (prefix === "" || path.length === prefix.length || path[prefix.length] === "/");
}

/** What is said of each place, by the keys of the entries that say it; and the places by host, and by group of hosts. */
export class Places {
  readonly #routes = new Multimap();
  readonly #registrations = new Multimap();
  /** Those that are more than their host. */
  readonly #pathsByHost = new Multimap();
  readonly #wildcardsByGroup = new Multimap();
  #count = 0;

  get count(): number {
    return this.#count;
  }

  addRoute(place: string, key: string): void {
    if (!this.#isTaken(place)) this.#add(place);
    this.#routes.add(place, key);
  }

  removeRoute(place: string, key: string): void {
    this.#routes.remove(place, key);
    if (!this.#isTaken(place)) this.#remove(place);
  }

  addRegistration(place: string, key: string): void {
    if (!this.#isTaken(place)) this.#add(place);
    this.#registrations.add(place, key);
  }

  removeRegistration(place: string, key: string): void {
    this.#registrations.remove(place, key);
    if (!this.#isTaken(place)) this.#remove(place);
  }

  has(place: string): boolean {
    return this.#isTaken(place);
  }

  *places(): Iterable<string> {
    yield* this.#routes.keys();
    for (const place of this.#registrations.keys()) if (!this.#routes.has(place)) yield place;
  }

  routesAt(place: string): Iterable<string> {
    return this.#routes.get(place);
  }

  hasRoute(place: string): boolean {
    return this.#routes.has(place);
  }

  registrationsAt(place: string): Iterable<string> {
    return this.#registrations.get(place);
  }

  /** In no order. */
  placesOf(host: string): readonly string[] {
    return [...(this.#isTaken(host) ? [host] : []), ...this.#pathsByHost.get(host)];
  }

  hasGroup(group: string): boolean {
    return isWildcard(group) ? this.#wildcardsByGroup.has(group) : this.#hasHost(group);
  }

  *groups(): Iterable<string> {
    for (const host of this.#hosts()) if (!isWildcard(host)) yield host;
    yield* this.#wildcardsByGroup.keys();
  }

  /** The hosts of a group that have a place, in the order of their names. */
  hostsOf(group: string): readonly string[] {
    if (isWildcard(group)) return [...this.#wildcardsByGroup.get(group)].sort(compareText);
    return this.#hasHost(group) ? [group] : [];
  }

  #add(place: string): void {
    this.#count += 1;
    const host = hostOf(place);
    if (place !== host) this.#pathsByHost.add(host, place);
    if (isWildcard(host)) this.#wildcardsByGroup.add(groupOf(host), host);
  }

  #remove(place: string): void {
    this.#count -= 1;
    const host = hostOf(place);
    if (place !== host) this.#pathsByHost.remove(host, place);
    if (isWildcard(host) && !this.#hasHost(host)) this.#wildcardsByGroup.remove(groupOf(host), host);
  }

  #isTaken(place: string): boolean {
    return this.#routes.has(place) || this.#registrations.has(place);
  }

  #hasHost(host: string): boolean {
    return this.#isTaken(host) || this.#pathsByHost.has(host);
  }

  /** Each once. */
  *#hosts(): Iterable<string> {
    const isHost = (place: string) => !place.includes("/");
    for (const place of this.#routes.keys()) if (isHost(place)) yield place;
    for (const place of this.#registrations.keys()) if (isHost(place) && !this.#routes.has(place)) yield place;
    for (const host of this.#pathsByHost.keys()) if (!this.#isTaken(host)) yield host;
  }
}
