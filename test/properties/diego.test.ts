import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { type Certificates, createCertificates } from "../../src/emulator/certificates.js";
import { type EmulatedDiego, startDiego } from "../../src/emulator/diego/emulated-diego.js";
import { decodeProcess } from "../../src/entries/entries.js";
import { KEY_SPACES } from "../../src/entries/keys.js";
import { silentLogger } from "../../src/lib/logger.js";
import { openEmbeddedLog } from "../../src/log/embedded.js";
import { openKeySpaceWriter } from "../../src/log/key-space-writer.js";
import type { MeshLog } from "../../src/log/log.js";
import { diegoSource } from "../../src/sources/diego/diego-source.js";
import { eventually } from "../support/eventually.js";
import { runs, RUNS_TIMEOUT_MS } from "../support/random-runs.js";

const VERSION = "c2f2f4f1-1111-4c0b-9a53-0000000000aa";
const LRPS = [1, 2, 3].map((place) => `5a1c0f6e-7f0e-4c0b-9a53-00000000000${place}-${VERSION}`);

const lrp = fc.constantFrom(...LRPS);
const index = fc.nat(2);
const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant("run" as const), lrp, instances: fc.integer({ min: 1, max: 3 }) }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("remove" as const), lrp }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("routable" as const), lrp, index, isRoutable: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("suspect" as const), lrp, index }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("cut" as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("duplicate" as const), count: fc.integer({ min: 1, max: 4 }) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("reverse" as const), count: fc.integer({ min: 2, max: 4 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("nonsense" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("restart" as const) }) },
);

let certificates: Certificates;
beforeAll(async () => {
  certificates = await createCertificates();
});

/** Follows the BBS into a log. */
function follow(diego: EmulatedDiego, log: MeshLog) {
  let ending = new AbortController();
  let ended: Promise<void> = Promise.resolve();
  const { ca, client } = certificates;
  const credentials = { ca, certificate: client.certificate, key: client.key };
  const begin = async () => {
    ending = new AbortController();
    const source = diegoSource({
      urls: [diego.bbsUrl],
      credentials: () => credentials,
      resyncIntervalMs: 200,
      readStored: () => log.read(KEY_SPACES.diegoProcesses),
      logger: silentLogger,
    });
    ended = source.run(await openKeySpaceWriter(log, KEY_SPACES.diegoProcesses), ending.signal);
    return source;
  };
  const stop = async () => {
    ending.abort();
    await ended;
  };
  return { begin, stop };
}

/** The instances of each process, in the order of their guids. */
async function processesIn(log: MeshLog): Promise<unknown> {
  const processes: Record<string, unknown> = {};
  for await (const entries of log.read(KEY_SPACES.diegoProcesses)) {
    for (const { key, value } of entries) {
      if (!value) continue;
      const { instances, appGuid } = decodeProcess(value);
      if (instances.length > 0) {
        processes[key] = { appGuid, instances: instances.toSorted((a, b) => (a.guid < b.guid ? -1 : 1)) };
      }
    }
  }
  return processes;
}

describe("the Diego source", () => {
  it(
    "ends with the instances that a fresh full read gives, whatever happened and was lost meanwhile",
    async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 25 }), async (steps) => {
          const directory = await mkdtemp(join(tmpdir(), "cf-mesh-"));
          const diego = await startDiego({ host: "127.0.0.1", bbsPort: 0, certificates, logger: silentLogger });
          const log = await openEmbeddedLog({ directory: join(directory, "log") });
          const fresh = await openEmbeddedLog({ directory: join(directory, "fresh") });
          const following = follow(diego, log);
          const reading = follow(diego, fresh);
          const isThere = (guid: string, place: number) =>
            diego.instances(guid).some((instance) => instance.index === place && instance.state === "RUNNING");
          try {
            await following.begin();
            for (const one of steps) {
              switch (one.kind) {
                case "run":
                  await diego.addSyntheticProcesses([
                    {
                      lrpProcessGuid: one.lrp,
                      appGuid: "an-app",
                      instances: one.instances,
                      routes: {},
                      hostPort: 61_001,
                    },
                  ]);
                  break;
                case "remove":
                  await diego.remove(one.lrp);
                  break;
                case "routable":
                  if (isThere(one.lrp, one.index)) diego.faults.setRoutable(one.lrp, one.index, one.isRoutable);
                  break;
                case "suspect":
                  if (isThere(one.lrp, one.index)) diego.faults.suspect(one.lrp, one.index);
                  break;
                case "cut":
                  diego.faults.cutEventStreams();
                  break;
                case "duplicate":
                  diego.faults.duplicateEvents(one.count);
                  break;
                case "reverse":
                  diego.faults.reverseEvents(one.count);
                  break;
                case "nonsense":
                  diego.faults.sendBrokenProtobuf();
                  break;
                case "restart":
                  await following.stop();
                  await following.begin();
                  break;
              }
              await new Promise((resolve) => setImmediate(resolve));
            }
            const source = await reading.begin();
            await eventually(() => source.status.state === "following");
            await eventually(async () => {
              expect(await processesIn(log)).toEqual(await processesIn(fresh));
              return true;
            });
          } finally {
            await Promise.all([following.stop(), reading.stop()]);
            await diego.close();
            await Promise.all([log.close(), fresh.close()]);
            await rm(directory, { recursive: true, force: true });
          }
        }),
        runs(8),
      );
    },
    RUNS_TIMEOUT_MS * 2,
  );
});
