/** How the router speaks TLS with apps: its CA, and its own certificate. */
import { type AppTls, appTlsOf } from "../compile/app-tls.js";
import { APPS_CA_SECRET, ROUTER_CERTIFICATE_SECRET } from "../compile/names.js";
import type { RouterConfig } from "../config/router.js";
import type { Logger } from "../lib/logger.js";
import type { Credentials } from "./credentials.js";
import { followSecrets } from "./follow-secrets.js";

/**
 * Follows the files: what replaces them is used for new connections.
 *
 * Returns  undefined where no CA is configured: apps are reached in plain text.
 * Throws   MESH_CONFIG_INVALID when a file can't be used.
 */
export async function followAppTls(
  backends: RouterConfig["backends"],
  runDirectory: string,
  credentials: Credentials,
  logger: Logger,
): Promise<AppTls | undefined> {
  if (!backends) return undefined;
  const { caFile, certificateFile, keyFile } = backends;
  const [ca, certificate] = await followSecrets(
    {
      section: "router.backends",
      files: { caFile, certificateFile, keyFile },
      secretsOf: (texts) => [
        { name: APPS_CA_SECRET, ca: texts.caFile },
        ...(texts.certificateFile === undefined || texts.keyFile === undefined
          ? []
          : [{ name: ROUTER_CERTIFICATE_SECRET, certificate: texts.certificateFile, key: texts.keyFile }]),
      ],
    },
    runDirectory,
    credentials,
    logger,
  );
  return ca && appTlsOf({ caSecretFile: ca.path, certificateSecretFile: certificate?.path });
}
