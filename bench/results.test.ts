import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import type { Machine } from "./machine.js";
import type { Part } from "./measurement.js";
import { type PartResult, ResultStore } from "./results.js";

const machine: Machine = { cpu: "cpu", cores: 2, memoryGb: 8, system: "linux x64", node: "20.0.0", envoy: "1.40.0" };

function measured(part: Part, what: string): ReadonlyMap<Part, PartResult> {
  return new Map([
    [part, { measuredOn: "2026-01-01", loadBefore: 0.5, measurements: [{ what, value: 1, unit: "ms" }] }],
  ]);
}

async function openStore() {
  const folder = await mkdtemp(join(tmpdir(), "cfm-results-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  return { store: new ResultStore(folder), summary: () => readFile(join(folder, "RESULTS.md"), "utf8") };
}

it("keeps the parts that were not measured again, and the other numbers of routes", async () => {
  const { store, summary } = await openStore();
  await store.add(20_000, machine, measured("log", "of twenty thousand"));
  await store.add(1_000, machine, measured("log", "first log"));
  await store.add(1_000, machine, measured("cpu", "first cpu"));
  await store.add(1_000, machine, measured("cpu", "second cpu"));
  const text = await summary();
  expect(text).not.toContain("first cpu");
  const places = ["## 1,000 routes", "first log", "second cpu", "## 20,000 routes", "of twenty thousand"];
  const found = places.map((place) => text.indexOf(place));
  expect(found[0]).toBeGreaterThan(0);
  expect(found).toEqual(found.toSorted((a, b) => a - b));
});

it("keeps nothing that another machine measured", async () => {
  const { store, summary } = await openStore();
  await store.add(1_000, machine, measured("log", "on the old machine"));
  await store.add(1_000, { ...machine, cores: 64 }, measured("cpu", "on the new machine"));
  expect(await summary()).not.toContain("on the old machine");
  expect(await summary()).toContain("on the new machine");
});
