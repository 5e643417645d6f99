/** HTTPS from clients, from the configuration. */
import type { TlsConfig } from "../config/router-tls.js";
import type { DownstreamTls } from "../envoy/bootstrap/downstream-tls.js";
import type { Logger } from "../lib/logger.js";
import type { Credentials } from "./credentials.js";
import { followSecrets } from "./follow-secrets.js";

/** Follows the files: what replaces them is used for new connections. Throws MESH_CONFIG_INVALID when one can't be used. */
export async function followDownstreamTls(
  tls: TlsConfig | undefined,
  runDirectory: string,
  credentials: Credentials,
  logger: Logger,
): Promise<DownstreamTls | undefined> {
  if (!tls) return undefined;
  const certificates = await Promise.all(
    tls.keypairs.map(async ({ certificateFile, keyFile }, index) =>
      followSecrets(
        {
          section: `router.tls.keypairs.${index}`,
          files: { certificateFile, keyFile },
          secretsOf: (texts) => [{ name: `router-${index}`, certificate: texts.certificateFile, key: texts.keyFile }],
        },
        runDirectory,
        credentials,
        logger,
      ),
    ),
  );
  const { clientCertificates } = tls;
  const [ca] = clientCertificates
    ? await followSecrets(
        {
          section: "router.tls.clientCertificates",
          files: { caFile: clientCertificates.caFile },
          secretsOf: (texts) => [{ name: "clients-ca", ca: texts.caFile }],
        },
        runDirectory,
        credentials,
        logger,
      )
    : [];
  return {
    ...tls,
    cipherSuites: tls.cipherSuites,
    certificates: certificates.flat(),
    clientCertificates: ca && { ca, areRequired: clientCertificates?.validation === "require" },
  };
}
