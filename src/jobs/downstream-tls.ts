/** HTTPS from clients, from the configuration. */
import { X509Certificate } from "node:crypto";
import { authorityOf } from "../compile/client-domains.js";
import { CALLER_HEADER, CONNECTION_DOMAIN } from "../compile/names.js";
import { MISDIRECTED } from "../compile/route-policies.js";
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
  const names = tls.domains.map(({ name }) => name);
  const domains = await Promise.all(
    tls.domains.map(async ({ caFile, ...domain }, index) => {
      const secrets = await followSecrets(
        {
          section: `router.tls.domains.${index}`,
          files: { caFile },
          secretsOf: (texts) => [{ name: `domain-${index}-ca`, ca: texts.caFile }],
        },
        runDirectory,
        credentials,
        logger,
      );
      return secrets.map((secret) => ({ ...domain, ca: secret, authority: authorityOf(domain.name, names) }));
    }),
  );
  return {
    ...tls,
    cipherSuites: tls.cipherSuites,
    certificates: certificates.flat(),
    clientCertificates: ca && { ca, areRequired: clientCertificates?.validation === "require", rules },
    domains: domains.flat(),
    marks: { connectionDomain: CONNECTION_DOMAIN, callerHeader: CALLER_HEADER, misdirected: MISDIRECTED },
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
