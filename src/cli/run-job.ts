import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { pino } from "pino";
import { serveStatus, type StatusServer } from "../api/status-server.js";
import { type Config, readConfig, type Section } from "../config/config.js";
import { type Mesh, startMesh } from "../jobs/up.js";
import { createLogger } from "../lib/logger.js";
import { stopSignal } from "./stop-signals.js";

/** Runs until the process is asked to end. */
export async function runJob(name: string, file: string, sections: readonly Section[]): Promise<void> {
  const stopping = stopSignal();
  const config = only(sections, await readConfig(file, sections));
  const logger = createLogger(config.logLevel, pino.destination(1));
  let mesh: Mesh | undefined;
  const status = config.router && (await serveJobStatus(config.router.runDirectory, () => mesh?.status));
  try {
    mesh = await startMesh(config, logger);
    logger.info({ job: name }, "ready");
    await stopping;
    logger.info({ job: name }, "stopping");
    await mesh.stop();
  } finally {
    await status?.close();
  }
}

/** The configuration without the sections of other jobs. */
function only(sections: readonly Section[], config: Config): Config {
  if (sections.length === 0) return config;
  const { logLevel, log } = config;
  const own = sections.map((section) => [section, config[section]]);
  return { logLevel, log, ...(Object.fromEntries(own) as Pick<Config, Section>) };
}

/** The run directory comes first: its socket keeps a second job out of it. */
async function serveJobStatus(runDirectory: string, status: () => unknown): Promise<StatusServer> {
  await mkdir(runDirectory, { recursive: true, mode: 0o700 });
  return serveStatus(join(runDirectory, "api.sock"), () => status() ?? {});
}
