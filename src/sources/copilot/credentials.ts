/** TLS of the copilot API: both sides show certificates. */
import { createSecureContext, type SecureContextOptions } from "node:tls";
import { ServerCredentials } from "@grpc/grpc-js";
import { asError, MeshError } from "../../lib/errors.js";

/** PEM texts. */
export interface CopilotCertificates {
  /** The CA that issued the clients' certificates. */
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
}

/** Copilot's, for TLS 1.2; TLS 1.3 has its own. */
const CIPHERS = "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256";

/** Throws MESH_CONFIG_INVALID for PEMs that do not fit. */
export function mutualTls(certificates: CopilotCertificates): MutualTls {
  const options = contextOptions(certificates);
  try {
    createSecureContext(options);
  } catch (thrown) {
    const cause = asError(thrown);
    throw new MeshError(
      "MESH_CONFIG_INVALID",
      `the certificates of the copilot API can't be used (${cause.message})`,
      "check that copilot.caFile, certificateFile and keyFile are PEM files, and that the key belongs to the certificate",
      { cause },
    );
  }
  return new MutualTls(options);
}

function contextOptions({ ca, certificate, key }: CopilotCertificates): SecureContextOptions {
  return { ca, cert: certificate, key, ciphers: CIPHERS, minVersion: "TLSv1.2" };
}

/** ServerCredentials.createSsl lets nobody choose the cipher suites and the least version, nor replace what it has. */
export class MutualTls extends ServerCredentials {
  constructor(options: SecureContextOptions) {
    super({ requestCert: true, rejectUnauthorized: true }, options);
  }

  /** From the next connection on; those that are open stay. */
  replace(certificates: CopilotCertificates): void {
    this.updateSecureContextOptions(contextOptions(certificates));
  }

  override _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}
