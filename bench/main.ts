/** The benchmarks' command line: `npm run bench -- --help`. */
import { setMaxListeners } from "node:events";
import { Command, InvalidArgumentError } from "commander";
import { stopSignal } from "../src/cli/stop-signals.js";
import { findEnvoy } from "../src/envoy/find-envoy.js";
import { asError, MeshError } from "../src/lib/errors.js";
import { currentLoad, describeMachine, thisMachine } from "./machine.js";
import { type Part, PARTS } from "./measurement.js";
import { BENCH_FOLDER, ResultStore } from "./results.js";
import { run } from "./run.js";
import { measurementRow, TABLE_HEAD } from "./table.js";

interface Flags {
  readonly routes: readonly number[];
  readonly only: readonly Part[];
  readonly out: string;
}

const DEFAULT_ROUTES = [1_000, 20_000, 100_000];
const LEAST_ROUTES = 1_000;
const INTERRUPTED_EXIT = 130;

const command = new Command("bench")
  .description(
    "Measures the mesh with synthetic routes, and keeps the numbers: results/<routes>.json, all of them in RESULTS.md.",
  )
  .option("-r, --routes <counts>", `numbers of routes, joined by commas, ${LEAST_ROUTES} at least`, parseRoutes, [
    ...DEFAULT_ROUTES,
  ])
  .option("--only <parts>", `of ${PARTS.join(",")}`, parseParts, [...PARTS])
  .option("--out <folder>", "where the numbers are kept", BENCH_FOLDER)
  .action(bench);

function parseRoutes(text: string): readonly number[] {
  return text.split(",").map((word) => {
    const count = Number(word);
    if (Number.isInteger(count) && count >= LEAST_ROUTES) return count;
    throw new InvalidArgumentError(`${word} is no number of routes, ${LEAST_ROUTES} at least`);
  });
}

function parseParts(text: string): readonly Part[] {
  return text.split(",").map((word) => {
    const part = PARTS.find((name) => name === word);
    if (part) return part;
    throw new InvalidArgumentError(`${word} is none of ${PARTS.join(", ")}`);
  });
}

const progress = (line: string) => void process.stderr.write(`… ${line}\n`);

async function bench({ routes, only, out }: Flags): Promise<void> {
  const ending = new AbortController();
  const { signal } = ending;
  setMaxListeners(0, signal);
  void stopSignal().then(() => {
    progress("interrupted: clearing away");
    ending.abort(new Error("interrupted"));
  });
  const envoy = await findEnvoy();
  const machine = thisMachine(envoy);
  const loadBefore = currentLoad();
  progress(`${describeMachine(machine)}, load before ${loadBefore.toFixed(1)}`);
  const store = new ResultStore(out);
  for (const routeCount of routes) {
    progress(`${routeCount.toLocaleString("en")} routes`);
    const measured = await run({ routeCount, envoy, signal, progress }, new Set(only)).catch((error: unknown) => {
      if (!signal.aborted) throw error;
      process.exitCode = INTERRUPTED_EXIT;
    });
    if (!measured) return;
    const measuredOn = new Date().toISOString().slice(0, "2026-01-01".length);
    const parts = new Map(
      [...measured].map(([part, measurements]) => [part, { measuredOn, loadBefore, measurements }]),
    );
    await store.add(routeCount, machine, parts);
    const rows = [...measured.values()].flat().map(measurementRow);
    process.stdout.write(`\n${routeCount.toLocaleString("en")} routes\n\n${[...TABLE_HEAD, ...rows].join("\n")}\n\n`);
  }
}

try {
  await command.parseAsync();
} catch (thrown) {
  const error = asError(thrown);
  process.stderr.write(`bench: ${error instanceof MeshError ? error.message : (error.stack ?? error.message)}\n`);
  process.exitCode = 1;
}
