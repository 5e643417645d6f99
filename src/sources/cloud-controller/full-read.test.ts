import { describe, expect, it } from "vitest";
import { silentLogger } from "../../lib/logger.js";
import type { Query } from "./cc-client.js";
import { FullRead } from "./full-read.js";
import type { FetchList } from "./lookups.js";
import { Refusals } from "./refusals.js";
import type { Page } from "./resources.js";

const CREATED = "2026-01-01T00:00:00Z";
const DOMAIN = { guid: "d", name: "example.test", internal: false };
const reference = (guid: string) => ({ data: { guid } });
const route = (guid: string, more: object = {}) => ({
  guid,
  created_at: CREATED,
  host: guid,
  path: "",
  destinations: [],
  relationships: { space: reference("s"), domain: reference("d") },
  ...more,
});

/** A Cloud Controller with nothing but routes. */
function platform(routes: () => readonly unknown[], byGuid: (guid: string) => unknown = () => undefined): FetchList {
  return (path: string, query: Query): Promise<Page> => {
    const guids = query["guids"];
    const named = typeof guids === "string" ? guids.split(",").map(byGuid) : routes();
    const resources = path === "/v3/routes" ? named.filter((one) => one !== undefined) : [];
    return Promise.resolve({
      pagination: { total_results: resources.length },
      resources,
      included: { domains: [DOMAIN], organizations: [] },
    });
  };
}

const fullRead = (fetch: FetchList) =>
  new FullRead({ fetch, refusals: new Refusals(silentLogger), pageSize: 100, concurrency: 4 });
const guidsOf = (read: FullRead) => [...read.entries].map(([guid]) => guid);

describe("a full read", () => {
  it("asks for a known route by its guid before the route counts as gone", async () => {
    const fetch = platform(
      () => [route("a")],
      (guid) => (guid === "skipped" ? route(guid) : undefined),
    );
    const read = fullRead(fetch);
    await read.run(() => ["a", "skipped", "gone"]);
    expect(guidsOf(read)).toEqual(["a", "skipped"]);
  });

  it("keeps what was read on its own meanwhile over what its pages say", async () => {
    const newer = { guid: "changed", appGuids: ["app"], value: Buffer.from("newer") };
    const read: FullRead = fullRead(
      platform(() => {
        read.setRoute("changed", newer);
        read.setRoute("gone", undefined);
        return [route("changed"), route("gone"), route("same")];
      }),
    );
    await read.run(() => ["changed", "gone", "same"]);
    expect(guidsOf(read)).toEqual(["changed", "same"]);
    expect(Buffer.from(new Map(read.entries).get("changed") ?? "").toString()).toBe("newer");
    expect([...read.index.routesOf(new Set(["app"]))]).toEqual(["changed"]);
  });

  it("refuses malformed routes alone", async () => {
    const read = fullRead(
      platform(() => [
        route("good"),
        route("bad", { host: 7 }),
        route("stray", { relationships: { space: reference("s"), domain: reference("elsewhere") } }),
      ]),
    );
    await read.run(() => []);
    expect(guidsOf(read)).toEqual(["good"]);
    expect([...read.refused]).toEqual(["bad", "stray"]);
    expect(read.maySayGone).toBe(true);
  });

  it("can't say that anything is gone after a route without a readable guid", async () => {
    const read = fullRead(platform(() => [route("good"), { guid: ["x"] }]));
    await read.run(() => []);
    expect(read.maySayGone).toBe(false);
  });
});
