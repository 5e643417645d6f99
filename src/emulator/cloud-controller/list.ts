import type { FastifyRequest } from "fastify";
import type { Api } from "./api.js";
import { type ListQuery, parseListQuery } from "./query.js";
import type { Resource } from "./records.js";

export type Filter<T> = (item: T, wanted: ReadonlySet<string>) => boolean;
/** What `include` adds: resources by their plural name. */
export type Include<T> = (items: readonly T[]) => Readonly<Record<string, readonly object[]>>;

export interface Listing<T extends Resource> {
  /** Read when the request comes, after the hook between pages. */
  readonly items: () => readonly T[];
  readonly present: (item: T) => object;
  readonly filters?: Readonly<Record<string, Filter<T>>>;
  readonly includes?: Readonly<Record<string, Include<T>>>;
  readonly orders?: Readonly<Record<string, Order<T>>>;
  /** Parameters that are taken, and make no difference here. */
  readonly others?: readonly string[];
}

type Order<T> = (item: T) => string | number;

export const TIME_ORDERS = {
  created_at: (item: Resource) => item.createdAt,
  updated_at: (item: Resource) => item.updatedAt,
} as const;

/** Answers one page: pagination with absolute hrefs, resources, and what `include` asks for. */
export async function list<T extends Resource>(
  api: Api,
  request: FastifyRequest,
  listing: Listing<T>,
): Promise<object> {
  const { filters = {}, includes = {}, orders = TIME_ORDERS, others = [] } = listing;
  const query = parseListQuery(queryOf(request), {
    filters: Object.keys(filters),
    includes: Object.keys(includes),
    orders: Object.keys(orders),
    others,
  });
  const path = pathOf(request);
  if (query.page > 1) await api.betweenPages({ path, page: query.page });
  const wanted = [...query.filters].map(([name, values]) => [filters[name], values] as const);
  const isPlain = query.repeated.size === 0;
  const matching = isPlain
    ? listing.items()
    : listing
        .items()
        .filter((item) => query.matches(item) && wanted.every(([holds, values]) => holds?.(item, values) === true));
  const sorted = inOrder(matching, query, orders);
  const shown = sorted.slice((query.page - 1) * query.perPage, query.page * query.perPage);
  const included = [...query.includes].map((name) => includes[name]?.(shown) ?? {});
  return {
    pagination: pagination(`${api.url()}${path}`, query, matching.length),
    resources: shown.map(listing.present),
    ...(included.length > 0 ? { included: Object.assign({}, ...included) as object } : {}),
  };
}

/** A page of a kind of resource that this foundation has none of. */
export function emptyList(api: Api, request: FastifyRequest): object {
  const query = queryOf(request);
  return {
    pagination: pagination(
      `${api.url()}${pathOf(request)}`,
      { page: 1, perPage: Number(query.get("per_page") ?? 50), repeated: new URLSearchParams() },
      0,
    ),
    resources: [],
    included: {},
  };
}

export function queryOf(request: FastifyRequest): URLSearchParams {
  return new URL(request.url, "http://host").searchParams;
}

function pathOf(request: FastifyRequest): string {
  return new URL(request.url, "http://host").pathname;
}

function inOrder<T>(items: readonly T[], query: ListQuery, orders: Readonly<Record<string, Order<T>>>): readonly T[] {
  const valueOf = query.order === undefined ? undefined : orders[query.order.by];
  if (valueOf === undefined) return items;
  const isDescending = query.order?.descending === true;
  // Records come in the order of their creation: nearly always nothing is left to do, and sorting is the dearest part.
  if (
    !isDescending &&
    items.every((item, at) => at === 0 || compare(valueOf(items[at - 1] ?? item), valueOf(item)) <= 0)
  )
    return items;
  const direction = isDescending ? -1 : 1;
  // The sort is stable: equal values keep the order of insertion, as in `ORDER BY created_at, id`.
  return [...items].sort((a, b) => direction * compare(valueOf(a), valueOf(b)));
}

function compare(a: string | number, b: string | number): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function pagination(url: string, query: Pick<ListQuery, "page" | "perPage" | "repeated">, count: number): object {
  const pageCount = Math.max(1, Math.ceil(count / query.perPage));
  const href = (page: number) => {
    const params = new URLSearchParams(query.repeated);
    params.set("page", String(page));
    params.set("per_page", String(query.perPage));
    params.sort();
    return { href: `${url}?${params.toString()}` };
  };
  return {
    total_results: count,
    total_pages: pageCount,
    first: href(1),
    last: href(pageCount),
    next: query.page < pageCount ? href(query.page + 1) : null,
    previous: query.page > 1 ? href(query.page - 1) : null,
  };
}
