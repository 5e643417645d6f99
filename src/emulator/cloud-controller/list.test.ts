import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  type EmulatedFoundation,
  type Shown,
  startEmulatedFoundation,
} from "../../../test/support/emulated-foundation.js";

describe("lists", () => {
  let cf: EmulatedFoundation;
  const names = (page: Shown): string[] => page.resources.map((one) => one.name);
  const bad = (problem: string) => `400 CF-BadQueryParameter: The query parameter is invalid: ${problem}`;

  beforeAll(async () => {
    cf = await startEmulatedFoundation();
    for (const name of ["a.test", "b.test", "c.test", "d.test"]) {
      cf.clock.forward(10);
      await cf.post("/v3/domains", { name, metadata: { labels: { letter: name.charAt(0) } } });
    }
  });
  afterAll(() => cf.close());

  it("come in the order of insertion, 50 to a page", async () => {
    const page = await cf.get("/v3/domains");
    expect(names(page)).toEqual(["apps.example.test", "a.test", "b.test", "c.test", "d.test"]);
    const only = { href: `${cf.foundation.apiUrl}/v3/domains?page=1&per_page=50` };
    expect(page.pagination).toEqual({
      total_results: 5,
      total_pages: 1,
      first: only,
      last: only,
      next: null,
      previous: null,
    });
  });

  it("link pages by absolute hrefs that repeat filters and order", async () => {
    const page = await cf.get(
      "/v3/domains?per_page=2&page=2&order_by=-created_at&updated_ats[gte]=2026-03-01T12:00:00Z",
    );
    expect(names(page)).toEqual(["b.test", "a.test"]);
    const href = page.pagination.next.href;
    expect(href.startsWith(`${cf.foundation.apiUrl}/v3/domains?`)).toBe(true);
    expect(Object.fromEntries(new URL(href).searchParams)).toEqual({
      order_by: "-created_at",
      page: "3",
      per_page: "2",
      "updated_ats[gte]": "2026-03-01T12:00:00Z",
    });
    expect(names(await cf.get(new URL(href).pathname + new URL(href).search))).toEqual(["apps.example.test"]);
    expect(page.pagination.previous.href).toContain("page=1");
  });

  it("show times to the second, and are filtered by them", async () => {
    const [first] = (await cf.get("/v3/domains?names=a.test")).resources;
    expect(first.created_at).toBe("2026-03-01T12:00:10Z");
    expect(names(await cf.get("/v3/domains?created_ats[gt]=2026-03-01T12:00:10Z"))).toEqual([
      "b.test",
      "c.test",
      "d.test",
    ]);
    expect(names(await cf.get("/v3/domains?created_ats[gte]=2026-03-01T12:00:30Z"))).toEqual(["c.test", "d.test"]);
    expect(names(await cf.get("/v3/domains?created_ats[lt]=2026-03-01T12:00:10Z"))).toEqual(["apps.example.test"]);
    expect(names(await cf.get("/v3/domains?updated_ats=2026-03-01T12:00:10Z,2026-03-01T12:00:40Z"))).toEqual([
      "a.test",
      "d.test",
    ]);
  });

  it("are filtered by label selectors", async () => {
    expect(names(await cf.get("/v3/domains?label_selector=letter%20in%20(a,c)"))).toEqual(["a.test", "c.test"]);
    expect(names(await cf.get("/v3/domains?label_selector=letter,letter!=b"))).toEqual(["a.test", "c.test", "d.test"]);
    expect(names(await cf.get("/v3/domains?label_selector=!letter"))).toEqual(["apps.example.test"]);
  });

  it("take an empty filter for the empty string", async () => {
    expect(names(await cf.get("/v3/domains?names="))).toEqual([]);
  });

  it("refuse parameters that they do not know, and say which they do", async () => {
    const refusal = await cf.refusal("GET", "/v3/domains?colour=red&size=2");
    expect(refusal).toBe(
      bad(
        "Unknown query parameter(s): 'colour', 'size'. Valid parameters are: 'page', 'per_page', 'order_by', " +
          "'created_ats', 'updated_ats', 'guids', 'label_selector', 'names', 'organization_guids'",
      ),
    );
  });

  it.each([
    ["per_page=5001", "Per page must be between 1 and 5000"],
    ["per_page=0", "Per page must be a positive integer"],
    ["page=none", "Page must be a positive integer"],
    ["order_by=name", "Order by can only be: 'created_at', 'updated_at'"],
    [
      "updated_ats[gte]=yesterday",
      "Updated ats has an invalid timestamp format. Timestamps should be formatted as 'YYYY-MM-DDThh:mm:ssZ'",
    ],
    ["created_ats[above]=2026-03-01T12:00:10Z", "Created ats Invalid relational operator: 'above'"],
  ])("refuse %s", async (query, problem) => {
    expect(await cf.refusal("GET", `/v3/domains?${query}`)).toBe(bad(problem));
  });

  it("let a test change them between pages", async () => {
    const pages: unknown[] = [];
    cf.foundation.faults.betweenPages = async (page) => {
      pages.push(page);
      await cf.post("/v3/domains", { name: "late.test" });
    };
    expect((await cf.get("/v3/domains?per_page=3")).pagination.total_results).toBe(5);
    expect(names(await cf.get("/v3/domains?per_page=3&page=2"))).toEqual(["c.test", "d.test", "late.test"]);
    cf.foundation.faults.betweenPages = undefined;
    expect(pages).toEqual([{ path: "/v3/domains", page: 2 }]);
  });
});
