import { create, toBinary } from "@bufbuild/protobuf";
import { Client, credentials, status } from "@grpc/grpc-js";
import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createCertificates } from "../../src/emulator/certificates.js";
import {
  type EmulatedLoggregatorAgent,
  startLoggregatorAgent,
} from "../../src/emulator/log-cache/loggregator-agent.js";
import { AppLogs } from "../../src/emulator/logs.js";
import { EnvelopeBatchSchema, Ingress, Log_Type } from "../../src/gen/loggregator/v2/loggregator_pb.js";
import { mutated, runs, RUNS_TIMEOUT_MS } from "../support/random-runs.js";

const BATCH = toBinary(
  EnvelopeBatchSchema,
  create(EnvelopeBatchSchema, {
    batch: [
      {
        timestamp: 2n ** 62n,
        sourceId: "app",
        instanceId: "0",
        tags: { source_type: "RTR", app_name: "shop" },
        log: { payload: Buffer.from("a line"), type: Log_Type.OUT },
      },
      { sourceId: "other", log: { payload: Buffer.from([0xff, 0x00]), type: Log_Type.ERR } },
    ],
  }),
);

const logs = new AppLogs();
let agent: EmulatedLoggregatorAgent;
let client: Client;

beforeAll(async () => {
  const certificates = await createCertificates();
  const { certificate, key } = await certificates.issue({ commonName: "gorouter", usages: ["client"] });
  agent = await startLoggregatorAgent("127.0.0.1", certificates, logs);
  client = new Client(
    agent.address,
    credentials.createSsl(Buffer.from(certificates.ca), Buffer.from(key), Buffer.from(certificate)),
    { "grpc.ssl_target_name_override": "metron" },
  );
});
afterAll(() => {
  client.close();
  agent.close();
});

function send(bytes: Uint8Array): Promise<status> {
  return new Promise((resolve) => {
    const call = client.makeClientStreamRequest(
      `/${Ingress.typeName}/${Ingress.method.batchSender.name}`,
      (batch: Buffer) => batch,
      (answer) => answer,
      (error) => resolve(error?.code ?? status.OK),
    );
    call.once("error", () => undefined);
    call.write(Buffer.from(bytes));
    call.end();
  });
}

it(
  "the loggregator agent takes any bytes as a batch or refuses them, and goes on",
  async () => {
    await fc.assert(
      fc.asyncProperty(mutated(BATCH), async (bytes) => {
        expect([status.OK, status.INTERNAL]).toContain(await send(bytes));
      }),
      runs(400),
    );
    logs.forget("app");
    expect(await send(BATCH)).toBe(status.OK);
    expect(logs.recent("app")).toMatchObject([{ source: "RTR/0", stream: "stdout", text: "a line" }]);
  },
  RUNS_TIMEOUT_MS,
);
