/** The mesh log on a NATS server of its own: its speed, and how fast a standby takes a key space over. */
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { startNatsServer } from "../src/emulator/nats/nats-server.js";
import { silentLogger } from "../src/lib/logger.js";
import { type LeasedWriters, openLeasedWriters } from "../src/log/leased-writers.js";
import { openJetStreamLog } from "../src/log/jetstream.js";
import type { MeshLog } from "../src/log/log.js";
import { fillLog } from "./fill-log.js";
import { measureLogSpeed } from "./log-speed.js";
import type { Goal, Measurement } from "./measurement.js";
import type { Stage } from "./stage.js";
import { quantile } from "./statistics.js";

const ROUNDS = 10;
/** A million entries in a minute, and back in ten seconds. */
const WRITE_GOAL = { atLeast: 1_000_000 / 60 };
const FOLLOW_GOAL = { atLeast: 100_000 };
const KILLED_GOAL = { atMost: 2_000 };
const STOPPED_GOAL = { atMost: 200 };
/** Longer than the pause between two renewals. */
const MAX_WAIT_MS = 500;

export async function measureJetStream(stage: Stage): Promise<readonly Measurement[]> {
  const { directory, routeCount, appPorts, signal } = stage;
  const server = await startNatsServer({
    directory: join(directory, "nats"),
    settings: { jetstream: { store_dir: "jetstream" } },
  });
  const open = (stream: string) =>
    openJetStreamLog({ servers: [`nats://${server.host}:${server.port}`], stream, replicas: 1 });
  const log = await open("filled");
  try {
    const [appPort] = appPorts;
    const filled = await fillLog(log, routeCount, appPort, signal);
    const speeds = await measureLogSpeed({
      name: "JetStream",
      log,
      filled,
      appPort,
      signal,
      writeGoal: WRITE_GOAL,
      followGoal: FOLLOW_GOAL,
    });
    return [...speeds, ...(await measureTakeOvers(() => open("leases"), signal))];
  } finally {
    await log.close();
    await server.close();
  }
}

interface Contender {
  readonly log: MeshLog;
  readonly writers: LeasedWriters;
}

async function measureTakeOvers(open: () => Promise<MeshLog>, signal: AbortSignal): Promise<readonly Measurement[]> {
  const contenders: Contender[] = [];
  async function enter(): Promise<Contender> {
    const log = await open();
    const options = { lease: "bench", holder: `contender-${contenders.length}`, logger: silentLogger };
    const contender = { log, writers: await openLeasedWriters(log, { "process.bbs.": "remember" }, options) };
    contenders.push(contender);
    return contender;
  }
  /** Of one end of the leader per round: milliseconds from then until the standby leads. */
  async function takeOvers(end: (leader: Contender) => Promise<void>): Promise<readonly number[]> {
    const tookMs: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const standby = await enter();
      await delay(Math.random() * MAX_WAIT_MS, undefined, { signal });
      const startedMs = performance.now();
      const ended = end(leader);
      await standby.writers.whenRole("leader", signal);
      tookMs.push(performance.now() - startedMs);
      await ended;
      leader = standby;
    }
    return tookMs;
  }
  let leader = await enter();
  try {
    await leader.writers.whenRole("leader", signal);
    const killedMs = await takeOvers(({ log }) => log.close());
    const stoppedMs = await takeOvers(({ writers }) => writers.close());
    return [
      { what: "take-over after a kill, p50", value: quantile(killedMs, 0.5), unit: "ms" },
      worst("take-over after a kill, worst", killedMs, KILLED_GOAL),
      { what: "take-over after a clean stop, p50", value: quantile(stoppedMs, 0.5), unit: "ms" },
      worst("take-over after a clean stop, worst", stoppedMs, STOPPED_GOAL),
    ];
  } finally {
    await Promise.all(contenders.map(({ writers }) => writers.close()));
    await Promise.all(contenders.map(({ log }) => log.close()));
  }
}

const worst = (what: string, tookMs: readonly number[], goal: Goal): Measurement => ({
  what,
  value: quantile(tookMs, 1),
  unit: "ms",
  goal,
  note: `of ${ROUNDS}`,
});
