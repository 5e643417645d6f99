import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { pino } from "pino";
import { type ApiServer, type JobView, serveApi, serveApiOnSocket, serveRoutesAlone } from "../api/job-api.js";
import { keysThatNeedRestart } from "../config/changes.js";
import { type Config, readConfig, requireFiles, type Section } from "../config/config.js";
import type { RoutesDumpConfig } from "../config/router-access-log.js";
import { jobView } from "../jobs/job-view.js";
import { type Mesh, startMesh } from "../jobs/up.js";
import { asError } from "../lib/errors.js";
import { createLogger } from "../lib/logger.js";
import { type HealthListeners, serveHealth } from "./health-listeners.js";
import { packageVersion } from "./package-version.js";
import { onReloadSignal } from "./reload-signal.js";
import { stopSignal } from "./stop-signals.js";

/** Runs until the process is asked to end. */
export async function runJob(
  name: string,
  file: string,
  sections: readonly Section[],
  helpers: readonly Section[],
): Promise<void> {
  const stopping = stopSignal();
  const config = only([...sections, ...helpers], await readConfig(file, sections));
  await requireFiles(config, file);
  const logger = createLogger(config.logLevel, pino.destination(1));
  onReloadSignal(() => reload());
  const version = packageVersion();
  logger.info({ job: name, version, config: file, node: process.version }, "starting");
  let mesh: Mesh | undefined;
  const view = jobView(version, () => mesh);
  const servers: ApiServer[] = [];
  let health: HealthListeners | undefined;
  try {
    if (config.router) {
      // The run directory comes first: its socket keeps a second job out of it.
      await mkdir(config.router.runDirectory, { recursive: true, mode: 0o700 });
      servers.push(await serveApiOnSocket(join(config.router.runDirectory, "api.sock"), view));
    }
    if (config.api) servers.push(await serveApi({ ...listener(config.api), key: "api.port" }, view));
    if (config.router?.health) {
      health = await serveHealth(config.router.health, view, logger);
    }
    if (config.router?.routes) servers.push(await serveRoutes(config.router.routes, view));
    mesh = await startMesh(config, logger, name);
    logger.info({ job: name }, "ready");
    await stopping;
    logger.info({ job: name }, "stopping");
    await mesh.stop();
    logger.info({ job: name }, "stopped");
  } finally {
    await Promise.all([health?.close(), ...servers.map((server) => server.close())]);
  }

  async function reload(): Promise<void> {
    try {
      const read = only([...sections, ...helpers], await readConfig(file, sections));
      logger.setLevel(read.logLevel);
      const keys = keysThatNeedRestart(config, read);
      logger.info({ config: file, logLevel: read.logLevel }, "the configuration was read again");
      if (keys.length > 0) logger.warn({ config: file, keys }, `needs a restart: ${keys.join(", ")}`);
    } catch (error) {
      logger.error({ config: file }, `${asError(error).message}\n  until then: it goes on with what it read before`);
    }
    mesh?.router?.reopenAccessLog();
    await mesh?.reloadCredentials();
    await health?.reload();
  }
}

/** For operators on this machine, as Gorouter has it. */
function serveRoutes({ port, user, passwordFile }: RoutesDumpConfig, view: JobView): Promise<ApiServer> {
  const password = async () => (await readFile(passwordFile, "utf8")).trimEnd();
  return serveRoutesAlone({ host: "127.0.0.1", port, key: "router.routes.port" }, { user, password }, view);
}

function listener({ listenAddress, port }: { readonly listenAddress: string; readonly port: number }) {
  return { host: listenAddress, port };
}

/** The configuration without the sections of other jobs; all of it when none is named. */
function only(sections: readonly Section[], config: Config): Config {
  if (sections.length === 0) return config;
  const own = sections.map((section) => [section, config[section]]);
  const { logLevel, api, log } = config;
  return { logLevel, api, log, ...(Object.fromEntries(own) as Pick<Config, Section>) };
}
