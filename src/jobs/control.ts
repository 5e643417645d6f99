/** The istio-control: instances from Diego. */
import { readFile } from "node:fs/promises";
import type { DiegoConfig } from "../config/config.js";
import { KEY_SPACES } from "../entries/keys.js";
import type { Logger } from "../lib/logger.js";
import type { MeshLog } from "../log/log.js";
import { diegoSource } from "../sources/diego/diego-source.js";
import { type SourceJob, startSource } from "./source-job.js";

export async function startControl(config: DiegoConfig, log: MeshLog, logger: Logger): Promise<SourceJob> {
  const [ca, certificate, key] = await Promise.all(
    [config.caFile, config.certificateFile, config.keyFile].map((file) => readFile(file, "utf8")),
  );
  const source = diegoSource({
    urls: config.urls,
    ca: ca ?? "",
    certificate: certificate ?? "",
    key: key ?? "",
    resyncIntervalMs: config.resyncIntervalMs,
    // After a restart, what a list lacks may only be late: the log says what was there.
    readStored: () => log.read(KEY_SPACES.diegoProcesses),
    logger,
  });
  return startSource(source, KEY_SPACES.diegoProcesses, log);
}
