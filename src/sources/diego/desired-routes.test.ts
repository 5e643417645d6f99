import { describe, expect, it } from "vitest";
import { DesiredRoutes } from "./desired-routes.js";
import type { DesiredRoute, RoutingInfo } from "./routing-info.js";

const route = (host: string, more: Partial<DesiredRoute> = {}): DesiredRoute => ({
  ...{ host, path: "", internal: false, port: 8080, protocol: "http1", options: undefined, routeServiceUrl: "" },
  ...more,
});

function info(processGuid: string, routes: readonly DesiredRoute[], more: Partial<RoutingInfo> = {}): RoutingInfo {
  return {
    ...{ lrpProcessGuid: `${processGuid}-v1`, processGuid, processType: "web", appGuid: processGuid },
    ...{ appName: `app ${processGuid}`, organizationName: "org", spaceName: "dev", epoch: "e", index: 1 },
    ...{ organizationGuid: "org-guid", spaceGuid: `space of ${processGuid}`, routes, problems: [] },
    ...more,
  };
}

const policies = (routePolicyScope: string, ...routePolicySources: string[]) => ({
  options: { loadbalancing: "", hashHeader: "", hashBalance: "", routePolicyScope, routePolicySources },
});

const processesOf = (routes: DesiredRoutes, place: string) =>
  routes.route(place)?.destinations?.map(({ processGuid }) => processGuid);

describe("the routes of desired LRPs", () => {
  it("say who may call them, and whose their apps are, where one LRP tells of route policies", () => {
    const routes = new DesiredRoutes();
    routes.put(info("a", [route("shop.test"), route("open.test")]));
    expect(routes.route("shop.test")).not.toHaveProperty("options");
    expect(routes.route("shop.test")?.destinations?.[0]).not.toHaveProperty("spaceGuid");
    routes.put(info("b", [route("shop.test", policies("space", "cf:app:x", "cf:app:y"))]));
    routes.put(info("c", [route("shop.test", policies("space", "cf:app:y"))]));
    const policed = routes.route("shop.test");
    expect(policed?.options).toMatchObject({ routePolicyScope: "space", routePolicySources: ["cf:app:y"] });
    expect(policed?.destinations).toMatchObject(
      ["a", "b", "c"].map((app) => ({ spaceGuid: `space of ${app}`, organizationGuid: "org-guid" })),
    );
    expect(routes.route("open.test")).not.toHaveProperty("options");
  });

  it("lead to each process once, without weights, in one order whatever the order they came in", () => {
    const infos = [
      info("b", [route("shop.test")]),
      info("a", [route("shop.test"), route("shop.test", { port: 9090 })]),
      info("a", [route("shop.test")], { lrpProcessGuid: "a-v2" }),
    ];
    const [one, other] = [new DesiredRoutes(), new DesiredRoutes()];
    for (const each of infos) one.put(each);
    for (const each of infos.toReversed()) other.put(each);
    expect(one.route("shop.test")).toEqual(other.route("shop.test"));
    expect(one.route("shop.test")?.destinations?.map(({ processGuid, port }) => `${processGuid} ${port}`)).toEqual([
      "a 8080",
      "a 9090",
      "b 8080",
    ]);
    expect(one.route("shop.test")?.destinations?.every(({ weight }) => weight === undefined)).toBe(true);
  });

  it("keep hosts with different paths apart", () => {
    const routes = new DesiredRoutes();
    routes.put(info("a", [route("shop.test"), route("shop.test", { path: "/cart" })]));
    expect([...routes.places()]).toEqual(["shop.test", "shop.test/cart"]);
    expect(routes.route("shop.test/cart")?.path).toBe("/cart");
    expect(routes.route("shop.test")?.guid).not.toBe(routes.route("shop.test/cart")?.guid);
  });

  it("tell which places moved: those that a process led to before, and those that it leads to now", () => {
    const routes = new DesiredRoutes();
    routes.put(info("a", [route("one.test")]));
    expect(routes.put(info("a", [route("two.test")], { index: 2 }))).toEqual(new Set(["one.test", "two.test"]));
    expect(routes.route("one.test")).toBeUndefined();
    expect(routes.remove("a-v1")).toEqual(new Set(["two.test"]));
    expect([...routes.places()]).toEqual([]);
  });

  it("have the route service that any of their LRPs tells of", () => {
    const routes = new DesiredRoutes();
    routes.put(info("a", [route("shop.test")]));
    routes.put(info("b", [route("shop.test", { routeServiceUrl: "https://guard.test" })]));
    expect(routes.route("shop.test")?.routeServiceUrl).toBe("https://guard.test");
    routes.put(info("b", [route("shop.test")], { index: 2 }));
    expect(routes.route("shop.test")?.routeServiceUrl).toBe("");
  });

  it("follow the newer of an event and a list that was read meanwhile", () => {
    const routes = new DesiredRoutes();
    routes.put(info("gone", [route("gone.test")]));
    const list = routes.beginList();
    routes.put(info("new", [route("new.test")], { index: 5 }));
    routes.put(info("late", [route("old.test")], { index: 1 }));
    routes.remove("removed-v1");
    list.take(info("new", [route("stale.test")], { index: 4 }));
    list.take(info("late", [route("late.test")], { index: 2 }));
    list.take(info("removed", [route("removed.test")]));
    list.finish(true);
    expect([...routes.places()].sort()).toEqual(["late.test", "new.test"]);
  });

  it("stay when a list lacks them and its domain is not fresh", () => {
    const routes = new DesiredRoutes();
    routes.put(info("a", [route("shop.test")]));
    routes.beginList().finish(false);
    expect(processesOf(routes, "shop.test")).toEqual(["a"]);
    routes.beginList().finish(true);
    expect(processesOf(routes, "shop.test")).toBeUndefined();
  });
});
