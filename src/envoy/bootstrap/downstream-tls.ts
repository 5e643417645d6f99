/** HTTPS from clients. */
import type { ClientCertRule } from "./client-cert-rules.js";
import type { ClientDomain, DomainMarks } from "./client-domains.js";
import { type } from "./json.js";
import { type SecretFile, secretReference } from "./secrets.js";

type Version = "1.0" | "1.1" | "1.2" | "1.3";

export interface DownstreamTls {
  readonly port: number;
  /** The first is for clients that ask for no name that another one has. */
  readonly certificates: readonly SecretFile[];
  readonly minVersion: Version;
  readonly maxVersion: Version;
  /** By BoringSSL's names; undefined: Envoy's own choice. */
  readonly cipherSuites: readonly string[] | undefined;
  readonly http2: boolean;
  /** undefined: none is asked for. */
  readonly clientCertificates: ClientCertificates | undefined;
  /** Whose clients must show certificates of CAs of their own. */
  readonly domains: readonly ClientDomain[];
  readonly marks: DomainMarks;
}

export interface ClientCertificates {
  readonly ca: SecretFile;
  readonly areRequired: boolean;
  readonly rules: readonly ClientCertRule[];
}

const VERSIONS: Readonly<Record<Version, string>> = {
  "1.0": "TLSv1_0",
  "1.1": "TLSv1_1",
  "1.2": "TLSv1_2",
  "1.3": "TLSv1_3",
};

/** @param clients  whose certificates are asked for; undefined: nobody's */
export function downstreamTlsSocket(
  tls: DownstreamTls,
  clients: Pick<ClientCertificates, "areRequired" | "ca"> | undefined,
) {
  const { certificates, minVersion, maxVersion, cipherSuites, http2 } = tls;
  return {
    name: "envoy.transport_sockets.tls",
    typed_config: {
      "@type": type("extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
      require_client_certificate: clients?.areRequired ?? false,
      common_tls_context: {
        tls_params: {
          tls_minimum_protocol_version: VERSIONS[minVersion],
          tls_maximum_protocol_version: VERSIONS[maxVersion],
          ...(cipherSuites && { cipher_suites: cipherSuites }),
        },
        alpn_protocols: [...(http2 ? ["h2"] : []), "http/1.1"],
        tls_certificate_sds_secret_configs: certificates.map(secretReference),
        ...(clients && { validation_context_sds_secret_config: secretReference(clients.ca) }),
      },
    },
  };
}
