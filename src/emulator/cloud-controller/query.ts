/** The query parameters of Cloud Controller's lists. */
import { badQueryParameter } from "./errors.js";
import { humanize } from "./body.js";
import { parseLabelSelector } from "./label-selector.js";
import type { Resource } from "./records.js";

/** What a list accepts beside page, per_page, guids, created_ats, updated_ats and label_selector. */
export interface Accepted {
  readonly filters: readonly string[];
  readonly orders: readonly string[];
  readonly includes: readonly string[];
  readonly others: readonly string[];
}

export interface ListQuery {
  readonly page: number;
  readonly perPage: number;
  readonly order: { readonly by: string; readonly descending: boolean } | undefined;
  /** Wanted values by filter. `hosts=` wants the empty string. */
  readonly filters: ReadonlyMap<string, ReadonlySet<string>>;
  readonly includes: ReadonlySet<string>;
  /** The filters that all lists have: guids, times, labels. */
  matches(resource: Resource): boolean;
  /** What the hrefs of other pages repeat: everything but page and per_page. */
  readonly repeated: URLSearchParams;
}

const MAX_PER_PAGE = 5000;
const COMMON_KEYS = ["page", "per_page", "order_by", "created_ats", "updated_ats", "guids", "label_selector"];
const TIMES = ["created_ats", "updated_ats"] as const;

/** Throws 400 BadQueryParameter with every problem, in Cloud Controller's words. */
export function parseListQuery(params: URLSearchParams, accepted: Accepted): ListQuery {
  const problems = [
    ...unknownParameters(params, accepted),
    ...pageProblems(params),
    ...orderProblems(params, accepted.orders),
    ...includeProblems(params, accepted.includes),
    ...TIMES.flatMap((name) => timeProblems(params, name)),
  ];
  if (problems.length > 0) throw badQueryParameter(problems.join(", "));

  const order = params.get("order_by") ?? "";
  const guids = valuesOf(params, "guids");
  const labels = params.get("label_selector");
  const labelsMatch = labels === null ? () => true : parseLabelSelector(labels);
  const created = timeFilter(params, "created_ats");
  const updated = timeFilter(params, "updated_ats");
  const repeated = new URLSearchParams(params);
  repeated.delete("page");
  repeated.delete("per_page");
  return {
    page: Number(params.get("page") ?? 1),
    perPage: Number(params.get("per_page") ?? 50),
    order: order === "" ? undefined : { by: order.replace(/^[+ -]/, ""), descending: order.startsWith("-") },
    filters: new Map(
      accepted.filters.flatMap((name) => {
        const values = valuesOf(params, name);
        return values === undefined ? [] : [[name, values] as const];
      }),
    ),
    includes: valuesOf(params, "include") ?? new Set(),
    matches: (resource) =>
      (guids?.has(resource.guid) ?? true) &&
      created(resource.createdAt) &&
      updated(resource.updatedAt) &&
      labelsMatch(resource.metadata.labels),
    repeated,
  };
}

/** The words of a comma list; undefined when the parameter is not there. */
export function valuesOf(params: URLSearchParams, name: string): ReadonlySet<string> | undefined {
  const value = params.get(name);
  return value === null ? undefined : new Set(value.split(",").map((word) => word.trim()));
}

export function unknownParameterMessage(unknown: readonly string[], valid: readonly string[]): string {
  return `Unknown query parameter(s): '${unknown.join("', '")}'. Valid parameters are: '${valid.join("', '")}'`;
}

function unknownParameters(params: URLSearchParams, accepted: Accepted): string[] {
  const valid = [
    ...COMMON_KEYS,
    ...accepted.filters,
    ...accepted.others,
    ...(accepted.includes.length > 0 ? ["include"] : []),
  ];
  const unknown = [...params.keys()].filter(
    (key) => !valid.includes(key) && !TIMES.some((name) => key.startsWith(`${name}[`)),
  );
  return unknown.length > 0 ? [unknownParameterMessage(unknown, valid)] : [];
}

function pageProblems(params: URLSearchParams): string[] {
  const problems: string[] = [];
  if (!isPositiveInteger(params.get("page") ?? "1")) problems.push("Page must be a positive integer");
  const perPage = params.get("per_page") ?? "50";
  if (!isPositiveInteger(perPage)) problems.push("Per page must be a positive integer");
  else if (Number(perPage) > MAX_PER_PAGE) problems.push(`Per page must be between 1 and ${MAX_PER_PAGE}`);
  return problems;
}

function isPositiveInteger(text: string): boolean {
  return /^\d+$/.test(text) && Number(text) > 0;
}

function orderProblems(params: URLSearchParams, orders: readonly string[]): string[] {
  const order = params.get("order_by") ?? "";
  // A "+" in a query string means a space.
  if (order === "" || orders.includes(order.replace(/^[+ -]/, ""))) return [];
  return [`Order by can only be: ${orders.map((name) => `'${name}'`).join(", ")}`];
}

function includeProblems(params: URLSearchParams, includes: readonly string[]): string[] {
  if (includes.length === 0) return [];
  const wrong = [...(valuesOf(params, "include") ?? [])].filter((name) => !includes.includes(name));
  if (wrong.length === 0) return [];
  return [
    `Invalid included resource: '${wrong.join("', '")}'. Valid included resources are: '${includes.join("', '")}'`,
  ];
}

type Comparison = (seconds: number, limit: number) => boolean;

const COMPARISONS: ReadonlyMap<string, Comparison> = new Map<string, Comparison>([
  ["lt", (seconds, limit) => seconds < limit],
  ["lte", (seconds, limit) => seconds <= limit],
  ["gt", (seconds, limit) => seconds > limit],
  ["gte", (seconds, limit) => seconds >= limit],
]);

/** Parameters as `updated_ats[gte]=...`: operator and value. */
function comparisonsOf(params: URLSearchParams, name: string): readonly (readonly [string, string])[] {
  return [...params]
    .filter(([key]) => key.startsWith(`${name}[`))
    .map(([key, value]) => [key.slice(name.length + 1, -1), value] as const);
}

function timeProblems(params: URLSearchParams, name: string): string[] {
  const subject = humanize(name);
  const comparisons = comparisonsOf(params, name);
  const times = [...(valuesOf(params, name) ?? []), ...comparisons.map(([, value]) => value)];
  return [
    ...comparisons
      .filter(([operator]) => !COMPARISONS.has(operator))
      .map(([operator]) => `${subject} Invalid relational operator: '${operator}'`),
    ...comparisons
      .filter(([, value]) => value.includes(","))
      .map(() => `${subject} only accepts one value when using an inequality filter`),
    ...times
      .filter((time) => !time.includes(",") && parseTime(time) === undefined)
      .map(
        () => `${subject} has an invalid timestamp format. Timestamps should be formatted as 'YYYY-MM-DDThh:mm:ssZ'`,
      ),
  ];
}

function timeFilter(params: URLSearchParams, name: string): (seconds: number) => boolean {
  const exact = valuesOf(params, name);
  const exactSeconds = exact === undefined ? undefined : new Set([...exact].map(parseTime));
  const limits = comparisonsOf(params, name).map(
    ([operator, value]) => [COMPARISONS.get(operator), parseTime(value)] as const,
  );
  return (seconds) =>
    (exactSeconds?.has(seconds) ?? true) &&
    limits.every(([holds, limit]) => limit !== undefined && holds?.(seconds, limit) === true);
}

/** Unix seconds. */
function parseTime(text: string): number | undefined {
  const milliseconds = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(text) ? Date.parse(text) : NaN;
  return Number.isNaN(milliseconds) ? undefined : milliseconds / 1000;
}
