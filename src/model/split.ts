/** Routes whose requests are told apart before they are balanced: by their headers or cookies, or by who sends them. */
import type { CohortCookie, RequestMatch, RouteWishes } from "./annotations.js";
import { appShares, type Member, type Share } from "./shares.js";

export interface Split {
  /** In the order in which they are tried. */
  readonly branches: readonly Branch[];
  /** Keeps a client with the share that it got first. */
  readonly cohort: CohortCookie | undefined;
  readonly copies: Copies | undefined;
}

/** Requests that match go to these shares and no others. */
export interface Branch {
  readonly match: RequestMatch;
  /** At least one. */
  readonly shares: readonly Share[];
}

/** Requests that are sent a second time, and whose second answer counts for nothing. */
export interface Copies {
  /** Above 0, at most 100. */
  readonly percent: number;
  /** At least one. */
  readonly shares: readonly Share[];
}

/** All that requests of a route may go to, and copies of them. One that several branches lead to comes up for each. */
export function allShares({ shares, split }: { shares: readonly Share[]; split: Split | undefined }): readonly Share[] {
  return [...shares, ...(split?.branches ?? []).flatMap((branch) => branch.shares), ...(split?.copies?.shares ?? [])];
}

/** The shares of all requests that match nothing, and how the others are told apart. */
export interface SplitShares {
  readonly shares: readonly Share[];
  readonly split: Split;
}

/** undefined for a route that is not split: most of them. */
export function splitOf(
  { matches, matchOnly, cohort, mirror }: RouteWishes,
  members: readonly Member[],
): SplitShares | undefined {
  if (matches.length === 0 && matchOnly.length === 0 && !cohort && !mirror) return undefined;
  const all = appShares(members);
  const sharesOf = (appGuid: string) => all.filter((share) => share.appGuid === appGuid);
  // A part of a route may lack apps that its annotations name.
  const isHere = ({ app }: { readonly app: string }) => sharesOf(app).length > 0;
  const others = all.filter(({ appGuid }) => !matchOnly.includes(appGuid) && mirror?.app !== appGuid);
  const weighted = others.filter(({ weight }) => weight > 0);
  return {
    shares: weighted.length > 0 ? weighted : others,
    split: {
      branches: matches.filter(isHere).map((match) => ({ match, shares: sharesOf(match.app) })),
      cohort,
      copies: mirror && isHere(mirror) ? { percent: mirror.percent, shares: sharesOf(mirror.app) } : undefined,
    },
  };
}
