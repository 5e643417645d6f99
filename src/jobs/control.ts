/**
 * The istio-control: instances from Diego, registrations from NATS and the routing API, the copilot API: all that the
 * configuration has a section for.
 */
import type { Config, DiegoConfig } from "../config/config.js";
import { KEY_SPACES } from "../entries/keys.js";
import type { Logger } from "../lib/logger.js";
import type { MeshLog } from "../log/log.js";
import { diegoSource } from "../sources/diego/diego-source.js";
import { startCopilot } from "./copilot.js";
import { bbsCredentials } from "./bbs-credentials.js";
import type { Credentials } from "./credentials.js";
import { startNats } from "./nats.js";
import type { JobWriters, OpenLog } from "./open-log.js";
import { startRoutingApi } from "./routing-api.js";
import { type SourceJob, type SourceJobs, startSource } from "./source-job.js";

/** Starts all of them, or none when one can't be started. */
export async function startControl(
  { diego, nats, routingApi, copilot }: Pick<Config, "diego" | "nats" | "routingApi" | "copilot">,
  { log, openWriters }: OpenLog,
  credentials: Credentials,
  logger: Logger,
): Promise<SourceJobs> {
  const started: SourceJob[] = [];
  const opened: JobWriters[] = [];
  const stop = async () => {
    await Promise.all(started.map((job) => job.stop()));
    await Promise.all(opened.map((writers) => writers.close()));
  };
  try {
    if (diego || nats || routingApi) {
      const writers = await openWriters(
        "control",
        {
          ...(diego && { [KEY_SPACES.diegoProcesses]: "remember" }),
          ...(nats && { [KEY_SPACES.natsRegistrations]: "remember" }),
          ...(routingApi && { [KEY_SPACES.routingApiRegistrations]: "remember" }),
        },
        logger,
      );
      opened.push(writers);
      if (diego) started.push(await startDiego(diego, log, writers, credentials, logger));
      if (nats) started.push(await startNats(nats, log, writers, credentials, logger));
      if (routingApi) started.push(await startRoutingApi(routingApi, log, writers, credentials, logger));
    }
    if (copilot) {
      const { copilotRoutes, copilotAssociations } = KEY_SPACES;
      const keySpaces = { [copilotRoutes]: "refuse", [copilotAssociations]: "refuse" } as const;
      const writers = await openWriters("copilot", keySpaces, logger);
      opened.push(writers);
      started.push(await startCopilot(copilot, log, writers, credentials, logger));
    }
    return { jobs: started, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function startDiego(
  config: DiegoConfig,
  log: MeshLog,
  writers: JobWriters,
  credentials: Credentials,
  logger: Logger,
): Promise<SourceJob> {
  const source = diegoSource({
    credentials: await bbsCredentials(config, credentials),
    urls: config.urls,
    resyncIntervalMs: config.resyncIntervalMs,
    // After a restart, what a list lacks may only be late: the log says what was there.
    readStored: () => log.read(KEY_SPACES.diegoProcesses),
    logger,
  });
  return startSource(source, KEY_SPACES.diegoProcesses, writers);
}
