/** Traces: headers that requests get on their way, as from Gorouter, and the router's own spans. */
import { isIPv6 } from "node:net";
import { REQUEST_ID } from "./headers.js";
import { type } from "./json.js";

export interface TraceHeaders {
  readonly b3: boolean;
  readonly w3c: boolean;
  /** In tracestate's key; undefined: none. */
  readonly w3cTenantId: string | undefined;
}

export interface Spans {
  /** Of OTLP over HTTP in plain text, with a port or without. */
  readonly collector: string;
  readonly serviceName: string;
  /** Of requests that come without a trace, 0 to 100. */
  readonly samplePercent: number;
}

const COLLECTOR_CLUSTER = "cf-mesh.spans";
const EXPORT_TIMEOUT = "5s";
const HTTP_PORT = 80;
/** What W3C allows a tracestate to have at least; a longer one is dropped. */
const MAX_TRACESTATE = 2_048;

/** None where both are off. Each request's id, a new UUID, is where new traces and spans take their numbers from. */
export function traceHeaderFilters(options: TraceHeaders) {
  if (!options.b3 && !options.w3c) return [];
  return [
    {
      name: "cf-mesh.trace-headers",
      typed_config: {
        "@type": type("extensions.filters.http.lua.v3.Lua"),
        default_source_code: { inline_string: traceLua(options) },
      },
    },
  ];
}

function traceLua({ b3, w3c, w3cTenantId }: TraceHeaders): string {
  const key = w3cTenantId === undefined ? "gorouter" : `${w3cTenantId}@gorouter`;
  return `
local HEX = "^[0-9a-f]+$"

local function is_hex(text, ...)
  if text == nil or string.find(text, HEX) == nil or string.find(text, "^0+$") then return false end
  for _, size in ipairs({...}) do
    if #text == size then return true end
  end
  return false
end

-- As a UUID; a short number gets zeros before it.
local function uuid_of(trace)
  local text = string.rep("0", 32 - #trace) .. trace
  return string.sub(text, 1, 8) .. "-" .. string.sub(text, 9, 12) .. "-" .. string.sub(text, 13, 16) .. "-" ..
    string.sub(text, 17, 20) .. "-" .. string.sub(text, 21, 32)
end

local function add_b3(headers, new_trace)
  local trace, span
  local single = headers:get("b3")
  if single ~= nil then
    trace, span = string.match(single, "^([0-9a-f]+)%-([0-9a-f]+)")
  else
    trace, span = headers:get("x-b3-traceid"), headers:get("x-b3-spanid")
  end
  if not is_hex(trace, 16, 32) or not is_hex(span, 16) then
    trace, span = new_trace, string.sub(new_trace, 17, 32)
    single = nil
  end
  headers:replace("x-b3-traceid", trace)
  headers:replace("x-b3-spanid", span)
  if single == nil then headers:replace("b3", trace .. "-" .. span) end
  return trace
end

local function add_w3c(headers, new_trace)
  local version, trace, parent, flags =
    string.match(headers:get("traceparent") or "", "^(%x%x)%-([0-9a-f]+)%-([0-9a-f]+)%-(%x%x)$")
  local state = headers:get("tracestate")
  if version ~= "00" or not is_hex(trace, 32) or not is_hex(parent, 16) then
    trace, flags, state = new_trace, "01", nil
  end
  local span = string.sub(new_trace, 1, 16)
  local entries = { "${key}=" .. span }
  for entry in string.gmatch(state or "", "[^,]+") do
    local name = string.match(entry, "^%s*([^=%s]+)")
    if name ~= "${key}" then entries[#entries + 1] = string.match(entry, "^%s*(.-)%s*$") end
  end
  local joined = table.concat(entries, ",")
  headers:replace("traceparent", "00-" .. trace .. "-" .. span .. "-" .. flags)
  headers:replace("tracestate", #joined <= ${MAX_TRACESTATE} and joined or entries[1])
  return trace
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local new_trace = string.gsub(headers:get("${REQUEST_ID}"), "-", "")
  local trace
  ${w3c ? "trace = add_w3c(headers, new_trace)" : ""}
  ${b3 ? "trace = add_b3(headers, trace or new_trace)" : ""}
  headers:replace("${REQUEST_ID}", uuid_of(trace))
end
`;
}

/** Of the connection manager. */
export function tracing(spans: Spans) {
  return {
    tracing: provider(spans),
    // Requests have no id of Envoy's that could decide.
    request_id_extension: {
      typed_config: {
        "@type": type("extensions.request_id.uuid.v3.UuidRequestIdConfig"),
        pack_trace_reason: false,
        use_request_id_for_trace_sampling: false,
      },
    },
  };
}

function provider({ collector, serviceName, samplePercent }: Spans) {
  return {
    random_sampling: { value: samplePercent },
    provider: {
      name: "envoy.tracers.opentelemetry",
      typed_config: {
        "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
        service_name: serviceName,
        http_service: { http_uri: { uri: collector, cluster: COLLECTOR_CLUSTER, timeout: EXPORT_TIMEOUT } },
      },
    },
  };
}

export function collectorCluster({ collector }: Spans) {
  const { hostname, port } = new URL(collector);
  const host = hostname.replace(/^\[(.*)\]$/, "$1");
  const address = { address: host, port_value: port === "" ? HTTP_PORT : Number(port) };
  return {
    name: COLLECTOR_CLUSTER,
    type: "STRICT_DNS",
    ...(isIPv6(host) && { dns_lookup_family: "V6_ONLY" }),
    connect_timeout: "1s",
    load_assignment: {
      cluster_name: COLLECTOR_CLUSTER,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: address } } }] }],
    },
  };
}
