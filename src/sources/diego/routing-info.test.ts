import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { type DesiredLRP, DesiredLRPSchema } from "../../gen/bbs/v1/bbs_pb.js";
import { routingInfoOf, sameRoutes } from "./routing-info.js";

const PROCESS = "5a1c0f6e-7f0e-4c0b-9a53-000000000001";
const LRP = `${PROCESS}-c2f2f4f1-1111-4c0b-9a53-0000000000aa`;

function desired(
  routes: Readonly<Record<string, unknown>>,
  more: { domain?: string; processGuid?: string } = {},
): DesiredLRP {
  const bytes = Object.entries(routes).map(([router, value]) => [
    router,
    Buffer.from(typeof value === "string" ? value : JSON.stringify(value)),
  ]);
  return create(DesiredLRPSchema, {
    ...{ processGuid: LRP, domain: "cf-apps", logGuid: "shop-app", modificationTag: { epoch: "e", index: 3 } },
    metricTags: {
      app_name: { static: "shop" },
      process_type: { static: "web" },
      organization_name: { static: "org" },
      space_name: { static: "dev" },
      organization_id: { static: "org-guid" },
      space_id: { static: "dev-guid" },
    },
    routes: { routes: Object.fromEntries(bytes) as Record<string, Uint8Array> },
    ...more,
  });
}

const cfRoute = (hostname: string, more: object = {}) => ({
  ...{ hostnames: [hostname], port: 8080, route_service_url: null, isolation_segment: null, protocol: "http1" },
  ...more,
});

describe("what a desired LRP says of routes", () => {
  it("is hosts with their paths, ports, protocols and options, and whose they are", () => {
    const info = routingInfoOf(
      desired({
        "cf-router": [
          cfRoute("Shop.example.com/cart/x", {
            port: 9090,
            protocol: "http2",
            options: {
              ...{ loadbalancing: "hash", hash_header: "X-User", hash_balance: 1.5 },
              ...{ route_policy_scope: "org", route_policy_sources: "cf:space:s,cf:app:a" },
            },
          }),
          cfRoute("*.example.com"),
        ],
        "internal-router": [{ hostname: "shop.apps.internal" }],
      }),
    );
    const plain = { internal: false, protocol: "http1", options: undefined, routeServiceUrl: "" };
    expect(info).toEqual({
      ...{ lrpProcessGuid: LRP, processGuid: PROCESS, processType: "web", appGuid: "shop-app", appName: "shop" },
      ...{ organizationName: "org", spaceName: "dev", epoch: "e", index: 3, problems: [] },
      ...{ organizationGuid: "org-guid", spaceGuid: "dev-guid" },
      routes: [
        {
          ...{ ...plain, host: "shop.example.com", path: "/cart/x", port: 9090, protocol: "http2" },
          options: {
            ...{ loadbalancing: "hash", hashHeader: "X-User", hashBalance: "1.5" },
            ...{ routePolicyScope: "org", routePolicySources: ["cf:app:a", "cf:space:s"] },
          },
        },
        { ...plain, host: "*.example.com", path: "", port: 8080 },
        { ...plain, host: "shop.apps.internal", path: "", port: 9090, internal: true },
      ],
    });
  });

  it("leaves keys for ssh behind, and TCP routes", () => {
    const info = routingInfoOf(
      desired({
        "diego-ssh": { container_port: 2222, private_key: "SECRET" },
        "tcp-router": [{ router_group_guid: "g", external_port: 1024, container_port: 8080 }],
      }),
    );
    expect(info?.routes).toEqual([]);
    expect(JSON.stringify(info)).not.toContain("SECRET");
  });

  it.each([
    ["no JSON", "<html>", "is no list"],
    ["no list", { hostnames: [] }, "is no list"],
    ["a port out of range", [cfRoute("bad.example.com", { port: 0 }), cfRoute("good.example.com")], "port"],
    ["a host that is none", [cfRoute("a b/c"), cfRoute("good.example.com")], "is no host"],
    ["no host at all", [cfRoute(""), cfRoute("good.example.com")], "is no host"],
    ["an unknown protocol", [cfRoute("bad.example.com", { protocol: "h3" }), cfRoute("good.example.com")], "protocol"],
  ])("refuses a bad element alone: %s", (_what, value, problem) => {
    const info = routingInfoOf(desired({ "cf-router": value }));
    expect(info?.problems.join()).toContain(problem);
    const good = typeof value === "string" || !Array.isArray(value) ? [] : ["good.example.com"];
    expect(info?.routes.map(({ host }) => host)).toEqual(good);
  });

  it("is nothing for other domains, and for guids that are not Cloud Controller's", () => {
    expect(routingInfoOf(desired({}, { domain: "other" }))).toBeUndefined();
    expect(routingInfoOf(desired({}, { processGuid: "short" }))).toBeUndefined();
  });

  it("is the same for two states that differ in all but routes", () => {
    const routes = { "cf-router": [cfRoute("shop.example.com")] };
    const one = desired(routes);
    expect(sameRoutes(one, create(DesiredLRPSchema, { ...one, instances: 7, annotation: "x" }))).toBe(true);
    expect(sameRoutes(one, desired({ "cf-router": [] }))).toBe(false);
    expect(sameRoutes(one, desired({ ...routes, "tcp-router": [{}] }))).toBe(false);
  });
});
