/** Where load balancers ask whether to send requests: over HTTP, and by HTTPS where that is set. */
import { type JobView, serveHealthAlone, serveHealthByTls, type TlsApiServer } from "../api/job-api.js";
import type { RouterConfig } from "../config/router.js";
import { Credentials } from "../jobs/credentials.js";
import type { Logger } from "../lib/logger.js";

export interface HealthListeners {
  /** Reads the files of the certificate again. */
  reload(): Promise<void>;
  close(): Promise<void>;
}

/** Throws MESH_PORT_TAKEN, and MESH_CONFIG_INVALID for a certificate that can't be used. */
export async function serveHealth(
  { listenAddress: host, port, tls }: NonNullable<RouterConfig["health"]>,
  view: Pick<JobView, "health">,
  logger: Logger,
): Promise<HealthListeners> {
  const plain = await serveHealthAlone({ host, port, key: "router.health.port" }, view);
  if (!tls) return { reload: () => Promise.resolve(), close: () => plain.close() };
  const credentials = new Credentials(logger);
  let secure: TlsApiServer | undefined;
  try {
    const identity = await credentials.follow({
      section: "router.health.tls",
      files: { certificateFile: tls.certificateFile, keyFile: tls.keyFile },
      make: (texts) => ({ cert: texts.certificateFile, key: texts.keyFile }),
      onReplaced: (next) => secure?.replaceIdentity(next),
    });
    secure = await serveHealthByTls({ host, port: tls.port, key: "router.health.tls.port" }, identity(), view);
  } catch (error) {
    await close();
    throw error;
  }
  return { reload: () => credentials.reload(), close };

  async function close(): Promise<void> {
    await Promise.all([credentials.close(), plain.close(), secure?.close()]);
  }
}
