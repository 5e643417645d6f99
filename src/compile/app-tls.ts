/** TLS from the router to apps: which endpoints are dialled so, and how their certificates are checked. */
import { create } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { ApiVersion } from "../gen/envoy/config/core/v3/config_source_pb.js";
import { TlsParameters_TlsProtocol } from "../gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import { UpstreamTlsContextSchema } from "../gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { APPS_CA_SECRET, ROUTER_CERTIFICATE_SECRET } from "./names.js";

/** Where Envoy finds what a router needs to speak TLS with apps. */
export interface AppTlsFiles {
  readonly caSecretFile: string;
  /** Of a certificate for apps that ask for one; undefined: the router has none. */
  readonly certificateSecretFile: string | undefined;
}

/** How a router that has a CA for apps speaks TLS with them. */
export interface AppTls {
  /** Of each cluster, the same for all. */
  readonly socket: ReturnType<typeof tlsSocket>;
}

export function appTlsOf({ caSecretFile, certificateSecretFile }: AppTlsFiles): AppTls {
  const certificates =
    certificateSecretFile === undefined ? [] : [secretReference(ROUTER_CERTIFICATE_SECRET, certificateSecretFile)];
  return { socket: tlsSocket(secretReference(APPS_CA_SECRET, caSecretFile), certificates) };
}

/** Envoy takes the first transport socket whose `match` is among this of the endpoint; those without it speak TLS. */
const MATCH = { plain: true };

/** The mark of an endpoint of plain text, as a part of its metadata: there are few where a router speaks TLS. */
export const PLAIN_MARK = { "envoy.transport_socket_match": MATCH };

/** For endpoints with the mark. */
export const PLAIN_SOCKET_MATCHES = [
  {
    name: "plain",
    match: MATCH,
    transportSocket: {
      name: "envoy.transport_sockets.raw_buffer",
      configType: {
        case: "typedConfig" as const,
        value: {
          typeUrl: "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
          value: new Uint8Array(),
        },
      },
    },
  },
];

/** A secret in a file, which Envoy reads again when another one takes its place. */
function secretReference(name: string, path: string) {
  return {
    name,
    sdsConfig: {
      configSourceSpecifier: { case: "pathConfigSource" as const, value: { path } },
      resourceApiVersion: ApiVersion.V3,
    },
  };
}

type SecretReference = ReturnType<typeof secretReference>;

function tlsSocket(ca: SecretReference, tlsCertificateSdsSecretConfigs: SecretReference[]) {
  const context = create(UpstreamTlsContextSchema, {
    commonTlsContext: {
      // Envoy's own highest for clients is 1.2.
      tlsParams: { tlsMaximumProtocolVersion: TlsParameters_TlsProtocol.TLSv1_3 },
      tlsCertificateSdsSecretConfigs,
      validationContextType: { case: "validationContextSdsSecretConfig", value: ca },
    },
    // The endpoint's own name is asked for, and must be in the certificate; one without a name shows any.
    autoHostSni: true,
    autoSniSanValidation: true,
    // A resumed session shows no certificate, so it would pass for whatever name the endpoint has now.
    maxSessionKeys: 0,
  });
  return {
    name: "envoy.transport_sockets.tls",
    configType: { case: "typedConfig" as const, value: anyPack(UpstreamTlsContextSchema, context) },
  };
}
