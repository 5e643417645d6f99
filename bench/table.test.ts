import { expect, it } from "vitest";
import { measurementRow } from "./table.js";

it("says of a missed goal by how much, whichever way the goal goes", () => {
  const slow = { what: "change", value: 75, unit: "ms", goal: { atMost: 50 } };
  const few = { what: "cold hosts", value: 800, unit: "hosts/s", goal: { atLeast: 1_000 }, note: "32 at once" };
  expect(measurementRow(slow)).toBe("| change | 75 ms | ≤ 50 ms | **no**, by 50 % |  |");
  expect(measurementRow(few)).toBe("| cold hosts | 800 hosts/s | ≥ 1,000 hosts/s | **no**, by 25 % | 32 at once |");
});

it("has no verdict without a goal, and takes a goal that is just reached for met", () => {
  expect(measurementRow({ what: "heap", value: 907.6, unit: "B" })).toBe("| heap | 908 B |  |  |  |");
  expect(measurementRow({ what: "ratio", value: 1.45, unit: "×", goal: { atMost: 1.45 } })).toContain("| yes |");
});
