/** X-Forwarded-Client-Cert: what apps are told of a client's certificate. */
import type { Entrance } from "./entrance.js";
import { type } from "./json.js";
import { filterUnless, type Predicate } from "./matchers.js";

/** Gorouter's forwarded_client_cert: as it came; as it came by mutual TLS; or the client's own certificate. */
export type ForwardedClientCert = "always_forward" | "forward" | "sanitize_set";

const DETAILS: Readonly<Record<ForwardedClientCert, string>> = {
  always_forward: "ALWAYS_FORWARD_ONLY",
  forward: "FORWARD_ONLY",
  sanitize_set: "SANITIZE",
};

/** @param signed  requests that may come from a route service: what they say stays, until the agent has looked at them */
export function forwardedClientCert(mode: ForwardedClientCert, { isTls }: Entrance, signed: Predicate | undefined) {
  return {
    forward_client_cert_details: DETAILS[mode],
    // What comes without TLS may say nothing of certificates, wherever it comes from.
    ...(isTls && signed && mode !== "always_forward" && { forward_client_cert_matcher: forwardWhere(signed) }),
  };
}

function forwardWhere(predicate: Predicate) {
  const config = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.ForwardClientCertConfig";
  const action = {
    name: "forward",
    typed_config: { "@type": type(config), forward_client_cert_details: DETAILS.always_forward },
  };
  return { matcher_list: { matchers: [{ predicate, on_match: { action } }] } };
}

/** The certificate as Gorouter writes it: base64 of its DER, which is its PEM without the armour. */
export function clientCertFilters(mode: ForwardedClientCert, asksClients: boolean, signed: Predicate | undefined) {
  if (mode !== "sanitize_set" || !asksClients) return [];
  const name = "cf-mesh.client-cert";
  const lua = { "@type": type("extensions.filters.http.lua.v3.Lua"), default_source_code: { inline_string: LUA } };
  return [signed ? filterUnless(name, lua, [signed]) : { name, typed_config: lua }];
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
