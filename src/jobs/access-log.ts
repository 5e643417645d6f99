/** Takes Envoy's records of requests, and passes them on: to the metrics, and as lines to the access log. */
import { rm } from "node:fs/promises";
import { type sendUnaryData, Server, type ServerUnaryCall } from "@grpc/grpc-js";
import { CALLER_FIELDS, type LineWriter, lineWriter } from "../access-log/access-line.js";
import { EXPORT_LOGS, logRecords } from "../access-log/otlp.js";
import { recordFormat, type RequestRecord, type WantedRecord } from "../access-log/record.js";
import { WILDCARD_MARK } from "../compile/names.js";
import type { AccessLogConfig } from "../config/router-access-log.js";
import { listenOnSocket } from "../lib/listen-on-socket.js";
import type { Logger } from "../lib/logger.js";
import type { EnvelopeSinkStatus } from "../loggregator/envelope-sink.js";
import type { AppLog } from "./app-log.js";
import { LineSink, type LineSinkStatus } from "./line-sink.js";

export interface AccessLogOptions {
  /** Path of the unix socket; made with mode 0600. One that a dead server left is replaced. */
  readonly socketPath: string;
  /** undefined: no lines are written, records go to `onRecord` alone. */
  readonly config: AccessLogConfig | undefined;
  /** Where lines go besides; closed by its owner. */
  readonly appLog: AppLog | undefined;
  readonly onRecord: (record: RequestRecord) => void;
  /** Of each request that was found below a wildcard host: its own, as in the Host header. */
  readonly onWildcard: (host: string) => void;
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
  /** undefined where none go to the logs of apps. */
  readonly appLines: EnvelopeSinkStatus | undefined;
}

export interface AccessLog {
  readonly status: AccessLogStatus;
  readonly socketPath: string;
  /** What Envoy is to write. */
  readonly records: readonly WantedRecord[];
  /** Which of them were found below a wildcard host. */
  readonly mark: typeof WILDCARD_MARK;
  /** Lines go to a new file from now on. */
  reopen(): void;
  close(): Promise<void>;
}

const NOTHING = Buffer.alloc(0);
/** Envoy sends 64 KB at a time; a record with long headers may be larger. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

/** Throws when the socket can't be made. */
export async function startAccessLog(options: AccessLogOptions): Promise<AccessLog> {
  const { socketPath, config, appLog, onRecord, onWildcard, proxyProtocol, clusters, logger } = options;
  const { records, parse } = recordFormat({
    lines: config !== undefined,
    extraFields: (config?.extraFields.length ?? 0) > 0,
    callers: config?.extraFields.some((field) => CALLER_FIELDS.some((name) => name === field)) ?? false,
    headers: config?.extraHeaders ?? [],
    proxyProtocol,
    clusters,
  });
  const sink = config && sinkOf(config, logger);
  const lineOf: LineWriter | undefined = config && lineWriter(config);
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
      if (record.kind === "wildcard") {
        onWildcard(record.host);
        continue;
      }
      if (record.kind === "fault") faultCount += 1;
      else requestCount += 1;
      onRecord(record);
      // Without a method, what came was no request.
      if (record.method !== "") write(record);
    }
  }

  function write(record: RequestRecord): void {
    const line = sink && lineOf?.(record);
    if (line !== undefined) sink?.write(line);
    appLog?.write(record, config?.format === "gorouter" ? line : undefined);
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
      return { requestCount, faultCount, malformedCount, lines: sink?.status, appLines: appLog?.status };
    },
    socketPath,
    records,
    mark: WILDCARD_MARK,
    reopen: () => sink?.reopen(),
    async close() {
      server.forceShutdown();
      await sink?.close();
      await rm(socketPath, { force: true });
    },
  };
}

function sinkOf({ file, stdout, bufferBytes }: AccessLogConfig, logger: Logger): LineSink | undefined {
  if (file === undefined && !stdout) return undefined;
  return new LineSink({ target: file === undefined ? "stdout" : { file }, bufferBytes, logger });
}
