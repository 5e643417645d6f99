import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { failedCount, runFaults } from "./experiment.js";
import { FAULTS } from "./faults.js";
import { Load } from "./load.js";
import { describeOutcome } from "./report.js";
import { type Stage, startStage } from "./stage.js";

const START_TIMEOUT_MS = 90_000;
const FAULT_TIMEOUT_MS = 90_000;

/** The rest: npm run test:faults. */
const PART = [
  "control, leader: killed",
  "route-syncer, leader: killed",
  "router agent: killed",
  "log server, leader of the stream: killed",
];

describe("a mesh of two of each job and three log servers, under load", () => {
  let stage: Stage;
  let load: Load;
  beforeAll(async () => {
    stage = await startStage({ progress: () => undefined });
    load = new Load(
      stage.routers.map(({ port }) => port),
      stage.targets,
    );
  }, START_TIMEOUT_MS);
  afterAll(async () => {
    await load.close();
    await stage.close();
  });

  it.each(PART)(
    "fails no request, gives no wrong answer and takes a new route in spite of '%s'",
    async (name) => {
      const fault = FAULTS.find((one) => one.name === name);
      if (!fault) throw new Error(`no fault ${name}`);
      const outcome = await runFaults(stage, load, [fault]);
      expect(failedCount(outcome), describeOutcome(outcome)).toBe(0);
      expect(outcome.counts).toMatchObject({ wrong: [] });
      expect(outcome.counts.requests).toBeGreaterThan(0);
      expect(outcome.newRoute.both).toBeDefined();
      expect(outcome.movedRoute.both).toBeDefined();
      expect(outcome.unsettled).toBeUndefined();
    },
    FAULT_TIMEOUT_MS,
  );
});
