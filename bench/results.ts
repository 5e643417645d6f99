/** Keeps what was measured, a file per number of routes, and makes RESULTS.md from all of them. */
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { format } from "prettier";
import { PACKAGE_ROOT } from "../src/lib/package-root.js";
import { describeMachine, type Machine } from "./machine.js";
import { type Measurement, RECORDED_PARTS, type RecordedPart } from "./measurement.js";
import { measurementRow, TABLE_HEAD } from "./table.js";

export interface PartResult {
  /** ISO 8601, the day. */
  readonly measuredOn: string;
  /** Processes that wanted a core when the run began, the benchmarks not among them. */
  readonly loadBefore: number;
  readonly measurements: readonly Measurement[];
}

export interface Results {
  readonly routeCount: number;
  readonly machine: Machine;
  readonly parts: Partial<Record<RecordedPart, PartResult>>;
}

export const BENCH_FOLDER = join(PACKAGE_ROOT, "bench");
const FILE_NAME = /^\d+\.json$/;

/** `folder` holds RESULTS.md and the folder results. */
export class ResultStore {
  readonly #folder: string;
  readonly #resultsFolder: string;

  constructor(folder: string) {
    this.#folder = folder;
    this.#resultsFolder = join(folder, "results");
  }

  /** Replaces what was known of these parts; of another machine nothing is kept. */
  async add(routeCount: number, machine: Machine, measured: ReadonlyMap<RecordedPart, PartResult>): Promise<void> {
    await mkdir(this.#resultsFolder, { recursive: true });
    const known = (await this.#all()).find((results) => results.routeCount === routeCount);
    const isSame = known && describeMachine(known.machine) === describeMachine(machine);
    const parts: Results["parts"] = { ...(isSame && known.parts), ...Object.fromEntries(measured) };
    const results: Results = { routeCount, machine, parts };
    const json = await format(JSON.stringify(results), { parser: "json", printWidth: 120 });
    await writeFile(join(this.#resultsFolder, `${routeCount}.json`), json);
    await this.#writeSummary();
  }

  async #all(): Promise<readonly Results[]> {
    const names = (await readdir(this.#resultsFolder)).filter((name) => FILE_NAME.test(name));
    const all = await Promise.all(
      names.map(async (name) => JSON.parse(await readFile(join(this.#resultsFolder, name), "utf8")) as Results),
    );
    return all.sort((a, b) => a.routeCount - b.routeCount);
  }

  async #writeSummary(): Promise<void> {
    const sections = (await this.#all()).map(section);
    const text = [INTRODUCTION, ...sections].join("\n\n");
    const markdown = await format(text, { parser: "markdown", printWidth: 120 });
    await writeFile(join(this.#folder, "RESULTS.md"), markdown);
  }
}

const INTRODUCTION = `# Results of the benchmarks

Made by \`npm run bench\` from the files in [results](results). How it measures, and why goals are missed: [README](README.md).`;

function section({ routeCount, machine, parts }: Results): string {
  const rows = RECORDED_PARTS.flatMap((part) => parts[part]?.measurements.map(measurementRow) ?? []);
  return [
    `## ${routeCount.toLocaleString("en")} routes`,
    `${describeMachine(machine)}. ${occasions(parts)}.`,
    [...TABLE_HEAD, ...rows].join("\n"),
  ].join("\n\n");
}

/** "2026-11-23, load before 0.4: log, start; …" */
function occasions(parts: Results["parts"]): string {
  const byOccasion = new Map<string, string[]>();
  for (const part of RECORDED_PARTS) {
    const result = parts[part];
    if (!result) continue;
    const occasion = `${result.measuredOn}, load before ${result.loadBefore.toFixed(1)}`;
    byOccasion.set(occasion, [...(byOccasion.get(occasion) ?? []), part]);
  }
  return [...byOccasion].map(([occasion, names]) => `${occasion}: ${names.join(", ")}`).join("; ");
}
