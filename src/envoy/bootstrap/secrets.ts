/** Certificates that Envoy reads from files which the agent writes, and reads again when another file takes their place. */
import { type } from "./json.js";

/** PEM texts: CAs to check others by, or a certificate with its key. */
export type Secret = CaSecret | { readonly name: string; readonly certificate: string; readonly key: string };

interface CaSecret {
  readonly name: string;
  readonly ca: string;
  /** How many other certificates may stand between one and its CA; undefined: any number. */
  readonly maxIntermediates?: number;
}

/** What such a file holds. */
export function secretFileContent(secret: Secret): string {
  const { name } = secret;
  const content =
    "ca" in secret
      ? { validation_context: { trusted_ca: { inline_string: secret.ca }, max_verify_depth: secret.maxIntermediates } }
      : {
          tls_certificate: {
            certificate_chain: { inline_string: secret.certificate },
            private_key: { inline_string: secret.key },
          },
        };
  const resource = { "@type": type("extensions.transport_sockets.tls.v3.Secret"), name, ...content };
  return JSON.stringify({ resources: [resource] });
}

/** Where it is. */
export interface SecretFile {
  readonly name: string;
  readonly path: string;
}

export function secretReference({ name, path }: SecretFile) {
  return { name, sds_config: { path_config_source: { path }, resource_api_version: "V3" } };
}
