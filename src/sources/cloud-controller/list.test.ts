import { describe, expect, it } from "vitest";
import type { Query } from "./cc-client.js";
import { type FetchPage, readWholeList } from "./list.js";
import { guidOf, type Page } from "./resources.js";

interface Row {
  readonly guid: string;
  readonly created_at: string;
}

/** A list as the Cloud Controller pages it, that can change before each page is read. */
class ChangingList {
  rows: Row[];
  readonly queries: Query[] = [];
  beforePage: (query: Query) => void = () => undefined;
  mostAtOnce = 0;
  #now = 0;

  constructor(rows: Row[]) {
    this.rows = rows;
  }

  readonly fetch: FetchPage = async (query) => {
    this.#now += 1;
    this.mostAtOnce = Math.max(this.mostAtOnce, this.#now);
    await Promise.resolve();
    this.#now -= 1;
    this.beforePage(query);
    this.queries.push(query);
    const { per_page: perPage, page = 1 } = query;
    const found = this.rows.filter(
      ({ created_at: created }) =>
        created >= String(query["created_ats[gte]"] ?? "") && created.startsWith(String(query["created_ats"] ?? "")),
    );
    const start = (Number(page) - 1) * Number(perPage);
    return { pagination: { total_results: found.length }, resources: found.slice(start, start + Number(perPage)) };
  };

  delete(guid: string | undefined): void {
    this.rows = this.rows.filter((row) => row.guid !== guid);
  }
}

const at = (second: number) => new Date(Date.UTC(2026, 0, 1) + second * 1000).toISOString().replace(".000", "");
const rowsOf = (count: number, perSecond: number): Row[] =>
  Array.from({ length: count }, (_, index) => ({ guid: `g-${index}`, created_at: at(Math.floor(index / perSecond)) }));

async function read(list: ChangingList, pageSize: number, concurrency = 4): Promise<Set<string | undefined>> {
  const seen = new Set<string | undefined>();
  await readWholeList(list.fetch, { query: {}, pageSize, concurrency }, (page: Page) => {
    for (const row of page.resources) seen.add(guidOf(row));
  });
  return seen;
}

describe("reading a whole list", () => {
  it.each([
    [0, 10, 3],
    [10, 10, 3],
    [11, 10, 3],
    [1000, 10, 3],
    [1000, 10, 10],
    [1000, 10, 1000],
    [1000, 7, 13],
    [1001, 1000, 1001],
  ])("sees each of %i rows, at %i per page and %i per second", async (count, pageSize, perSecond) => {
    const list = new ChangingList(rowsOf(count, perSecond));
    expect((await read(list, pageSize)).size).toBe(count);
  });

  it("takes one request for a list of one page", async () => {
    const list = new ChangingList(rowsOf(10, 3));
    await read(list, 10);
    expect(list.queries).toHaveLength(1);
  });

  it("asks for no more pages at a time than it may", async () => {
    const list = new ChangingList(rowsOf(2000, 500));
    await read(list, 10, 3);
    expect(list.mostAtOnce).toBe(3);
  });

  it.each([
    ["a few per second", 3],
    ["more than a page per second", 40],
    ["all in one second", 300],
  ])("misses no row that stays while others are deleted and created between pages: %s", async (_what, perSecond) => {
    const list = new ChangingList(rowsOf(300, perSecond));
    const staying = new Set(list.rows.filter((_, index) => index % 7 !== 0).map(({ guid }) => guid));
    let next = 0;
    list.beforePage = () => {
      list.delete(`g-${next}`);
      next += 7;
      // The number of rows alone shows nothing.
      list.rows.push({ guid: `new-${next}`, created_at: at(1000 + next) });
    };
    const seen = await read(list, 20);
    expect([...staying].filter((guid) => !seen.has(guid))).toEqual([]);
  });

  it("gives up on a second whose rows never stop going away", async () => {
    const list = new ChangingList(rowsOf(600, 600));
    list.beforePage = () => list.delete(list.rows[0]?.guid);
    await expect(read(list, 20)).rejects.toMatchObject({ code: "MESH_SOURCE_MALFORMED" });
  });

  it("refuses a page with more to come but nothing to go on from", async () => {
    const fetch: FetchPage = () => Promise.resolve({ pagination: { total_results: 5 }, resources: [{ guid: "x" }] });
    const whole = readWholeList(fetch, { query: {}, pageSize: 1, concurrency: 1 }, () => undefined);
    await expect(whole).rejects.toMatchObject({ code: "MESH_SOURCE_MALFORMED" });
  });
});
