import { describe, expect, it, vi } from "vitest";
import { encodeRoute } from "../entries/entries.js";
import { silentLogger } from "../lib/logger.js";
import type { LogBatch, LogEntry } from "../log/log.js";
import { RoutingTable } from "../model/routing-table.js";
import { feedTable } from "./table-feed.js";

const HOST = "shop.example.com";
const route = (guid: string, sequence: number): LogEntry => ({
  key: `route.cc.${guid}`,
  sequence,
  value: encodeRoute({ guid, host: HOST, destinations: [{ processGuid: "blue" }] }),
});

/** Each batch is taken before the next one comes. `told`: for each telling, whether the host had a route then. */
async function feed(...batches: readonly LogBatch[]): Promise<{ told: boolean[]; end: () => Promise<void> }> {
  const table = new RoutingTable({ dialsTls: false });
  const told: boolean[] = [];
  const ending = new AbortController();
  let taken: () => void = () => undefined;
  const allTaken = new Promise<void>((resolve) => {
    taken = resolve;
  });
  const log = {
    async *follow() {
      yield* batches;
      taken();
      await new Promise((resolve) => ending.signal.addEventListener("abort", resolve));
    },
  };
  const tableFeed = feedTable(table, log, ending.signal, silentLogger, () => told.push(table.hasGroup(HOST)));
  await allTaken;
  return {
    told,
    end: async () => {
      ending.abort();
      await tableFeed.ended;
    },
  };
}

describe("the table's feed", () => {
  it("does not tell of a deletion before the log's reader is up to date: what replaces it may come after", async () => {
    const { told, end } = await feed(
      { entries: [route("old", 1)], caughtUp: true, fromStart: false },
      { entries: [{ key: "route.cc.old", sequence: 2, value: undefined }], caughtUp: false, fromStart: false },
      { entries: [route("new", 3)], caughtUp: true, fromStart: false },
    );
    expect(told).toEqual([true, true]);
    await end();
  });

  it("tells after a second at the latest, also when the log says no more", async () => {
    vi.useFakeTimers();
    try {
      const { told, end } = await feed({ entries: [route("old", 1)], caughtUp: false, fromStart: false });
      expect(told).toEqual([]);
      vi.advanceTimersByTime(1_000);
      expect(told).toEqual([true]);
      await end();
    } finally {
      vi.useRealTimers();
    }
  });
});
