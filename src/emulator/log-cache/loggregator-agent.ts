/**
 * The emulated loggregator agent: takes lines from the platform's own parts, over gRPC with mTLS, for Log Cache to show.
 *
 * Source   Ingress/BatchSender of loggregator-api v2; pkg/ingress/v2 of loggregator-agent-release.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { type sendUnaryData, Server, ServerCredentials, type ServerReadableStream } from "@grpc/grpc-js";
import {
  type Envelope,
  type EnvelopeBatch,
  EnvelopeBatchSchema,
  Ingress,
  Log_Type,
} from "../../gen/loggregator/v2/loggregator_pb.js";
import type { Certificates } from "../certificates.js";
import type { AppLogs } from "../logs.js";

export interface EmulatedLoggregatorAgent {
  /** "127.0.0.1:3458" */
  readonly address: string;
  close(): void;
}

/** As agents are called in the certificates of their foundation. */
const NAME = "metron";
const BATCH_SENDER = `/${Ingress.typeName}/${Ingress.method.batchSender.name}`;
const NS_PER_MS = 1_000_000n;
const NOTHING = Buffer.alloc(0);

/** On a free port. */
export async function startLoggregatorAgent(
  host: string,
  certificates: Certificates,
  logs: AppLogs,
): Promise<EmulatedLoggregatorAgent> {
  const { certificate, key } = await certificates.issue({ commonName: NAME, dnsNames: [NAME], usages: ["server"] });
  const server = new Server();
  server.register(
    BATCH_SENDER,
    (call: ServerReadableStream<EnvelopeBatch, Buffer>, answer: sendUnaryData<Buffer>) => {
      call.on("data", ({ batch }: EnvelopeBatch) => batch.forEach((envelope) => keep(logs, envelope)));
      // Whoever sent it is gone, or sent what is no batch: the call ends by itself.
      call.on("error", () => undefined);
      call.on("end", () => answer(null, NOTHING));
    },
    (bytes: Buffer) => bytes,
    (bytes: Buffer) => fromBinary(EnvelopeBatchSchema, bytes),
    "clientStream",
  );
  const tls = ServerCredentials.createSsl(
    Buffer.from(certificates.ca),
    [{ cert_chain: Buffer.from(certificate), private_key: Buffer.from(key) }],
    true,
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`${host}:0`, tls, (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  return { address: `${host}:${port}`, close: () => server.forceShutdown() };
}

function keep(logs: AppLogs, { sourceId, instanceId, timestamp, tags, log }: Envelope): void {
  // Metrics and events are nobody's lines.
  if (!log || sourceId === "") return;
  logs.append(sourceId, {
    timestampMs: Number(timestamp / NS_PER_MS),
    stream: log.type === Log_Type.OUT ? "stdout" : "stderr",
    source: `${tags["source_type"] ?? ""}/${instanceId}`,
    text: Buffer.from(log.payload).toString(),
  });
}
