/** What the router itself answers, as Gorouter words it. */

/** Envoy's flag for a request that nothing moved on for too long: here, one that waited for its routes. */
const IDLE = "SI";

export function localReplies() {
  const reply = (flag: string, routerError: string, message: string, cacheControl: string) => ({
    filter: { response_flag_filter: { flags: [flag] } },
    ...(flag === IDLE && { status_code: 503 }),
    body_format_override: {
      text_format_source: { inline_string: `%RESPONSE_CODE% ${message}\n` },
      content_type: "text/plain; charset=utf-8",
    },
    headers_to_add: [
      { header: { key: "x-cf-routererror", value: routerError }, append_action: "OVERWRITE_IF_EXISTS_OR_ADD" },
      { header: { key: "x-content-type-options", value: "nosniff" }, append_action: "OVERWRITE_IF_EXISTS_OR_ADD" },
      { header: { key: "cache-control", value: cacheControl }, append_action: "OVERWRITE_IF_EXISTS_OR_ADD" },
    ],
  });
  return [
    reply(
      "NR",
      "unknown_route",
      "Not Found: Requested route ('%REQ(:authority)%') does not exist.",
      "no-cache, no-store",
    ),
    reply(
      "UH",
      "no_endpoints",
      "Service Unavailable: Requested route ('%REQ(:authority)%') has no available endpoints.",
      "public,max-age=2",
    ),
    reply(
      IDLE,
      "routes_unavailable",
      "Service Unavailable: Requested route ('%REQ(:authority)%') can not be looked up now.",
      "no-cache, no-store",
    ),
  ];
}
