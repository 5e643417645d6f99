/** Two routers, two controls and two route-syncers, each a process of its own, over one JetStream server. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Client } from "../support/client.js";
import { eventually } from "../support/eventually.js";
import { type Job, type JobFoundation, JOB_DOMAIN, type JobName, startJobFoundation } from "../support/jobs.js";

const TIMEOUT_MS = 60_000;
const NAMES = ["control", "route-syncer", "router"] as const satisfies readonly JobName[];

let foundation: JobFoundation;
let jobs: Record<(typeof NAMES)[number], readonly [Job, Job]>;
let clients: readonly [Client, Client];
let appGuid: string;

beforeAll(async () => {
  foundation = await startJobFoundation();
  appGuid = await foundation.app("shop");
  const two = async (name: JobName) =>
    Promise.all([foundation.start(name, `${name}-0`), foundation.start(name, `${name}-1`)]);
  const [control, syncer, router] = await Promise.all(NAMES.map(two));
  if (!control || !syncer || !router) throw new Error("three kinds of job");
  jobs = { control, "route-syncer": syncer, router };
  clients = [new Client(router[0].port), new Client(router[1].port)];
}, TIMEOUT_MS);

afterAll(async () => {
  for (const client of clients) client.close();
  await foundation.stop();
}, TIMEOUT_MS);

/** What the processes of a job are to its sources: one word for each process. */
async function roles(name: "control" | "route-syncer", source: string): Promise<readonly (string | undefined)[]> {
  return Promise.all(
    jobs[name].map(async (job) => (await job.status()).sources.find((each) => each.name === source)?.role),
  );
}

const answers = (client: Client, host: string) =>
  eventually(async () => (await client.get(`${host}.${JOB_DOMAIN}`)).status === 200, 20_000);

describe("two of each job on one machine", () => {
  it(
    "are all ready, and of each kind that writes one leads",
    async () => {
      for (const job of NAMES.flatMap((name) => jobs[name])) await eventually(() => job.get("/ready"), 30_000);
      expect([...(await roles("control", "diego"))].sort()).toEqual(["leader", "standby"]);
      expect([...(await roles("control", "nats"))].sort()).toEqual(["leader", "standby"]);
      expect([...(await roles("route-syncer", "cloud-controller"))].sort()).toEqual(["leader", "standby"]);
    },
    TIMEOUT_MS,
  );

  it(
    "serve the same routes through both routers",
    async () => {
      for (const client of clients) await answers(client, "shop");
    },
    TIMEOUT_MS,
  );

  it(
    "go on when one of each ends: the other leads, and new routes are served",
    async () => {
      const leading = async (name: "control" | "route-syncer", source: string) =>
        (await roles(name, source)).indexOf("leader");
      const ending = [
        jobs.control[await leading("control", "diego")],
        jobs["route-syncer"][await leading("route-syncer", "cloud-controller")],
        jobs.router[0],
      ];
      const over = new AbortController();
      const stopped = Promise.all(ending.map(async (job) => job?.stop())).finally(() => over.abort());
      do {
        expect((await clients[1].get(`shop.${JOB_DOMAIN}`)).status).toBe(200);
      } while (!over.signal.aborted);
      expect(await stopped).toEqual([0, 0, 0]);
      await foundation.route("late", appGuid);
      await answers(clients[1], "late");
      await expect(clients[0].get(`shop.${JOB_DOMAIN}`)).rejects.toThrow();
    },
    TIMEOUT_MS,
  );
});
