/** The copilot API of the istio-control: served by the process that holds its lease, so that what is pushed is written. */
import type { CopilotConfig } from "../config/config.js";
import { KEY_SPACES } from "../entries/keys.js";
import { systemClock } from "../lib/clock.js";
import { asError } from "../lib/errors.js";
import type { Logger } from "../lib/logger.js";
import type { MeshLog } from "../log/log.js";
import { type CopilotServer, serveCopilot } from "../sources/copilot/copilot.js";
import type { SourceStatus } from "../sources/source.js";
import type { Credentials } from "./credentials.js";
import type { JobWriters } from "./open-log.js";
import type { SourceJob } from "./source-job.js";

/** Pause before a server that could not be started after a take-over is tried again. */
const RETRY_MS = 1_000;

/** A process that stands by listens on no port: clients go on to the one that does. */
const STANDING_BY: SourceStatus = { state: "following", lastSyncMs: undefined, lastError: undefined };

/** Resolves when it serves, or stands by. Throws what the first start of the server throws. */
export async function startCopilot(
  config: CopilotConfig,
  log: MeshLog,
  writers: JobWriters,
  credentials: Credentials,
  logger: Logger,
): Promise<SourceJob> {
  const { caFile, certificateFile, keyFile } = config;
  let server: CopilotServer | undefined;
  const certificates = await credentials.follow({
    section: "copilot",
    files: { caFile, certificateFile, keyFile },
    make: (texts) => ({ ca: texts.caFile, certificate: texts.certificateFile, key: texts.keyFile }),
    onReplaced: (replacement) => server?.useCertificates(replacement),
  });
  const serve = () =>
    serveCopilot({
      listen: { address: config.listenAddress, port: config.port },
      vipListen: { address: config.vipListenAddress, port: config.vipPort },
      certificates: certificates(),
      vipCidr: config.vipCidr,
      log,
      routes: writers.writer(KEY_SPACES.copilotRoutes),
      associations: writers.writer(KEY_SPACES.copilotAssociations),
      logger,
    });
  const ending = new AbortController();
  const { signal } = ending;
  if (writers.role === "leader") server = await serve();
  let lastError: string | undefined;

  async function run(): Promise<void> {
    while (!signal.aborted) {
      await writers.whenRole("leader", signal);
      try {
        server ??= await serve();
        lastError = undefined;
      } catch (error) {
        lastError = asError(error).message;
        logger.error({ error: lastError }, "the copilot API can't be served; trying again");
        await systemClock.sleep(RETRY_MS, signal);
        continue;
      }
      await writers.whenRole("standby", signal);
      await server.close();
      server = undefined;
    }
  }
  const running = run().catch((error: unknown) => {
    if (!signal.aborted) throw error;
  });

  return {
    name: "copilot",
    get status() {
      if (server) return server.status;
      return lastError === undefined ? STANDING_BY : { ...STANDING_BY, state: "retrying" as const, lastError };
    },
    get role() {
      return writers.role;
    },
    async stop() {
      ending.abort();
      await running;
      await server?.close();
    },
  };
}
