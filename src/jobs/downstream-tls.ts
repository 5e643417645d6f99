/** HTTPS from clients, from the configuration. */
import { X509Certificate } from "node:crypto";
import type { TlsConfig } from "../config/router-tls.js";
import { canonicalName, type ClientCertRule, nameOf } from "../envoy/bootstrap/client-cert-rules.js";
import type { DownstreamTls } from "../envoy/bootstrap/downstream-tls.js";
import { MeshError } from "../lib/errors.js";
import type { Logger } from "../lib/logger.js";
import { certificatesIn, type Credentials } from "./credentials.js";
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
  const rules = clientCertificates?.rules ?? [];
  const [ca] = clientCertificates
    ? await followSecrets(
        {
          section: "router.tls.clientCertificates",
          files: { caFile: clientCertificates.caFile },
          secretsOf({ caFile: ca }) {
            refuseRulesForNobody(rules, ca);
            // Rules are about whoever signed the certificate itself: that must be one of these.
            return [{ name: "clients-ca", ca, ...(rules.length > 0 && { maxIntermediates: 0 }) }];
          },
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
    clientCertificates: ca && { ca, areRequired: clientCertificates?.validation === "require", rules },
  };
}

/** A rule with a slip of the pen in it would allow everybody. */
function refuseRulesForNobody(rules: readonly ClientCertRule[], ca: string): void {
  const names = new Set(
    certificatesIn(ca).map((pem) => canonicalName(nameOf({ ...new X509Certificate(pem).toLegacyObject().subject }))),
  );
  for (const [index, { issuer }] of rules.entries()) {
    if (names.has(canonicalName(issuer))) continue;
    throw new MeshError(
      "MESH_CONFIG_INVALID",
      `router.tls.clientCertificates.rules.${index}.issuer: no CA of caFile has this name`,
      "write it as in the CA's certificate: all parts of its subject, or put that CA into caFile",
    );
  }
}
