/** TLS from the router to apps: which endpoints are dialled so, and how their certificates are checked. */
import { create } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { TlsParameters_TlsProtocol } from "../gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import { UpstreamTlsContextSchema } from "../gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { APPS_CA_SECRET, ROUTER_CERTIFICATE_SECRET } from "./names.js";

/** How a router that has a CA for apps speaks TLS with them. */
export interface AppTls {
  /** Has a certificate of its own for apps that ask for one. */
  readonly showsCertificate: boolean;
}

/** Envoy takes the first transport socket whose `match` is among this of the endpoint; those without it plain text. */
const MATCH = { tls: true };

/** The mark of an endpoint of TLS, as a part of its metadata. */
export const TLS_MARK = { "envoy.transport_socket_match": MATCH };

/** The sockets of a cluster: TLS for endpoints that are marked. */
export function tlsSocketMatches({ showsCertificate }: AppTls) {
  return showsCertificate ? SHOWING_CERTIFICATE : VERIFYING;
}

const VERIFYING = socketMatches([]);
const SHOWING_CERTIFICATE = socketMatches([{ name: ROUTER_CERTIFICATE_SECRET }]);

function socketMatches(tlsCertificateSdsSecretConfigs: { name: string }[]) {
  const context = create(UpstreamTlsContextSchema, {
    commonTlsContext: {
      // Envoy's own highest for clients is 1.2.
      tlsParams: { tlsMaximumProtocolVersion: TlsParameters_TlsProtocol.TLSv1_3 },
      tlsCertificateSdsSecretConfigs,
      validationContextType: { case: "validationContextSdsSecretConfig", value: { name: APPS_CA_SECRET } },
    },
    // The endpoint's own name is asked for, and must be in the certificate; one without a name shows any.
    autoHostSni: true,
    autoSniSanValidation: true,
    // A resumed session shows no certificate, so it would pass for whatever name the endpoint has now.
    maxSessionKeys: 0,
  });
  return [
    {
      name: "tls",
      match: MATCH,
      transportSocket: {
        name: "envoy.transport_sockets.tls",
        configType: { case: "typedConfig" as const, value: anyPack(UpstreamTlsContextSchema, context) },
      },
    },
  ];
}
