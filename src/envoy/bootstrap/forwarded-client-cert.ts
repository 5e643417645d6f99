/** X-Forwarded-Client-Cert: what apps are told of a client's certificate. */
import { type } from "./json.js";

/** Gorouter's forwarded_client_cert: as it came; as it came by mutual TLS; or the client's own certificate. */
export type ForwardedClientCert = "always_forward" | "forward" | "sanitize_set";

const DETAILS: Readonly<Record<ForwardedClientCert, string>> = {
  always_forward: "ALWAYS_FORWARD_ONLY",
  forward: "FORWARD_ONLY",
  sanitize_set: "SANITIZE",
};

export function forwardedClientCert(mode: ForwardedClientCert) {
  return { forward_client_cert_details: DETAILS[mode] };
}

/** The certificate as Gorouter writes it: base64 of its DER, which is its PEM without the armour. */
export function clientCertFilters(mode: ForwardedClientCert, asksClients: boolean) {
  if (mode !== "sanitize_set" || !asksClients) return [];
  return [
    {
      name: "cf-mesh.client-cert",
      typed_config: {
        "@type": type("extensions.filters.http.lua.v3.Lua"),
        default_source_code: { inline_string: LUA },
      },
    },
  ];
}

const LUA = `
function envoy_on_request(handle)
  local connection = handle:streamInfo():downstreamSslConnection()
  if not connection:peerCertificatePresented() then return end
  local pem = string.gsub(connection:urlEncodedPemEncodedPeerCertificate(), "%%(%x%x)", function(code)
    return string.char(tonumber(code, 16))
  end)
  local text = string.gsub(string.gsub(pem, "%-%-%-%-%-[^-]+%-%-%-%-%-", ""), "%s", "")
  handle:headers():replace("x-forwarded-client-cert", text)
end
`;
