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
/** What W3C allows a tracestate to have at least; a longer one of a client is dropped. */
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

/** As Gorouter's handlers/zipkin.go, w3c*.go and requestinfo.go, which come in this order. */
function traceLua({ b3, w3c, w3cTenantId }: TraceHeaders): string {
  const key = w3cTenantId === undefined ? "gorouter" : `${w3cTenantId}@gorouter`;
  return `
local SAMPLED = { ["1"] = "-1", ["true"] = "-1", ["0"] = "-0", ["false"] = "-0", [""] = "" }

local function is_hex(text, ...)
  if string.find(text, "^%x+$") == nil or string.find(text, "^0+$") then return false end
  for _, size in ipairs({...}) do
    if #text == size then return true end
  end
  return false
end

local function is_trace(trace, span)
  return is_hex(trace, 16, 32) and is_hex(span, 16)
end

-- Returns the trace and the span that the request has then: none where it says something that can't be followed.
local function add_b3(headers, new_trace)
  local function get(name) return headers:get(name) or "" end
  local single = get("b3")
  -- Whether it is sampled, and nothing else.
  if string.find(single, "^[01d]$") then return nil end
  local trace, span = string.match(single, "^(%x+)%-(%x+)")
  if trace ~= nil and is_trace(trace, span) then return string.lower(trace), string.lower(span) end
  trace, span = get("x-b3-traceid"), get("x-b3-spanid")
  if trace ~= "" and span ~= "" then
    local parent = get("x-b3-parentspanid")
    local sampled = get("x-b3-flags") == "1" and "-d" or SAMPLED[string.lower(get("x-b3-sampled"))]
    if not is_trace(trace, span) or sampled == nil or (parent ~= "" and not is_hex(parent, 16)) then return nil end
    trace, span = string.lower(trace), string.lower(span)
    headers:replace("b3", trace .. "-" .. span .. sampled .. (parent == "" and "" or "-" .. string.lower(parent)))
    return trace, span
  end
  trace, span = new_trace, string.sub(new_trace, 17, 32)
  headers:replace("x-b3-traceid", trace)
  headers:replace("x-b3-spanid", span)
  headers:replace("b3", trace .. "-" .. span)
  return trace, span
end

-- Returns the trace. One that begins here is that of B3.
local function add_w3c(headers, new_trace, b3_trace, b3_span)
  local text = string.lower(string.match(headers:get("traceparent") or "", "^%s*(.-)%s*$"))
  local trace, parent, flags = string.match(text, "^%x%x.(%x+).(%x+).(%x%x)$")
  local span = string.sub(new_trace, 1, 16)
  local state = ""
  if trace ~= nil and is_hex(trace, 32) and is_hex(parent, 16) then
    state = headers:get("tracestate") or ""
    if #state > ${MAX_TRACESTATE} then state = "" end
  else
    trace, span, flags = b3_trace or new_trace, b3_span or span, "01"
  end
  local entries = { "${key}=" .. span }
  for entry in string.gmatch(state, "[^,]+") do
    local name = string.match(entry, "^%s*([^=]*)=")
    if name ~= nil and name ~= "${key}" then entries[#entries + 1] = string.match(entry, "^%s*(.-)%s*$") end
  end
  headers:replace("traceparent", "00-" .. string.rep("0", 32 - #trace) .. trace .. "-" .. span .. "-" .. flags)
  headers:replace("tracestate", table.concat(entries, ","))
  return trace
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local new_trace = string.gsub(headers:get("${REQUEST_ID}"), "-", "")
  local trace, span
  ${b3 ? "trace, span = add_b3(headers, new_trace)" : ""}
  ${w3c ? "local w3c_trace = add_w3c(headers, new_trace, trace, span)\n  trace = trace or w3c_trace" : ""}
  -- A shorter trace is no UUID.
  if trace == nil or #trace < 32 or trace == new_trace then return end
  headers:replace("${REQUEST_ID}", string.sub(trace, 1, 8) .. "-" .. string.sub(trace, 9, 12) .. "-" ..
    string.sub(trace, 13, 16) .. "-" .. string.sub(trace, 17, 20) .. "-" .. string.sub(trace, 21, 32))
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
