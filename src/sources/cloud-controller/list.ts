/**
 * Reading a whole list that changes while it is read.
 *
 * Pages by number are no snapshot: each deletion moves the rows behind it forward by one, and the row that crosses a
 * page boundary is never seen. So a walk goes on from the creation time of the last row that it saw, which no deletion
 * moves. Creation times have whole seconds; rows may come up twice, and callers take them by guid.
 */
import type { Query } from "./cc-client.js";
import { listUnreadable } from "./faults.js";
import { createdAt, type Page } from "./resources.js";
import { timestampOf } from "./timestamps.js";
import { Turns } from "./turns.js";

/** Reads one page of a list. */
export type FetchPage = (query: Query) => Promise<Page>;

export interface ListOptions {
  /** Filters and includes of the list. */
  readonly query: Query;
  /** 1..5000. */
  readonly pageSize: number;
  /** How many pages may be asked for at a time. */
  readonly concurrency: number;
}

/** With fewer pages each, more walkers would ask for places and for pages that overlap, and save little time. */
const PAGES_PER_WALKER = 4;
/** How often a second with more rows than a page is read again because rows of it went away meanwhile. */
const MAX_ATTEMPTS = 10;

/**
 * Hands every row that is there from beginning to end of the read to `take`, at least once, pages in no certain order.
 * Rows that come or go meanwhile may be among them.
 *
 * Throws  what `fetch` and `take` throw; MESH_SOURCE_MALFORMED when the list can't be read as a whole.
 */
export async function readWholeList(
  fetch: FetchPage,
  { query, pageSize, concurrency }: ListOptions,
  take: (page: Page) => Promise<void> | void,
): Promise<void> {
  const turns = new Turns(concurrency);
  const read = async (more: Query): Promise<Page> => {
    const page = await turns.run(() => fetch({ ...query, ...more }));
    await take(page);
    return page;
  };
  const first = await read({ order_by: "created_at", per_page: pageSize });
  if (isComplete(first)) return;

  // Each walker starts at the creation time of a row, and goes up to where the next one started.
  const total = first.pagination.total_results;
  const walkers = Math.min(concurrency, Math.ceil(total / pageSize / PAGES_PER_WALKER));
  const starts = [lastCreatedAt(first)];
  for (let walker = 1; walker < walkers; walker += 1) {
    const place = Math.floor((total * walker) / walkers);
    const probe = await read({ order_by: "created_at", per_page: 1, page: place + 1 });
    if (probe.resources.length > 0) starts.push(lastCreatedAt(probe));
  }
  const bounds = [...new Set(starts)].sort();
  await Promise.all(bounds.map((from, place) => walk(read, pageSize, from, bounds[place + 1])));
}

type Read = (query: Query) => Promise<Page>;

/** Reads the rows created at `from` or later and before `until`. */
async function walk(read: Read, pageSize: number, from: string, until: string | undefined): Promise<void> {
  for (let cursor = from; until === undefined || cursor < until;) {
    const page = await read({ order_by: "created_at", per_page: pageSize, "created_ats[gte]": cursor });
    if (isComplete(page)) return;
    const last = lastCreatedAt(page);
    if (last === cursor) {
      await readSecond(read, pageSize, cursor);
      cursor = nextSecond(cursor);
    } else {
      cursor = last;
    }
  }
}

/**
 * Reads the rows of one second that has more of them than a page. Pages by number must do, but nothing can be added to
 * a second that is over: with the same total on each page, nothing was deleted between them.
 */
async function readSecond(read: Read, pageSize: number, second: string): Promise<void> {
  for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt += 1) {
    const readNumber = (page: number) =>
      read({
        order_by: "created_at",
        per_page: pageSize,
        created_ats: second,
        "created_ats[gte]": undefined,
        page,
      });
    const first = await readNumber(1);
    const total = first.pagination.total_results;
    if (isComplete(first)) return;
    const perPage = first.resources.length;
    const numbers = Array.from({ length: Math.ceil(total / perPage) - 1 }, (_, index) => index + 2);
    const others = await Promise.all(numbers.map(readNumber));
    if (others.every(({ pagination }) => pagination.total_results === total)) return;
  }
  throw listUnreadable(`rows created at ${second} were deleted during each of ${MAX_ATTEMPTS} reads`);
}

function isComplete({ pagination, resources }: Page): boolean {
  return resources.length >= pagination.total_results;
}

function lastCreatedAt({ resources }: Page): string {
  for (const resource of resources.toReversed()) {
    const created = createdAt(resource);
    if (created !== undefined) return created;
  }
  throw listUnreadable("a page that is not the last has no row with a creation time");
}

function nextSecond(timestamp: string): string {
  return timestampOf(Date.parse(timestamp) + 1000);
}
