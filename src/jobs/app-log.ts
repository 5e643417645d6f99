/** Lines of requests on their way to the logs of the apps that they went to: loggregator has them. */
import { appLineWriter, endedNs } from "../access-log/app-line.js";
import type { RequestRecord } from "../access-log/record.js";
import type { AccessLogConfig } from "../config/router-access-log.js";
import type { Logger } from "../lib/logger.js";
import { encodeLine } from "../loggregator/envelope.js";
import { EnvelopeSink, type EnvelopeSinkStatus } from "../loggregator/envelope-sink.js";
import type { RoutingTable } from "../model/routing-table.js";
import type { Credentials } from "./credentials.js";
import { LogSources } from "./log-sources.js";

export interface AppLog {
  readonly status: EnvelopeSinkStatus;
  /**
   * One that went to no app is passed over.
   *
   * @param whole  Gorouter's line of it, where it is known already
   */
  write(record: RequestRecord, whole: string | undefined): void;
  /** Endpoints of these groups of hosts moved. */
  moved(groups: Iterable<string>): void;
  close(): Promise<void>;
}

/** What NATS says of an instance that Diego tells of moves nothing, so that it is looked up again. */
const MAX_AGE_MS = 60_000;

/**
 * Follows the files of its certificates: what replaces them is used for the next connection.
 *
 * Returns  undefined where no agent is configured.
 * Throws   MESH_CONFIG_INVALID when a file can't be used.
 */
export async function startAppLog(
  config: AccessLogConfig | undefined,
  table: RoutingTable,
  credentials: Credentials,
  logger: Logger,
): Promise<AppLog | undefined> {
  if (!config?.loggregator) return undefined;
  const { address, serverName, caFile, certificateFile, keyFile, index, bufferBytes } = config.loggregator;
  const current = await credentials.follow({
    section: "router.accessLog.loggregator",
    files: { caFile, certificateFile, keyFile },
    make: (texts) => ({ ca: texts.caFile, certificate: texts.certificateFile, key: texts.keyFile }),
  });
  const sink = new EnvelopeSink({ address, serverName, credentials: current, bufferBytes, logger });
  const sources = new LogSources(table, index);
  const forgetting = setInterval(() => sources.forgetAll(), MAX_AGE_MS);
  forgetting.unref();
  const lineOf = appLineWriter(config);
  return {
    get status() {
      return sink.status;
    },
    write(record, whole) {
      if (record.appId === "") return;
      sink.write(encodeLine(sources.of(record), endedNs(record), lineOf(record, whole)));
    },
    moved: (groups) => sources.forget(groups),
    async close() {
      clearInterval(forgetting);
      await sink.close();
    },
  };
}
