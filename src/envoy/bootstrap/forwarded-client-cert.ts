/** X-Forwarded-Client-Cert: what apps are told of a client's certificate. */
import { type } from "./json.js";
import { filterUnless, type Predicate } from "./matchers.js";

/** Gorouter's forwarded_client_cert: as it came; as it came by mutual TLS; or the client's own certificate. */
export type ForwardedClientCert = "always_forward" | "forward" | "sanitize_set";

/** Of the client's own certificate: the whole, or its hash and its subject. */
export type XfccFormat = "raw" | "envoy";

const DETAILS: Readonly<Record<ForwardedClientCert, string>> = {
  always_forward: "ALWAYS_FORWARD_ONLY",
  forward: "FORWARD_ONLY",
  sanitize_set: "SANITIZE",
};

/** @param signed  requests that may come from a route service: what they say stays, until the agent has looked at them */
export function forwardedClientCert(mode: ForwardedClientCert, isTls: boolean, signed: Predicate | undefined) {
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

export interface ClientCertOptions {
  readonly mode: ForwardedClientCert;
  /** Requests that are left to the agent; undefined: none. */
  readonly signed: Predicate | undefined;
  readonly format: XfccFormat;
}

/** Where clients show certificates. */
export function clientCertFilters({ mode, signed, format }: ClientCertOptions) {
  if (mode !== "sanitize_set") return [];
  const name = "cf-mesh.client-cert";
  const lua = {
    "@type": type("extensions.filters.http.lua.v3.Lua"),
    default_source_code: { inline_string: LUA[format] },
  };
  return [signed ? filterUnless(name, lua, [signed]) : { name, typed_config: lua }];
}

/** The certificate as Gorouter writes it: base64 of its DER, which is its PEM without the armour. */
const RAW = `
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

/**
 * Gorouter's order of the subject's parts: the name first, then the units as they stand in the certificate. Envoy writes the
 * last one first, as RFC 2253 has it; special characters keep its backslashes, so that none can end the text.
 */
const ENVOY = `
local PARTS = { "CN", "OU", "O", "L", "ST", "C" }

local function parts_of(subject)
  local parts, start, index = {}, 1, 1
  while index <= #subject + 1 do
    local char = string.sub(subject, index, index)
    if char == "\\\\" then
      index = index + 2
    else
      if char == "" or char == "," or char == "+" then
        table.insert(parts, 1, string.sub(subject, start, index - 1))
        start = index + 1
      end
      index = index + 1
    end
  end
  return parts
end

function envoy_on_request(handle)
  local connection = handle:streamInfo():downstreamSslConnection()
  if not connection:peerCertificatePresented() then return end
  local texts = { CN = {}, OU = {}, O = {}, L = {}, ST = {}, C = {} }
  for _, part in ipairs(parts_of(connection:subjectPeerCertificate())) do
    local values = texts[string.match(part, "^([^=]*)=")]
    if values ~= nil then values[#values + 1] = part end
  end
  -- Of several names, the last one counts.
  local subject = { texts.CN[#texts.CN] }
  for place = 2, #PARTS do
    for _, part in ipairs(texts[PARTS[place]]) do subject[#subject + 1] = part end
  end
  handle:headers():replace("x-forwarded-client-cert",
    "Hash=" .. connection:sha256PeerCertificateDigest() .. ";Subject=\\"" .. table.concat(subject, ",") .. "\\"")
end
`;

const LUA: Readonly<Record<XfccFormat, string>> = { raw: RAW, envoy: ENVOY };
