/** HTTP routes of the routing API into the log. */
import type { RoutingApiConfig } from "../config/config.js";
import { KEY_SPACES } from "../entries/keys.js";
import type { Logger } from "../lib/logger.js";
import type { MeshLog } from "../log/log.js";
import { routingApiSource } from "../sources/routing-api/routing-api-source.js";
import type { Credentials } from "./credentials.js";
import type { JobWriters } from "./open-log.js";
import { type SourceJob, startSource } from "./source-job.js";
import { uaaClientCredentials } from "./uaa-client-credentials.js";

export async function startRoutingApi(
  config: RoutingApiConfig,
  log: MeshLog,
  writers: JobWriters,
  credentials: Credentials,
  logger: Logger,
): Promise<SourceJob> {
  const { clientId, listIntervalMs, maxRoutes } = config;
  const source = routingApiSource({
    apiUrls: [config.url].flat(),
    uaaUrls: [config.uaaUrl].flat(),
    clientId,
    credentials: await uaaClientCredentials("routingApi", config, credentials),
    listIntervalMs,
    maxRoutes,
    readStored: () => log.read(KEY_SPACES.routingApiRegistrations),
    logger,
  });
  return startSource(source, KEY_SPACES.routingApiRegistrations, writers);
}
