/**
 * What becomes of X-Forwarded-Client-Cert and X-Forwarded-Proto of a request with a signature. Envoy leaves them as they
 * came: a request from a route service may say them of the client; any other one has them treated as usual. Pure.
 *
 * Source   Gorouter's proxy.go (SkipSanitize, SkipSanitizeXFP, ForceDeleteXFCCHeader), handlers/clientcert.go and
 *          handlers/x_forwarded_proto.go.
 */
import type { Returned } from "./protocol.js";

export interface ForwardedHeaderModes {
  readonly clientCert: "always_forward" | "forward" | "sanitize_set";
  readonly proto: "keep" | "sanitize" | "https";
}

/** How the request came. */
export interface Arrival {
  readonly isTls: boolean;
  /** The certificate that its sender showed, as base64 of its DER; undefined: none. */
  readonly clientCert: string | undefined;
}

export interface HeaderChanges {
  readonly set: Readonly<Record<string, string>>;
  readonly remove: readonly string[];
}

const CLIENT_CERT = "x-forwarded-client-cert";
const PROTO = "x-forwarded-proto";

export function forwardedHeaders(
  returned: Exclude<Returned, { readonly kind: "refused" }>,
  arrival: Arrival,
  modes: ForwardedHeaderModes,
): HeaderChanges {
  const clientCert = clientCertOf(returned, arrival, modes.clientCert);
  const proto = returned.isServiceTraffic ? undefined : protoOf(arrival, modes.proto);
  return {
    set: {
      ...(typeof clientCert === "string" && { [CLIENT_CERT]: clientCert }),
      ...(proto !== undefined && { [PROTO]: proto }),
    },
    remove: clientCert === null ? [CLIENT_CERT] : [],
  };
}

/** Returns  null for none, undefined for what came. */
function clientCertOf(
  { kind, isServiceTraffic }: Exclude<Returned, { readonly kind: "refused" }>,
  { isTls, clientCert }: Arrival,
  mode: ForwardedHeaderModes["clientCert"],
): string | null | undefined {
  // Without TLS, Envoy has treated it as that of any other request.
  if (!isTls || mode === "always_forward") return undefined;
  if (mode === "forward" && kind === "arrived") return null;
  if (isServiceTraffic) return undefined;
  if (mode === "sanitize_set") return clientCert ?? null;
  return clientCert === undefined ? null : undefined;
}

function protoOf({ isTls }: Arrival, mode: ForwardedHeaderModes["proto"]): string | undefined {
  if (mode === "keep") return undefined;
  return isTls || mode === "https" ? "https" : "http";
}
