/** The route-syncer: routes from Cloud Controller; where it has Diego too, sooner, and without Cloud Controller for a while. */
import type { CloudControllerConfig, DiegoConfig } from "../config/config.js";
import { KEY_SPACES } from "../entries/keys.js";
import { systemClock } from "../lib/clock.js";
import type { Logger } from "../lib/logger.js";
import { cloudControllerSource, type CloudControllerSource } from "../sources/cloud-controller/cloud-controller.js";
import { type DesiredWatch, desiredWatch } from "../sources/diego/desired-watch.js";
import { bbsCredentials } from "./bbs-credentials.js";
import type { Credentials } from "./credentials.js";
import { OpinionJudge } from "./opinion-judge.js";
import type { OpenLog } from "./open-log.js";
import { type SourceJob, type SourceJobs, startSource } from "./source-job.js";
import { uaaClientCredentials } from "./uaa-client-credentials.js";

export interface RouteSyncerConfig {
  readonly cloudController: CloudControllerConfig;
  readonly diego: DiegoConfig | undefined;
}

/** How often it is looked whether Cloud Controller can be read. */
const LOOK_MS = 100;

/** Starts all of it, or nothing when a part can't be started. */
export async function startRouteSyncer(
  { cloudController, diego }: RouteSyncerConfig,
  { log, openWriters }: OpenLog,
  credentials: Credentials,
  logger: Logger,
): Promise<SourceJobs> {
  const source = cloudControllerSource(await sourceOptions(cloudController, credentials, logger));
  const watch =
    diego &&
    desiredWatch({
      credentials: await bbsCredentials(diego, credentials),
      urls: diego.urls,
      onHint: (hint) => source.refresh(hint),
      readKnown: () => log.read(KEY_SPACES.cloudControllerRoutes),
      logger,
    });
  const { cloudControllerRoutes, diegoRoutes } = KEY_SPACES;
  const writers = await openWriters(
    "route-syncer",
    { [cloudControllerRoutes]: "remember", ...(watch && { [diegoRoutes]: "remember" }) },
    logger,
  );
  const jobs = [startSource(source, cloudControllerRoutes, writers)];
  if (watch) {
    const watching = startSource(watch, diegoRoutes, writers);
    jobs.push(judged(watching, source, watch, cloudController.secondOpinionAfterMs));
  }
  return {
    jobs,
    async stop() {
      await Promise.all(jobs.map((job) => job.stop()));
      await writers.close();
    },
  };
}

/** The watch, asked for its opinion for as long as the source can't be read. */
function judged(watching: SourceJob, source: CloudControllerSource, watch: DesiredWatch, afterMs: number): SourceJob {
  const judge = new OpinionJudge(afterMs);
  const timer = setInterval(() => {
    const isWanted = judge.look(source.status, performance.now());
    if (isWanted !== undefined) watch.giveOpinion(isWanted);
  }, LOOK_MS);
  return {
    name: watching.name,
    get status() {
      return watching.status;
    },
    get role() {
      return watching.role;
    },
    async stop() {
      clearInterval(timer);
      await watching.stop();
    },
  };
}

async function sourceOptions(config: CloudControllerConfig, credentials: Credentials, logger: Logger) {
  const { clientId, requestsPerSecond, resyncIntervalMs } = config;
  return {
    apiUrls: [config.url].flat(),
    ...(config.uaaUrl !== undefined && { uaaUrls: [config.uaaUrl].flat() }),
    clientId,
    credentials: await uaaClientCredentials("cloudController", config, credentials),
    ...{ requestsPerSecond, resyncIntervalMs, logger, clock: systemClock },
  };
}
