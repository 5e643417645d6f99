/** The fault suite: `npm run test:faults -- --help`. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { stopSignal } from "../../src/cli/stop-signals.js";
import { findEnvoy } from "../../src/envoy/find-envoy.js";
import { PACKAGE_ROOT } from "../../src/lib/package-root.js";
import { type Outcome, runFaults } from "./experiment.js";
import { type Fault, FAULTS } from "./faults.js";
import { Load } from "./load.js";
import { describeOutcome, isFaultless, writeReport } from "./report.js";
import { startStage } from "./stage.js";

interface Flags {
  readonly only?: string;
  readonly pairs: number;
  readonly seed: number;
  readonly out: string;
  readonly logs?: string;
}

const DEFAULT_PAIRS = 8;
const REPORT = join(PACKAGE_ROOT, "docs/reliability.md");

new Command("test:faults")
  .description(
    "Kills, pauses, restarts and cuts off every part of a mesh under load, and writes what clients saw of it into a report.",
  )
  .option("--only <text>", "faults whose name has this text; nothing is written then")
  .option("--pairs <count>", "how many random pairs of faults come after the single ones", wholeNumber, DEFAULT_PAIRS)
  .option("--seed <number>", "which pairs; default: another one each time", wholeNumber, Date.now() % 1_000_000)
  .option("--logs <folder>", "where what the jobs log is kept")
  .option("--out <file>", "the report, which has a place for the table", REPORT)
  .action(run)
  .parseAsync()
  .catch((error: unknown) => {
    process.stderr.write(`test:faults: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  });

function wholeNumber(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 0) return value;
  throw new InvalidArgumentError(`${text} is no whole number`);
}

async function run({ only, pairs, seed, out, logs }: Flags): Promise<void> {
  const progress = (line: string) => process.stderr.write(`… ${line}\n`);
  const singles = FAULTS.filter(({ name }) => only === undefined || name.includes(only));
  if (singles.length === 0) throw new Error(`no fault has "${only ?? ""}" in its name`);
  const runs: (readonly Fault[])[] = [
    ...singles.map((fault) => [fault]),
    ...(only === undefined ? randomPairs(pairs, seed) : []),
  ];
  const interruption = new AbortController();
  void stopSignal().then(() => {
    interruption.abort();
    progress("interrupted: clearing away after this fault; again, and it ends at once");
  });
  if (logs !== undefined) await mkdir(logs, { recursive: true });
  const stage = await startStage({ progress, logsFolder: logs });
  const load = new Load(
    stage.routers.map(({ port }) => port),
    stage.targets,
  );
  const outcomes: Outcome[] = [];
  const skipped: string[] = [];
  try {
    for (const [index, faults] of runs.entries()) {
      if (interruption.signal.aborted) break;
      const title = faults.map(({ name }) => name).join(" + ");
      const reason = faults.map(({ impossible }) => impossible?.(stage)).find((one) => one !== undefined);
      if (reason !== undefined) {
        skipped.push(`${title} (${reason})`);
        continue;
      }
      progress(`${index + 1}/${runs.length} ${title}`);
      const outcome = await runFaults(stage, load, faults);
      outcomes.push(outcome);
      process.stdout.write(`${title}\n    ${describeOutcome(outcome)}\n`);
    }
  } finally {
    await load.close();
    await stage.close();
  }
  if (interruption.signal.aborted) process.exitCode = 130;
  else if (only === undefined) {
    await writeReport(out, { outcomes, skipped, seed, envoy: (await findEnvoy()).version });
    progress(`written: ${out}`);
  }
  if (!outcomes.every(isFaultless)) process.exitCode ??= 1;
}

/** Two different faults each, of which neither takes the other's victim away; the same for the same seed. */
function randomPairs(count: number, seed: number): readonly (readonly [Fault, Fault])[] {
  let state = seed;
  // https://en.wikipedia.org/wiki/Linear_congruential_generator, with the constants of Numerical Recipes
  const random = (below: number) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const victim = ({ name }: Fault) => name.split(/[:,]/)[0];
  return Array.from({ length: count }, () => {
    const first = FAULTS[random(FAULTS.length)];
    const others = FAULTS.filter((fault) => first && victim(fault) !== victim(first));
    const second = others[random(others.length)];
    if (!first || !second) throw new Error("no faults");
    return [first, second];
  });
}
