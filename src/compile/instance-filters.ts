/**
 * The Lua by which a request reaches a certain instance, as with Gorouter: the one of its session (`__VCAP_ID__`), or the
 * one that X-CF-APP-INSTANCE or X-CF-PROCESS-INSTANCE names; and the mark of requests that an app may get twice. Requests with nothing of that kind never run it: the
 * bootstrap puts it behind a match. Where the instances are, the route's metadata says (instance-index.ts).
 */
import { CLUSTER_HEADER, INSTANCE_FILTER, INSTANCE_METADATA } from "./names.js";

export interface StickySessions {
  /** Cookies of apps that make a session; names of cookies have no quotes and no backslashes. */
  readonly cookieNames: readonly string[];
  /** The router's cookie is for HTTPS alone, whatever the app says of its own. */
  readonly secureCookies: boolean;
  /** Clients that log in by SPNEGO must stay with their instance. */
  readonly authNegotiate: boolean;
}

/** The cookie that names the instance of a client's session. */
export const STICKY_COOKIE = "__VCAP_ID__";

/** Carries the answering instance's guid and address to the Lua, a space between them; never seen by a client. */
export const ANSWERING_INSTANCE_HEADER = "x-cf-mesh-instance";

/** What an answer of the router itself has. */
const ROUTER_ERROR_HEADER = "x-cf-routererror";

/** Headers for which `instanceLua` has to run. */
export const REQUEST_HEADERS = [
  "x-cf-app-instance",
  "x-cf-process-instance",
  "idempotency-key",
  "x-idempotency-key",
] as const;

const NEGOTIATE_MAX_AGE_SECONDS = 60;

/** In the request's metadata: the guid of its session's instance. */
const STICKY = "sticky";

/** When a request that may be sent twice is. */
const RETRY_REPEATABLE = "reset";

/** A pattern of Lua that a guid in lower case begins, and that captures it. */
const HEX = "[0-9a-f]";
const GUID = `^(${[8, 4, 4, 4, 12].map((digits) => HEX.repeat(digits)).join("%-")})`;

/** What the route says; or its host, whose routes all say the same then (host-wide.ts). */
const METADATA_OF = `
local function metadata_of(handle, key)
  return handle:metadata():get(key) or handle:virtualHost():metadata():get(key)
end
`;

/** Browsers bind a cookie to its host whose name has that prefix. */
const isSession = (cookieNames: readonly string[]) => `
local SESSIONS = { ${cookieNames.map((name) => `["${name}"] = true`).join(", ")} }
local function is_session(name)
  return name ~= nil and (SESSIONS[name] or SESSIONS[string.match(name, "^__Host%-(.*)$") or ""])
end`;

/** For requests with the cookie, or with one of the headers of REQUEST_HEADERS. */
export function instanceLua({ cookieNames, authNegotiate }: StickySessions): string {
  return `
${isSession(cookieNames)}
local GUID = "${GUID}"
${METADATA_OF}
-- The bootstrap makes a whole answer of it, as of the router's other errors.
local function refuse(handle, status, router_error, message)
  handle:respond({ [":status"] = status, ["${ROUTER_ERROR_HEADER}"] = router_error }, message)
end

-- An entry is an address, and where the route has several clusters "|" and one of them.
local function choose(handle, entry, is_strict)
  local address, cluster = string.match(entry, "^([^|]*)|?(.*)$")
  handle:setUpstreamOverrideHost(address, is_strict)
  if cluster == "" then return end
  handle:headers():replace("${CLUSTER_HEADER}", cluster)
  handle:streamInfo():dynamicMetadata():set("${INSTANCE_FILTER}", "${INSTANCE_METADATA.knowsCluster}", true)
  handle:clearRouteCache()
end

local function find_by_guid(instances, guid)
  if guid == "" or guid == "-" or string.find(guid, "%s") then return nil end
  local _, stop = string.find(instances, " " .. guid .. " ", 1, true)
  return stop and string.match(instances, "^%S+", stop + 1)
end

-- Any of those that match: an app's instance may run twice for a moment, a process has many.
local function find_by_owner(instances, owner_pattern, guid, index)
  local found, is_owner = {}, false
  for line in string.gmatch(instances, "[^\\n]+") do
    if string.sub(line, 1, 1) == "@" then
      is_owner = string.match(line, owner_pattern) == guid
    elseif is_owner and (index == nil or string.match(line, "^%S+") == index) then
      found[#found + 1] = string.match(line, "%S+$")
    end
  end
  return found[math.random(math.max(#found, 1))]
end

local function session_of(headers)
  local text = headers:get("cookie")
  if text == nil then return nil, false end
  local instance, has_session = nil, false
  for pair in string.gmatch(text, "[^;]+") do
    local name, value = string.match(pair, "^%s*([^=%s]+)%s*=%s*\\"?([^\\"]*)")
    if name == "${STICKY_COOKIE}" then instance = instance or string.match(value, "^(.-)%s*$") end
    if is_session(name) then has_session = true end
  end
  ${
    authNegotiate
      ? `local is_negotiating = string.find(string.lower(headers:get("authorization") or ""), "^negotiate") ~= nil
  if is_negotiating then return instance, true end`
      : ""
  }
  return has_session and instance or nil, false
end

-- Returns whether it has answered.
local function address_app_instance(handle, headers, instances)
  local asked = headers:get("x-cf-app-instance")
  if asked == nil or asked == "" then return false end
  local guid, index = string.match(asked, GUID .. ":(%d+)$")
  if guid == nil then
    refuse(handle, "400", "invalid_cf_app_instance_header", "Invalid X-CF-App-Instance Header")
    return true
  end
  headers:remove("x-cf-app-instance")
  local entry = find_by_owner(instances, "^@(%S+)", guid, index)
  if entry == nil then
    refuse(handle, "400", "unknown_route", "Requested instance ('" .. index ..
      "') with guid ('" .. guid .. "') does not exist for route ('" .. headers:get(":authority") .. "')")
    return true
  end
  choose(handle, entry, true)
  headers:replace("x-envoy-max-retries", "0")
  return true
end

local function address_process_instance(handle, headers, instances)
  local asked = headers:get("x-cf-process-instance")
  if asked == nil or asked == "" then return false end
  local guid, rest = string.match(asked, GUID .. "(.*)$")
  local index = rest and string.match(rest, "^:(%d+)$")
  if guid == nil or (rest ~= "" and index == nil) then
    refuse(handle, "400", "invalid_cf_process_instance_header",
      "Invalid X-CF-Process-Instance Header")
    return true
  end
  local entry = find_by_owner(instances, "^@%S+ (%S+)", guid, index)
  if entry == nil then
    local number = index and " ('" .. index .. "')" or ""
    refuse(handle, "400", "unknown_route", "Requested instance" .. number ..
      " with process guid ('" .. guid .. "') does not exist for route ('" .. headers:get(":authority") .. "')")
    return true
  end
  choose(handle, entry, true)
  headers:replace("x-envoy-max-retries", "0")
  return true
end

function envoy_on_request(handle)
  local headers = handle:headers()
  -- Says that it may be sent twice, whatever its method.
  if headers:get("idempotency-key") or headers:get("x-idempotency-key") then
    headers:replace("x-envoy-retry-on", "${RETRY_REPEATABLE}")
  end
  local instances = metadata_of(handle, "${INSTANCE_METADATA.instances}") or ""
  local sticky, must_stick = session_of(headers)
  if sticky ~= nil then
    handle:streamInfo():dynamicMetadata():set("${INSTANCE_FILTER}", "${STICKY}", sticky)
  end
  if address_app_instance(handle, headers, instances) or address_process_instance(handle, headers, instances) then
    return
  end
  if sticky == nil then return end
  local entry = find_by_guid(instances, sticky)
  if entry ~= nil then
    choose(handle, entry, must_stick)
    if must_stick then headers:replace("x-envoy-max-retries", "0") end
  elseif must_stick then
    refuse(handle, "502", "endpoint_failure (No endpoints available)",
      "Registered endpoint failed to handle the request.")
  end
end
`;
}

