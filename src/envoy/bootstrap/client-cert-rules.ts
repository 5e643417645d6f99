/** Which of the certificates that a CA of clients has signed are taken. */
import { type } from "./json.js";

/** A certificate's subject or issuer, by Gorouter's names of its parts; what else it has does not count. */
export interface DistinguishedName {
  readonly country?: readonly string[] | undefined;
  readonly organization?: readonly string[] | undefined;
  readonly organizationalUnit?: readonly string[] | undefined;
  readonly locality?: readonly string[] | undefined;
  readonly province?: readonly string[] | undefined;
  readonly streetAddress?: readonly string[] | undefined;
  readonly postalCode?: readonly string[] | undefined;
  readonly commonName?: string | undefined;
  readonly serialNumber?: string | undefined;
}

/** Gorouter's verify_client_certificate_metadata. */
export interface ClientCertRule {
  /** The CA that signs; certificates of others are not asked about by this rule. */
  readonly issuer: DistinguishedName;
  readonly subjects: readonly DistinguishedName[];
}

/** By the short names that certificates have for them. */
const PARTS: Readonly<Record<string, keyof DistinguishedName>> = {
  C: "country",
  O: "organization",
  OU: "organizationalUnit",
  L: "locality",
  ST: "province",
  street: "streetAddress",
  postalCode: "postalCode",
  CN: "commonName",
  serialNumber: "serialNumber",
};

/** Equal for equal names alone: each value follows its part and its length in bytes. */
export function canonicalName(name: DistinguishedName): string {
  return Object.entries(PARTS)
    .flatMap(([short, part]) =>
      [name[part] ?? []].flat().map((value) => `${short}=${Buffer.byteLength(value)}:${value};`),
    )
    .join("");
}

/** @param parts  by their short names, as Node has them of a certificate: one value, or several */
export function nameOf(parts: Readonly<Record<string, string | readonly string[] | undefined>>): DistinguishedName {
  const name: Record<string, string | readonly string[]> = {};
  for (const [short, part] of Object.entries(PARTS)) {
    const values = [parts[short] ?? []].flat();
    const last = values.at(-1);
    if (last === undefined) continue;
    name[part] = part === "commonName" || part === "serialNumber" ? last : values;
  }
  return name;
}

/** None without rules. A client that no rule allows gets 403: the handshake is over when its name can be looked at. */
export function clientCertRuleFilters(rules: readonly ClientCertRule[]) {
  if (rules.length === 0) return [];
  return [
    {
      name: "cf-mesh.client-cert-rules",
      typed_config: {
        "@type": type("extensions.filters.http.lua.v3.Lua"),
        default_source_code: { inline_string: ruleLua(rules) },
      },
    },
  ];
}

function ruleLua(rules: readonly ClientCertRule[]): string {
  const tables = rules.map(
    ({ issuer, subjects }) =>
      `{ issuer = ${luaText(canonicalName(issuer))}, subjects = { ${subjects
        .map((subject) => `[${luaText(canonicalName(subject))}] = true`)
        .join(", ")} } }`,
  );
  return `
local RULES = { ${tables.join(", ")} }
local PARTS = { ${Object.keys(PARTS).map(luaText).join(", ")} }
local SINGLE = { CN = true, serialNumber = true }

-- RFC 2253 writes the last part first.
local function parts_of(name)
  local parts, text, index = {}, {}, 1
  local function finish()
    table.insert(parts, 1, table.concat(text))
    text = {}
  end
  while index <= #name do
    local char = string.sub(name, index, index)
    if char == "\\\\" then
      local code = string.match(name, "^%x%x", index + 1)
      text[#text + 1] = code and string.char(tonumber(code, 16)) or string.sub(name, index + 1, index + 1)
      index = index + (code and 3 or 2)
    else
      if char == "," or char == "+" then finish() else text[#text + 1] = char end
      index = index + 1
    end
  end
  finish()
  return parts
end

local function canonical(name)
  local values = {}
  for _, part in ipairs(parts_of(name)) do
    local short, value = string.match(part, "^([^=]+)=(.*)$")
    if short ~= nil then
      local text = short .. "=" .. #value .. ":" .. value .. ";"
      values[short] = (SINGLE[short] and "" or values[short] or "") .. text
    end
  end
  local all = {}
  for _, short in ipairs(PARTS) do all[#all + 1] = values[short] or "" end
  return table.concat(all)
end

function envoy_on_request(handle)
  local connection = handle:streamInfo():downstreamSslConnection()
  if not connection:peerCertificatePresented() then return end
  local issuer = canonical(connection:issuerPeerCertificate())
  local subject = canonical(connection:subjectPeerCertificate())
  for _, rule in ipairs(RULES) do
    if rule.issuer == issuer and not rule.subjects[subject] then
      local headers = {
        [":status"] = "403",
        ["x-cf-routererror"] = "client_certificate_not_allowed",
        ["connection"] = "close",
      }
      handle:respond(headers, "The client certificate is not allowed.")
      return
    end
  end
end
`;
}

const PRINTED = /^[A-Za-z0-9 =:;.]$/;

/** As a text of Lua, whatever is in it. */
function luaText(text: string): string {
  const bytes = [...Buffer.from(text)].map((byte) => {
    const char = String.fromCharCode(byte);
    return PRINTED.test(char) ? char : `\\${String(byte).padStart(3, "0")}`;
  });
  return `"${bytes.join("")}"`;
}
