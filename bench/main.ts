/** The benchmarks' command line: `npm run bench -- --help`. */
import { setMaxListeners } from "node:events";
import { Command, InvalidArgumentError } from "commander";
import { stopSignal } from "../src/cli/stop-signals.js";
import { type EnvoyBinary, findEnvoy } from "../src/envoy/find-envoy.js";
import { asError, MeshError } from "../src/lib/errors.js";
import { currentLoad, describeMachine, type Machine, thisMachine } from "./machine.js";
import { type Measurement, type Part, PARTS, type RecordedPart, shareOfGoal } from "./measurement.js";
import { BENCH_FOLDER, ResultStore } from "./results.js";
import { run } from "./run.js";
import { measureSoak } from "./soak.js";
import { measurementRow, TABLE_HEAD } from "./table.js";

interface Flags {
  readonly routes: readonly number[];
  readonly only: readonly Part[];
  readonly out: string;
}

interface SoakFlags {
  readonly minutes: number;
  readonly routes: number;
  readonly out: string;
}

const DEFAULT_ROUTES = [1_000, 20_000, 100_000];
const LEAST_ROUTES = 1_000;
const DEFAULT_MINUTES = 5;
/** Less shows nothing of what grows. */
const LEAST_MINUTES = 1;
const INTERRUPTED_EXIT = 130;

const command = new Command("bench")
  .enablePositionalOptions()
  .description(
    "Measures the mesh with synthetic routes, and keeps the numbers: results/<routes>.json, all of them in RESULTS.md.",
  )
  .option("-r, --routes <counts>", `numbers of routes, joined by commas, ${LEAST_ROUTES} at least`, parseRoutes, [
    ...DEFAULT_ROUTES,
  ])
  .option("--only <parts>", `of ${PARTS.join(",")}`, parseParts, [...PARTS])
  .option("--out <folder>", "where the numbers are kept", BENCH_FOLDER)
  .action(bench);

command
  .command("soak")
  .description(
    "Changes routes, weights and instances of a whole mesh for a while: no process may grow, and the log and the " +
      "router have to equal ones made anew. Exits with 1 when a goal is missed.",
  )
  .option("-m, --minutes <number>", `how long it changes, ${LEAST_MINUTES} at least`, parseMinutes, DEFAULT_MINUTES)
  .option("-r, --routes <count>", `routes beside those that change, ${LEAST_ROUTES} at least`, parseCount, LEAST_ROUTES)
  .option("--out <folder>", "where the numbers are kept", BENCH_FOLDER)
  .action(soak);

function parseRoutes(text: string): readonly number[] {
  return text.split(",").map(parseCount);
}

function parseCount(text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count >= LEAST_ROUTES) return count;
  throw new InvalidArgumentError(`${text} is no number of routes, ${LEAST_ROUTES} at least`);
}

function parseMinutes(text: string): number {
  const minutes = Number(text);
  if (Number.isFinite(minutes) && minutes >= LEAST_MINUTES) return minutes;
  throw new InvalidArgumentError(`${text} is no number of minutes, ${LEAST_MINUTES} at least`);
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
  const begun = await begin(out);
  for (const routeCount of routes) {
    progress(`${routeCount.toLocaleString("en")} routes`);
    const { envoy, signal } = begun;
    const measured = await unlessInterrupted(signal, run({ routeCount, envoy, signal, progress }, new Set(only)));
    if (!measured) return;
    await keep(begun, routeCount, measured);
  }
}

async function soak({ minutes, routes, out }: SoakFlags): Promise<void> {
  const begun = await begin(out);
  const { signal } = begun;
  const measurements = await unlessInterrupted(signal, measureSoak({ minutes, routeCount: routes, signal, progress }));
  if (!measurements) return;
  await keep(begun, routes, new Map([["soak", measurements]]));
  const isMissed = measurements.some((one) => one.goal !== undefined && shareOfGoal(one, one.goal) > 1);
  if (isMissed) process.exitCode = 1;
}

interface Begun {
  readonly envoy: EnvoyBinary;
  readonly machine: Machine;
  readonly loadBefore: number;
  readonly store: ResultStore;
  readonly signal: AbortSignal;
}

async function begin(out: string): Promise<Begun> {
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
  return { envoy, machine, loadBefore, store: new ResultStore(out), signal };
}

async function unlessInterrupted<T>(signal: AbortSignal, measuring: Promise<T>): Promise<T | undefined> {
  try {
    return await measuring;
  } catch (error) {
    if (!signal.aborted) throw error;
    process.exitCode = INTERRUPTED_EXIT;
    return undefined;
  }
}

async function keep(
  { machine, loadBefore, store }: Begun,
  routeCount: number,
  measured: ReadonlyMap<RecordedPart, readonly Measurement[]>,
): Promise<void> {
  const measuredOn = new Date().toISOString().slice(0, "2026-01-01".length);
  const parts = new Map([...measured].map(([part, measurements]) => [part, { measuredOn, loadBefore, measurements }]));
  await store.add(routeCount, machine, parts);
  const rows = [...measured.values()].flat().map(measurementRow);
  process.stdout.write(`\n${routeCount.toLocaleString("en")} routes\n\n${[...TABLE_HEAD, ...rows].join("\n")}\n\n`);
}

try {
  await command.parseAsync();
} catch (thrown) {
  const error = asError(thrown);
  process.stderr.write(`bench: ${error instanceof MeshError ? error.message : (error.stack ?? error.message)}\n`);
  process.exitCode = 1;
}
