/** Load balancers that ask for the router's health by their User-Agent, whatever they ask for. */
import { headerMutation, remove } from "./header-mutations.js";
import { type } from "./json.js";
import { expression, setHeader } from "./reply.js";

/** None without such a load balancer. The router drains when Envoy's own health check is made to fail. */
export function healthCheckFilters(userAgent: string | undefined) {
  if (userAgent === undefined) return [];
  return [
    // Answers pass it after the next one, which names a cluster in them.
    {
      name: "cf-mesh.health-check-headers",
      typed_config: headerMutation({ response_mutations: [remove("x-envoy-upstream-healthchecked-cluster")] }),
    },
    {
      name: "cf-mesh.health-check",
      typed_config: {
        "@type": type("extensions.filters.http.health_check.v3.HealthCheck"),
        pass_through_mode: false,
        headers: [{ name: "user-agent", string_match: { exact: userAgent } }],
      },
    },
  ];
}

/** Mappers of Envoy's local replies: what Gorouter answers. */
export function healthReplies() {
  const headers_to_add = [setHeader("cache-control", "private, max-age=0"), setHeader("expires", "0")];
  return (["ok", "failed"] as const).map((outcome) => ({
    filter: expression(`response.code_details == 'health_check_${outcome}'`),
    headers_to_add,
    body_format_override: {
      text_format_source: { inline_string: outcome === "ok" ? "ok\n" : "" },
      content_type: "text/plain; charset=utf-8",
    },
  }));
}
