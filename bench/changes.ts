/** From before a change is written to the log until Envoy answers by it. */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { type Answer, Connection, isServed } from "./connection.js";
import type { Goal, Measurement } from "./measurement.js";
import type { RouterProcess } from "./router-process.js";
import type { Stage } from "./stage.js";
import { quantile } from "./statistics.js";
import { appWrites, processWrite, routeWrite } from "./synthetic.js";

const SAMPLES = 200;
const MANY_ROUTES = 200_000;
const SAMPLES_AMONG_MANY = 50;
/** Of some changes before, so that the code that handles them is compiled. */
const WARM_UP = 10;
const TIMEOUT_MS = 30_000;
/** Pauses of random length up to this, so that changes do not fall into step with anyone's timers. */
const LONGEST_PAUSE_MS = 100;

/** So lopsided that the first answer by the new weights is certain to show. */
const ALL = 1_000_000;
const NEXT_TO_NONE = 1;

/** Changes something for the time number `round`. Returns who is asked, and which answers are those by the change. */
type Change = (round: number) => Promise<{ host: string; isBy: (answer: Answer) => boolean }>;

export async function measureChanges(stage: Stage, router: RouterProcess): Promise<readonly Measurement[]> {
  const { goals } = stage;
  const connection = await Connection.open(router.port, stage.signal);
  try {
    return [
      ...(await measure(stage, connection, "new route", goals.newRouteMs, newRoute(stage))),
      ...(await measure(stage, connection, "weights", goals.weightChangeMs, await newWeights(stage, connection))),
      ...(await measure(stage, connection, "instance", goals.instanceChangeMs, await newInstance(stage, connection))),
    ];
  } finally {
    connection.close();
  }
}

async function measure(
  { routeCount, signal, progress }: Stage,
  connection: Connection,
  name: string,
  goal: Goal,
  change: Change,
): Promise<readonly Measurement[]> {
  const samples = routeCount > MANY_ROUTES ? SAMPLES_AMONG_MANY : SAMPLES;
  progress(`  ${name}: ${samples} changes`);
  const tookMs: number[] = [];
  for (let round = 0; round < WARM_UP + samples; round += 1) {
    await delay(Math.random() * LONGEST_PAUSE_MS, undefined, { signal });
    const startedMs = performance.now();
    const { host, isBy } = await change(round);
    await connection.until(host, TIMEOUT_MS, isBy);
    if (round >= WARM_UP) tookMs.push(performance.now() - startedMs);
  }
  const what = `change to served: ${name}`;
  return [
    { what: `${what}, p50`, value: quantile(tookMs, 0.5), unit: "ms" },
    { what: `${what}, p99`, value: quantile(tookMs, 0.99), unit: "ms", goal, note: `${samples} changes` },
  ];
}

const answers = (app: 0 | 1) => (answer: Answer) => isServed(answer) && answer.body === String(app + 1);
const appOfRound = (round: number) => (round % 2 === 0 ? 1 : 0);

function newRoute({ log, appPorts }: Stage): Change {
  return async (round) => {
    const host = `new-${round}.apps.example.com`;
    await log.append(appWrites(host, appPorts[0]));
    return { host, isBy: isServed };
  };
}

/** Two apps, of which the first has all the weight to begin with. */
async function newWeights({ log, appPorts }: Stage, connection: Connection): Promise<Change> {
  const route = { guid: randomUUID(), host: "weights.apps.example.com" };
  const processes = appPorts.slice(0, 2).map((port) => ({ processGuid: randomUUID(), port }));
  const weigh = (favourite: 0 | 1) =>
    routeWrite(
      route,
      processes.map(({ processGuid }, app) => ({ processGuid, weight: app === favourite ? ALL : NEXT_TO_NONE })),
    );
  await log.append([...processes.map(({ processGuid, port }) => processWrite(processGuid, [port])), weigh(0)]);
  await connection.until(route.host, TIMEOUT_MS, answers(0));
  return async (round) => {
    const favourite = appOfRound(round);
    await log.append([weigh(favourite)]);
    return { host: route.host, isBy: answers(favourite) };
  };
}

/** One app, whose only instance moves between two ports. */
async function newInstance({ log, appPorts }: Stage, connection: Connection): Promise<Change> {
  const route = { guid: randomUUID(), host: "instance.apps.example.com" };
  const processGuid = randomUUID();
  await log.append([processWrite(processGuid, [appPorts[0]]), routeWrite(route, [{ processGuid, weight: 0 }])]);
  await connection.until(route.host, TIMEOUT_MS, answers(0));
  return async (round) => {
    const app = appOfRound(round);
    await log.append([processWrite(processGuid, [appPorts[app]])]);
    return { host: route.host, isBy: answers(app) };
  };
}
