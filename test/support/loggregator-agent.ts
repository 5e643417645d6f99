/** A loggregator agent for tests: gRPC over TLS with certificates on both sides, that keeps what it is sent. */
import { fromBinary } from "@bufbuild/protobuf";
import { type sendUnaryData, Server, ServerCredentials, type ServerReadableStream } from "@grpc/grpc-js";
import type { KeyPair } from "../../src/emulator/certificates.js";
import {
  type EnvelopeBatch,
  EnvelopeBatchSchema,
  type Envelope,
  Ingress,
} from "../../src/gen/loggregator/v2/loggregator_pb.js";
import { eventually } from "./eventually.js";

export interface LoggregatorAgent {
  readonly port: number;
  readonly envelopes: readonly Envelope[];
  /** How many envelopes came in each batch. */
  readonly batches: readonly number[];
  readonly streamCount: number;
  /** The envelope whose line has this in it. */
  envelopeOf(mark: string): Promise<Envelope>;
  /** Ends at once, with all connections. */
  close(): void;
}

export interface LoggregatorAgentOptions {
  /** PEM: who may sign certificates of clients. */
  readonly clientCa: string;
  readonly server: KeyPair;
  /** 0 for a free one. */
  readonly port?: number;
  /** It takes connections and streams, and reads nothing. */
  readonly isHung?: boolean;
}

const BATCH_SENDER = `/${Ingress.typeName}/${Ingress.method.batchSender.name}`;

export const lineOf = ({ log }: Envelope): string => Buffer.from(log?.payload ?? []).toString();

export async function startLoggregatorAgent(options: LoggregatorAgentOptions): Promise<LoggregatorAgent> {
  const { clientCa, server: own, port: wantedPort = 0, isHung = false } = options;
  const envelopes: Envelope[] = [];
  const batches: number[] = [];
  let streamCount = 0;
  const server = new Server();
  server.register(
    BATCH_SENDER,
    (call: ServerReadableStream<EnvelopeBatch, Buffer>, answer: sendUnaryData<Buffer>) => {
      streamCount += 1;
      if (isHung) return;
      call.on("data", ({ batch }: EnvelopeBatch) => {
        batches.push(batch.length);
        envelopes.push(...batch);
      });
      call.on("error", () => undefined);
      call.on("end", () => answer(null, Buffer.alloc(0)));
    },
    (bytes: Buffer) => bytes,
    (bytes: Buffer) => fromBinary(EnvelopeBatchSchema, bytes),
    "clientStream",
  );
  const tls = ServerCredentials.createSsl(
    Buffer.from(clientCa),
    [{ cert_chain: Buffer.from(own.certificate), private_key: Buffer.from(own.key) }],
    true,
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`127.0.0.1:${wantedPort}`, tls, (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  return {
    port,
    envelopes,
    batches,
    get streamCount() {
      return streamCount;
    },
    envelopeOf: (mark) => eventually(() => envelopes.find((envelope) => lineOf(envelope).includes(mark))),
    close: () => server.forceShutdown(),
  };
}
