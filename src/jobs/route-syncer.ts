/** The route-syncer: routes from Cloud Controller. */
import { readFile } from "node:fs/promises";
import type { CloudControllerConfig } from "../config/config.js";
import { KEY_SPACES } from "../entries/keys.js";
import { systemClock } from "../lib/clock.js";
import type { Logger } from "../lib/logger.js";
import type { MeshLog } from "../log/log.js";
import { cloudControllerSource } from "../sources/cloud-controller/cloud-controller.js";
import { type SourceJob, startSource } from "./source-job.js";

export async function startRouteSyncer(
  config: CloudControllerConfig,
  log: MeshLog,
  logger: Logger,
): Promise<SourceJob> {
  const { url, uaaUrl, clientId, clientSecretFile, caFile, pollIntervalMs, resyncIntervalMs } = config;
  const clientSecret =
    clientSecretFile === undefined ? (config.clientSecret ?? "") : (await readFile(clientSecretFile, "utf8")).trim();
  const source = cloudControllerSource({
    apiUrl: url,
    ...(uaaUrl !== undefined && { uaaUrl }),
    ...(caFile !== undefined && { ca: await readFile(caFile, "utf8") }),
    clientId,
    clientSecret,
    pollIntervalMs,
    resyncIntervalMs,
    logger,
    clock: systemClock,
  });
  return startSource(source, KEY_SPACES.cloudControllerRoutes, log);
}
