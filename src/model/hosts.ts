/**
 * Hosts and the groups that they are served in. An exact host is a group of its own. Wildcard hosts are grouped by the
 * last two words of their names, since a proxy that looks for the wildcard of a.b.example.com can afford one look: it
 * takes the group "*.example.com", which holds "*.b.example.com" and "*.example.com" side by side.
 */

const WILDCARD = "*.";

export function isWildcard(host: string): boolean {
  return host.startsWith(WILDCARD);
}

/** The group of a host: itself, or for a wildcard host "*." and the last two words (or the only one) of its name. */
export function groupOf(host: string): string {
  if (!isWildcard(host)) return host;
  const words = host.slice(WILDCARD.length).split(".");
  return WILDCARD + words.slice(-2).join(".");
}

/** The group of a host's wildcards; undefined for a host, of one word or two, that has none but those of its last word. */
export function wildcardGroupOf(host: string): string | undefined {
  const words = host.split(".");
  return words.length > 2 ? WILDCARD + words.slice(-2).join(".") : undefined;
}

/** The wildcard hosts that also match what `host` matches, nearest first: "*.a.b.c" has "*.b.c" and "*.c". */
export function* wildcardsAbove(host: string): Iterable<string> {
  const words = host.split(".");
  const first = isWildcard(host) ? 2 : 1;
  for (let place = first; place < words.length; place += 1) yield WILDCARD + words.slice(place).join(".");
}
