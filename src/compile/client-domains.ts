/**
 * Domains that are reached by mutual TLS alone, each with CAs of its own for clients: which of them a request is for. A
 * domain is a host, or a wildcard for all hosts below it, at any level as wildcard routes are; the narrowest one counts.
 */
import { isWildcard } from "../model/hosts.js";
import { escaped } from "./header-matcher.js";

/** Requests of one host, or of all that a wildcard host stands for and that no guard before this one takes. */
export interface Guard {
  /** What their connection must be for; undefined: any connection will do. */
  readonly domain: string | undefined;
  /** undefined: all that are left. Else those whose authority is like this regular expression. */
  readonly authority: string | undefined;
}

const UNGUARDED: readonly Guard[] = [{ domain: undefined, authority: undefined }];

/** Of the routes of a host, at least one; the last takes whatever is left. */
export function guardsOf(host: string, domains: readonly string[]): readonly Guard[] {
  if (domains.length === 0) return UNGUARDED;
  const narrowestFirst = [...domains].sort(byWidth);
  const covering = narrowestFirst.find((domain) => isWithin(host, domain));
  const below = isWildcard(host) ? narrowestFirst.filter((domain) => domain !== host && isWithin(domain, host)) : [];
  return [
    ...below.map((domain) => ({ domain, authority: authorityPattern(domain) })),
    { domain: covering, authority: undefined },
  ];
}

export interface DomainAuthority {
  /** Requests of the domain, and of narrower ones. */
  readonly pattern: string;
  /** Requests of narrower ones. */
  readonly exceptions: readonly string[];
}

/** What tells the requests of a domain by their authority. */
export function authorityOf(domain: string, domains: readonly string[]): DomainAuthority {
  const narrower = isWildcard(domain) ? domains.filter((other) => other !== domain && isWithin(other, domain)) : [];
  return { pattern: authorityPattern(domain), exceptions: narrower.map(authorityPattern) };
}

/** Hosts are compared in any case, and without what follows a colon. */
function authorityPattern(domain: string): string {
  const name = isWildcard(domain) ? `[^:]+${escaped(domain.slice(1))}` : escaped(domain);
  return `(?i)${name}(?::.*)?`;
}

/** Whether all hosts of one are hosts of the other. */
function isWithin(host: string, domain: string): boolean {
  if (host === domain) return true;
  return isWildcard(domain) && host.endsWith(domain.slice(1));
}

/** Hosts before wildcards, then those of more words. */
function byWidth(one: string, other: string): number {
  return Number(isWildcard(one)) - Number(isWildcard(other)) || other.length - one.length || (one < other ? -1 : 1);
}
