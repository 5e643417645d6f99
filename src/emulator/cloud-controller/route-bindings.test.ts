import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  type EmulatedFoundation,
  type Shown,
  startEmulatedFoundation,
} from "../../../test/support/emulated-foundation.js";

describe("user-provided services and their bindings to routes", () => {
  let cf: EmulatedFoundation;
  const URL = "https://guard.example.test/check";
  beforeAll(async () => {
    cf = await startEmulatedFoundation();
  });
  afterAll(() => cf.close());

  const service = (name: string, more: object = {}) =>
    cf.post("/v3/service_instances", {
      type: "user-provided",
      name,
      relationships: { space: { data: { guid: cf.spaceGuid } } },
      ...more,
    });
  const relationships = (route: Shown, instance: Shown) => ({
    relationships: { route: { data: { guid: route.guid } }, service_instance: { data: { guid: instance.guid } } },
  });
  const bind = (route: Shown, instance: Shown) => cf.post("/v3/service_route_bindings", relationships(route, instance));
  const guids = async (path: string) => (await cf.get(path)).resources.map(({ guid }) => guid);

  it("are shown, listed by route and by service, and told to Diego", async () => {
    const [route, instance] = [await cf.route("shop"), await service("guard", { route_service_url: URL })];
    const app = await cf.app("shop");
    await cf.patch(`/v3/routes/${route.guid}/destinations`, { destinations: [{ app: { guid: app } }] });
    const binding = await bind(route, instance);
    expect(binding).toMatchObject({
      route_service_url: URL,
      last_operation: { type: "create", state: "succeeded" },
      ...relationships(route, instance),
    });
    expect(instance).toMatchObject({ type: "user-provided", name: "guard", route_service_url: URL, tags: [] });
    const list = "/v3/service_route_bindings";
    expect(await guids(`${list}?route_guids=x,${route.guid}`)).toEqual([binding.guid]);
    expect(await guids(`${list}?service_instance_names=guard`)).toEqual([binding.guid]);
    expect(await guids(`${list}?service_instance_guids=x`)).toEqual([]);
    expect((await cf.get(`${list}?include=service_instance,route`)).included).toMatchObject({
      service_instances: [{ guid: instance.guid }],
      routes: [{ guid: route.guid }],
    });
    const serviceUrls = () =>
      (cf.diego.processOf(app).routes["cf-router"] as { route_service_url: string | null }[]).map(
        (one) => one.route_service_url,
      );
    expect(serviceUrls()).toEqual([URL]);
    await cf.patch(`/v3/service_instances/${instance.guid}`, { route_service_url: `${URL}/2` });
    expect([serviceUrls(), (await cf.get(`${list}/${binding.guid}`)).route_service_url]).toEqual([
      [`${URL}/2`],
      `${URL}/2`,
    ]);
    expect((await cf.call("DELETE", `${list}/${binding.guid}`)).status).toBe(204);
    expect(serviceUrls()).toEqual([null]);
    const events = (await cf.get("/v3/audit_events?types=audit.service_route_binding.create")).resources;
    expect(events.map(({ data }) => data)).toEqual([{ request: relationships(route, instance) }]);
  });

  it("go with their route, and with their service", async () => {
    const [one, other] = [await cf.route("one"), await cf.route("other")];
    const instance = await service("going", { route_service_url: URL });
    await bind(one, instance);
    await bind(other, instance);
    await cf.call("DELETE", `/v3/routes/${one.guid}`);
    const list = `/v3/service_route_bindings?service_instance_guids=${instance.guid}`;
    expect(await guids(list)).toHaveLength(1);
    expect((await cf.call("DELETE", `/v3/service_instances/${instance.guid}`)).status).toBe(204);
    expect(await guids(list)).toEqual([]);
    expect((await cf.get("/v3/service_instances?names=going")).resources).toEqual([]);
  });

  it("are refused as Cloud Controller does", async () => {
    const unprocessable = (text: string) => `422 CF-UnprocessableEntity: ${text}`;
    const relation = { space: { data: { guid: cf.spaceGuid } } };
    const create = (fields: object) =>
      cf.refusal("POST", "/v3/service_instances", { name: "x", relationships: relation, ...fields });
    expect(await create({ type: "managed" })).toContain("Type must be 'user-provided'");
    expect(await create({ type: "user-provided", route_service_url: "http://a.example.test" })).toBe(
      unprocessable("Route service url must be https"),
    );
    const [plain, guard, second] = [
      await service("plain"),
      await service("guard-1", { route_service_url: URL }),
      await service("guard-2", { route_service_url: URL }),
    ];
    expect(await create({ type: "user-provided", name: "plain" })).toContain("The service instance name is taken");
    const route = await cf.route("refused");
    const refusal = (instance: Shown, to = route) =>
      cf.refusal("POST", "/v3/service_route_bindings", relationships(to, instance));
    expect(await refusal(plain)).toBe(unprocessable("This service instance does not support route binding"));
    await bind(route, guard);
    expect(await refusal(guard)).toBe(unprocessable("The route and service instance are already bound"));
    expect(await refusal(second)).toBe(unprocessable("A route may only be bound to a single service instance"));
    expect(await cf.refusal("GET", "/v3/service_route_bindings/none")).toContain("Service route binding not found");
  });
});
