/** What the runs saw, as a table in docs/reliability.md. */
import { readFile, writeFile } from "node:fs/promises";
import { cpus, totalmem } from "node:os";
import { failedCount, type Outcome } from "./experiment.js";

const BEGIN = "<!-- made by npm run test:faults: begin -->";
const END = "<!-- made by npm run test:faults: end -->";
const GOAL_MS = 2_000;

export function describeOutcome(outcome: Outcome): string {
  const { counts, newRoute, movedRoute, unsettled } = outcome;
  const parts = [
    `${counts.requests} requests`,
    `${failedCount(outcome)} failed`,
    `${counts.wrong.length} wrong`,
    ...(outcome.breaksConnections ? [`${counts.broken.length} on connections that broke`] : []),
    `new route after ${inSeconds(newRoute.first)}, on both routers ${inSeconds(newRoute.both)}`,
    `moved route after ${inSeconds(movedRoute.first)}, on both routers ${inSeconds(movedRoute.both)}`,
    ...(unsettled === undefined ? [] : [`not settled: ${unsettled}`]),
  ];
  const samples = [...counts.failures, ...counts.wrong, ...(outcome.breaksConnections ? [] : counts.broken)];
  return [parts.join(", "), ...new Set(samples.slice(0, 3))].join("\n    ");
}

/** No request failed and none was answered by a wrong app, and all was as before in the end. */
export function isFaultless(outcome: Outcome): boolean {
  return failedCount(outcome) === 0 && outcome.counts.wrong.length === 0 && outcome.unsettled === undefined;
}

export interface Run {
  readonly outcomes: readonly Outcome[];
  /** "<fault>: <reason>" for each that could not be made. */
  readonly skipped: readonly string[];
  readonly seed: number;
  readonly envoy: string;
}

/** Throws when the file has no place for the table. */
export async function writeReport(file: string, run: Run): Promise<void> {
  const text = await readFile(file, "utf8");
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`${file}: no "${BEGIN}" before "${END}"`);
  await writeFile(file, `${text.slice(0, begin + BEGIN.length)}\n\n${report(run)}\n\n${text.slice(end)}`);
}

function report({ outcomes, skipped, seed, envoy }: Run): string {
  const [cpu] = cpus();
  const machine = `${cpus().length} cores (${(cpu?.model ?? "unknown").trim()}), ${Math.round(totalmem() / 1e9)} GB`;
  const total = outcomes.reduce((sum, { counts }) => sum + counts.requests, 0);
  const failed = outcomes.reduce((sum, outcome) => sum + failedCount(outcome), 0);
  const wrong = outcomes.reduce((sum, { counts }) => sum + counts.wrong.length, 0);
  const rows = outcomes.map((outcome) => {
    const { name, counts, newRoute, movedRoute, withholdsRoutes, breaksConnections } = outcome;
    const time = (ms: number | undefined) =>
      `${inSeconds(ms)}${withholdsRoutes === undefined && (ms === undefined || ms > GOAL_MS) ? " (!)" : ""}`;
    const broken = breaksConnections ? String(counts.broken.length) : "";
    const cells = [name, counts.requests, failedCount(outcome), counts.wrong.length, broken];
    const times = [newRoute, movedRoute].flatMap(({ first, both }) => [time(first), time(both)]);
    return `| ${[...cells, ...times, `${counts.slowestMs.toFixed(0)} ms`].join(" | ")} |`;
  });
  return [
    `${new Date().toISOString().slice(0, 10)}, ${machine}, Node ${process.versions.node}, Envoy ${envoy}; pairs by seed ${seed}.`,
    `${outcomes.length} runs, ${total.toLocaleString("en")} requests: **${failed} failed, ${wrong} wrong**.`,
    "",
    "| fault | requests | failed | wrong | broken connections | new route | on both routers | moved route | on both routers | slowest answer |",
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ...rows,
    ...skipped.map((reason) => `\nNot made: ${reason}.`),
  ].join("\n");
}

function inSeconds(ms: number | undefined): string {
  return ms === undefined ? "more than 60 s" : `${(ms / 1_000).toFixed(1)} s`;
}
