/** Takes Envoy's records of requests, and passes them on: to the metrics, and as lines to the access log. */
import { rm } from "node:fs/promises";
import { type sendUnaryData, Server, type ServerUnaryCall } from "@grpc/grpc-js";
import { CALLER_FIELDS, type LineWriter, lineWriter } from "../access-log/access-line.js";
import { EXPORT_LOGS, logRecords } from "../access-log/otlp.js";
import { recordFormat, type RequestRecord, type WantedRecord } from "../access-log/record.js";
import type { AccessLogConfig } from "../config/router-access-log.js";
import { listenOnSocket } from "../lib/listen-on-socket.js";
import type { Logger } from "../lib/logger.js";
import { LineSink, type LineSinkStatus } from "./line-sink.js";

export interface AccessLogOptions {
  /** Path of the unix socket; made with mode 0600. One that a dead server left is replaced. */
  readonly socketPath: string;
  /** undefined: no lines are written, records go to `onRecord` alone. */
  readonly config: AccessLogConfig | undefined;
  readonly onRecord: (record: RequestRecord) => void;
  /** Whether connections may begin with a PROXY header. */
  readonly proxyProtocol: boolean;
  /** Whether records are to tell the cluster that requests were sent to. */
  readonly clusters: boolean;
  readonly logger: Logger;
}

export interface AccessLogStatus {
  /** Requests that were told of since the agent began. */
  readonly requestCount: number;
  /** What was told besides, of requests that had a fault. */
  readonly faultCount: number;
  /** Records that were none. */
  readonly malformedCount: number;
  /** undefined where no lines are written. */
  readonly lines: LineSinkStatus | undefined;
}

export interface AccessLog {
  readonly status: AccessLogStatus;
  readonly socketPath: string;
  /** What Envoy is to write. */
  readonly records: readonly WantedRecord[];
  /** Lines go to a new file from now on. */
  reopen(): void;
  close(): Promise<void>;
}

const NOTHING = Buffer.alloc(0);
/** Envoy sends 64 KB at a time; a record with long headers may be larger. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

/** Throws when the socket can't be made. */
export async function startAccessLog(options: AccessLogOptions): Promise<AccessLog> {
  const { socketPath, config, onRecord, proxyProtocol, clusters, logger } = options;
  const { records, parse } = recordFormat({
    lines: config !== undefined,
    extraFields: (config?.extraFields.length ?? 0) > 0,
    callers: config?.extraFields.some((field) => CALLER_FIELDS.some((name) => name === field)) ?? false,
    headers: config?.extraHeaders ?? [],
    proxyProtocol,
    clusters,
  });
  const sink = config && sinkOf(config, logger);
  const write: LineWriter | undefined = config && lineWriter(config);
  let requestCount = 0;
  let faultCount = 0;
  let malformedCount = 0;

  function take(message: Buffer): void {
    for (const { startNs, text } of logRecords(message)) {
      const record = parse(startNs, text);
      if (!record) {
        malformedCount += 1;
        continue;
      }
      if (record.kind === "fault") faultCount += 1;
      else requestCount += 1;
      onRecord(record);
      // Without a method, what came was no request.
      if (sink && write && record.method !== "") sink.write(write(record));
    }
  }

  const server = new Server({ "grpc.max_receive_message_length": MAX_MESSAGE_BYTES });
  server.register(
    EXPORT_LOGS,
    (call: ServerUnaryCall<Buffer, Buffer>, answer: sendUnaryData<Buffer>) => {
      try {
        take(call.request);
      } catch {
        malformedCount += 1;
      }
      answer(null, NOTHING);
    },
    (bytes: Buffer) => bytes,
    (bytes: Buffer) => bytes,
    "unary",
  );
  await listenOnSocket(server, socketPath);
  return {
    get status() {
      return { requestCount, faultCount, malformedCount, lines: sink?.status };
    },
    socketPath,
    records,
    reopen: () => sink?.reopen(),
    async close() {
      server.forceShutdown();
      await sink?.close();
      await rm(socketPath, { force: true });
    },
  };
}

function sinkOf({ file, bufferBytes }: AccessLogConfig, logger: Logger): LineSink {
  return new LineSink({ target: file === undefined ? "stdout" : { file }, bufferBytes, logger });
}
