import { describe, expect, it } from "vitest";
import { decodeRegistration } from "../../entries/entries.js";
import { type ApiRoute, parseRoute } from "./route.js";
import { RouteBook } from "./route-book.js";

const TTL_MS = 60_000;
const T0 = 1_000_000;

function row(name: string, index = 0, { guid = `${name}-tag`, ...fields }: { guid?: string; log_guid?: string } = {}) {
  const tag = { guid, index };
  return parseRoute({
    route: `${name}.example.com`,
    ip: "10.0.0.1",
    port: 80,
    ttl: 60,
    modification_tag: tag,
    ...fields,
  });
}

function list(book: RouteBook, nowMs: number, ...routes: readonly ApiRoute[]) {
  const reading = book.beginList();
  for (const route of routes) reading.take(route);
  return reading.finish(nowMs);
}

/** The names of the hosts that are known. */
const names = (book: RouteBook) =>
  [...book.ids()].map((id) => decodeRegistration(book.value(id) ?? expect.fail()).host.split(".")[0]).sort();
const guidOf = (book: RouteBook, { id }: ApiRoute) => decodeRegistration(book.value(id) ?? expect.fail()).appGuid;

describe("the book of routes", () => {
  it("is what the latest list says", () => {
    const book = new RouteBook(10);
    expect(list(book, T0, row("a"), row("b")).moved).toEqual(new Set([row("a").id, row("b").id]));
    const { moved, goneCount } = list(book, T0, row("b"), row("c"));
    expect(moved).toEqual(new Set([row("a").id, row("c").id]));
    expect(goneCount).toBe(1);
    expect(names(book)).toEqual(["b", "c"]);
    expect(list(book, T0, row("b", 3), row("c")).moved).toEqual(new Set());
  });

  it("follows events, and takes no older one for a newer one", () => {
    const book = new RouteBook(10);
    expect(book.upsert(row("a", 2, { log_guid: "two" }), T0)).toBe("moved");
    expect(book.upsert(row("a", 1, { log_guid: "one" }), T0)).toBe("outdated");
    expect(book.upsert(row("a", 3, { log_guid: "two" }), T0)).toBe("same");
    expect(guidOf(book, row("a"))).toBe("two");
    expect(book.remove(row("a", 2), T0)).toBe("outdated");
    expect(list(book, T0, row("a", 1, { log_guid: "one" })).moved).toEqual(new Set());
    expect(book.remove(row("a", 3), T0)).toBe("moved");
    expect(book.remove(row("a", 3), T0)).toBe("same");
    expect(names(book)).toEqual([]);
  });

  it("keeps a row that was deleted and made anew, in whatever order that is told", () => {
    const old = (index: number) => row("a", index, { guid: "old" });
    const made = row("a", 0, { guid: "new", log_guid: "new" });
    const inAnyOrder = new RouteBook(10);
    list(inAnyOrder, T0, old(9));
    expect(inAnyOrder.upsert(made, T0)).toBe("moved");
    expect(inAnyOrder.remove(old(9), T0)).toBe("outdated");
    expect(guidOf(inAnyOrder, made)).toBe("new");
    expect(inAnyOrder.remove(made, T0)).toBe("moved");

    // A list has overtaken the events of what it tells.
    const overtaken = new RouteBook(10);
    list(overtaken, T0, made);
    overtaken.upsert(old(9), T0);
    expect(overtaken.remove(old(9), T0)).toBe("same");
    expect(overtaken.upsert(made, T0)).toBe("moved");
    expect(guidOf(overtaken, made)).toBe("new");
    expect(overtaken.remove(row("a", 0, { guid: "never told" }), T0)).toBe("outdated");
    expect(overtaken.remove(made, T0)).toBe("moved");
  });

  it("believes a list in which row is there, also when a database was restored", () => {
    const book = new RouteBook(10);
    list(book, T0, row("a", 5, { guid: "old" }));
    book.upsert(row("a", 0, { guid: "new", log_guid: "new" }), T0);
    list(book, T0, row("a", 3, { guid: "old", log_guid: "restored" }));
    expect(guidOf(book, row("a"))).toBe("restored");
    expect(book.remove(row("a", 3, { guid: "old" }), T0)).toBe("moved");
  });

  it("takes whatever comes later for newer where there is no tag", () => {
    const book = new RouteBook(10);
    const untagged = (logGuid: string) => row("a", 0, { guid: "", log_guid: logGuid });
    list(book, T0, untagged("one"));
    expect(list(book, T0, untagged("two"))).toMatchObject({ hasNews: false, moved: new Set([row("a").id]) });
    expect(book.upsert(untagged("three"), T0)).toBe("moved");
    expect(book.remove(untagged(""), T0)).toBe("moved");
  });

  it("tells whether a list told of anything that no event had", () => {
    const book = new RouteBook(10);
    expect(list(book, T0, row("a")).hasNews).toBe(true);
    expect(list(book, T0, row("a")).hasNews).toBe(false);
    expect(list(book, T0, row("a", 1)).hasNews).toBe(true);
    book.upsert(row("a", 2), T0);
    expect(list(book, T0, row("a", 2)).hasNews).toBe(false);
    expect(list(book, T0)).toMatchObject({ hasNews: false, goneCount: 1 });
  });

  it("takes no more than it may, and keeps those that it has", () => {
    const book = new RouteBook(2);
    expect(list(book, T0, row("a"), row("b"), row("c")).surplusCount).toBe(1);
    expect(book.upsert(row("d"), T0)).toBe("surplus");
    expect(list(book, T0, row("d"), row("c"), row("b")).surplusCount).toBe(2);
    expect(names(book)).toEqual(["b"]);
    expect(list(book, T0, row("d"), row("c"), row("b")).surplusCount).toBe(1);
    expect(names(book)).toEqual(["b", "d"]);
  });

  describe("after the API was away", () => {
    /** One that was said again shortly before, one long before; then nobody could be reached for twice their time. */
    function afterOutage() {
      const book = new RouteBook(10);
      list(book, T0, row("early"), row("late"));
      book.upsert(row("late", 1), T0 + TTL_MS);
      book.goesAway();
      const backMs = T0 + 3 * TTL_MS;
      return { book, backMs };
    }

    it("waits for what nobody could say again, for as long as that may take", () => {
      const { book, backMs } = afterOutage();
      expect(book.isAway).toBe(true);
      // Its events come back before a list does.
      expect(book.remove(row("late", 1), backMs)).toBe("kept");
      expect(list(book, backMs)).toMatchObject({ goneCount: 0, keptCount: 2 });
      expect(book.isAway).toBe(false);
      expect(book.remove(row("late", 1), backMs + 10_000)).toBe("kept");
      expect(book.upsert(row("late", 0, { guid: "said again" }), backMs + 20_000)).toBe("same");
      expect(list(book, backMs + TTL_MS - 1, row("late", 0, { guid: "said again" }))).toMatchObject({ keptCount: 1 });
      expect(list(book, backMs + TTL_MS, row("late", 0, { guid: "said again" }))).toMatchObject({ goneCount: 1 });
      expect(names(book)).toEqual(["late"]);
    });

    it("does not wait for what is deleted on purpose", () => {
      const { book, backMs } = afterOutage();
      list(book, backMs);
      book.upsert(row("late", 2), backMs + 1_000);
      // Its time is not up for long.
      expect(book.remove(row("late", 2), backMs + 2_000)).toBe("moved");
      book.upsert(row("other"), backMs + 1_000);
      expect(list(book, backMs + 3_000)).toMatchObject({ goneCount: 1, keptCount: 1 });
      expect(names(book)).toEqual(["early"]);
    });

    it("waits for nothing after a short time", () => {
      const book = new RouteBook(10);
      list(book, T0, row("a"), row("b"));
      book.goesAway();
      book.goesAway();
      expect(book.remove(row("a"), T0 + TTL_MS / 2 - 1)).toBe("moved");
      expect(list(book, T0 + TTL_MS / 2 - 1)).toMatchObject({ goneCount: 1, keptCount: 0 });
    });

    it("waits on when the API goes away again soon, however short that is", () => {
      const { book, backMs } = afterOutage();
      list(book, backMs);
      book.goesAway();
      expect(list(book, backMs + 5_000)).toMatchObject({ goneCount: 0, keptCount: 2 });
      expect(list(book, backMs + 5_000 + TTL_MS)).toMatchObject({ goneCount: 2 });
      list(book, backMs + 10 * TTL_MS, row("early"));
      book.goesAway();
      expect(list(book, backMs + 10 * TTL_MS + 5_000)).toMatchObject({ goneCount: 1 });
    });

    it("waits for what an earlier run left", () => {
      const book = new RouteBook(10);
      book.upsert(row("new"), T0);
      book.recall(row("old").id, row("old").encode());
      book.recall(row("new").id, row("new").encode());
      book.goesAway();
      expect(list(book, T0, row("new"))).toMatchObject({ goneCount: 0, keptCount: 1 });
      expect(list(book, T0 + TTL_MS, row("new"))).toMatchObject({ goneCount: 1 });
    });
  });
});