/** For answers that make a session, and for those to requests that had one. */
export function stickyCookieLua({ cookieNames, secureCookies, authNegotiate }: StickySessions): string {
  return `
${isSession(cookieNames)}
${METADATA_OF}local SAME_SITE = { lax = "Lax", strict = "Strict", none = "None" }

local function attributes_of(cookie)
  local of = {}
  local rest = string.match(cookie, ";(.*)$")
  if rest == nil then return of end
  for part in string.gmatch(rest, "[^;]+") do
    local name, value = string.match(part, "^%s*([^=%s]*)%s*=?%s*(.-)%s*$")
    name = string.lower(name)
    if name == "secure" then of.is_secure = true
    elseif name == "partitioned" then of.is_partitioned = true
    elseif name == "samesite" then of.same_site = SAME_SITE[string.lower(value)]
    elseif name == "expires" then
      of.expires = string.match(value, "^%a%a%a, %d%d[ -]%a%a%a[ -]%d%d%d%d %d%d:%d%d:%d%d GMT$")
    elseif name == "max-age" and (value == "0" or string.find(value, "^%-%d+$")) then of.is_removed = true
    end
  end
  return of
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local instance, address = string.match(headers:get("${ANSWERING_INSTANCE_HEADER}") or "", "^(.*) (%S+)$")
  headers:remove("${ANSWERING_INSTANCE_HEADER}")
  if instance == nil or instance == address or address == "-" or headers:get("${ROUTER_ERROR_HEADER}") ~= nil then
    return
  end

  local request = handle:streamInfo():dynamicMetadata():get("${INSTANCE_FILTER}")
  local sticky = request and request["${STICKY}"]
  local is_wanted = sticky ~= nil and sticky ~= instance
  local of = nil
  ${
    authNegotiate
      ? `if string.find(string.lower(headers:get("www-authenticate") or ""), "^negotiate") then
    is_wanted = sticky ~= instance
    of = { max_age = ${NEGOTIATE_MAX_AGE_SECONDS}, same_site = "Strict" }
  end`
      : ""
  }
  local is_negotiated = of ~= nil
  for place = 0, headers:getNumValues("set-cookie") - 1 do
    local cookie = headers:getAtIndex("set-cookie", place)
    local name = string.match(cookie, "^%s*([^=;%s]+)%s*=")
    if name == "${STICKY_COOKIE}" then return end
    if not is_negotiated and of == nil and is_session(name) then
      is_wanted = true
      of = attributes_of(cookie)
    end
  end
  if not is_wanted then return end

  of = of or {}
  local path = metadata_of(handle, "${INSTANCE_METADATA.cookiePath}") or "/"
  local cookie = "${STICKY_COOKIE}=" .. instance .. "; Path=" .. path
  if of.expires then cookie = cookie .. "; Expires=" .. string.gsub(of.expires, "-", " ") end
  if of.max_age then cookie = cookie .. "; Max-Age=" .. of.max_age end
  if of.is_removed then cookie = cookie .. "; Max-Age=0" end
  cookie = cookie .. "; HttpOnly"
  if of.is_secure${secureCookies ? " or true" : ""} then cookie = cookie .. "; Secure" end
  if of.same_site then cookie = cookie .. "; SameSite=" .. of.same_site end
  if of.is_partitioned then cookie = cookie .. "; Partitioned" end
  headers:add("set-cookie", cookie)
end
`;
}
