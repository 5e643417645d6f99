import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  type EmulatedFoundation,
  type Shown,
  startEmulatedFoundation,
} from "../../../test/support/emulated-foundation.js";

const GUID = "d76446a1-f429-4444-8797-be2f78b75b08";

describe("route policies", () => {
  let cf: EmulatedFoundation;
  let domain: Shown;
  beforeAll(async () => {
    cf = await startEmulatedFoundation();
    domain = await cf.post("/v3/domains", {
      ...{ name: "apps.identity", enforce_route_policies: true, route_policies_scope: "org" },
    });
  });
  afterAll(() => cf.close());

  const route = (host: string, of = domain) =>
    cf.post("/v3/routes", {
      host,
      relationships: { space: { data: { guid: cf.spaceGuid } }, domain: { data: { guid: of.guid } } },
    });
  const policy = (of: Shown, source: string) => ({ source, relationships: { route: { data: { guid: of.guid } } } });
  const add = (of: Shown, source: string) => cf.post("/v3/route_policies", policy(of, source));
  const refused = (of: Shown, source: string) => cf.refusal("POST", "/v3/route_policies", policy(of, source));
  const guids = async (query: string) =>
    (await cf.get(`/v3/route_policies?${query}`)).resources.map(({ guid }) => guid);

  it("are shown, listed by route and source, changed in their labels alone, and told as events", async () => {
    const [one, other] = [await route("one"), await route("other")];
    const app = await cf.app("caller");
    const [byApp, bySpace] = [await add(one, `cf:app:${app}`), await add(one, `cf:space:${cf.spaceGuid}`)];
    const any = await add(other, "cf:any");
    expect(byApp).toMatchObject({
      source: `cf:app:${app}`,
      metadata: { labels: {}, annotations: {} },
      relationships: { route: { data: { guid: one.guid } }, app: { data: { guid: app } }, space: { data: null } },
    });
    expect(any).toMatchObject({
      source: "cf:any",
      relationships: { app: { data: null }, organization: { data: null } },
    });
    expect(await guids(`route_guids=${one.guid}`)).toEqual([byApp.guid, bySpace.guid]);
    expect(await guids(`sources=cf:any`)).toEqual([any.guid]);
    expect(await guids(`source_guids=${app}`)).toEqual([byApp.guid]);
    expect(await guids(`space_guids=${cf.spaceGuid}`)).toHaveLength(3);
    expect((await cf.get("/v3/route_policies?include=source,route")).included).toMatchObject({
      ...{ apps: [{ guid: app }], spaces: [{ guid: cf.spaceGuid }], organizations: [] },
      routes: [{ guid: one.guid }, { guid: other.guid }],
    });
    const labels = { team: "payments" };
    const changed = await cf.patch(`/v3/route_policies/${any.guid}`, { metadata: { labels } });
    expect(changed).toMatchObject({ guid: any.guid, metadata: { labels } });
    expect((await cf.call("DELETE", `/v3/route_policies/${any.guid}`)).status).toBe(204);
    expect(await cf.refusal("GET", `/v3/route_policies/${any.guid}`)).toContain("Route policy not found");
    const types = ["create", "update", "delete"].map((action) => `audit.route_policy.${action}`);
    const { resources } = await cf.get(`/v3/audit_events?types=${types.join(",")}&target_guids=${any.guid}`);
    expect(resources.map(({ type, data }) => ({ type, data }))).toEqual([
      { type: types[0], data: { request: { source: "cf:any", route_guid: other.guid } } },
      { type: types[1], data: { request: { metadata: { labels } } } },
      { type: types[2], data: {} },
    ]);
    await cf.call("DELETE", `/v3/routes/${one.guid}`);
    expect(await guids("")).toEqual([]);
  });

  it("are told to Diego with the options of the route, and not shown there", async () => {
    const [policed, app] = [await route("told"), await cf.app("told")];
    await cf.patch(`/v3/routes/${policed.guid}`, { options: { loadbalancing: "least-connection" } });
    await cf.patch(`/v3/routes/${policed.guid}/destinations`, { destinations: [{ app: { guid: app } }] });
    const told = () => (cf.diego.processOf(app).routes["cf-router"] as [{ options: object }])[0].options;
    const options = { loadbalancing: "least-connection", route_policy_scope: "org" };
    expect(told()).toEqual(options);
    await add(policed, `cf:app:${GUID}`);
    await add(policed, `cf:space:${GUID}`);
    expect(told()).toEqual({ ...options, route_policy_sources: `cf:app:${GUID},cf:space:${GUID}` });
    expect((await cf.get(`/v3/routes/${policed.guid}`)).options).toEqual({ loadbalancing: "least-connection" });
    expect(domain).toMatchObject({ enforce_route_policies: true, route_policies_scope: "org" });
  });

  it("are refused as Cloud Controller does", async () => {
    const unprocessable = (text: string) => `422 CF-UnprocessableEntity: ${text}`;
    const [some, any] = [await route("some"), await route("any")];
    await add(some, `cf:app:${GUID}`);
    await add(any, "cf:any");
    for (const source of ["everybody", "cf:app:", "cf:app:UPPER", `cf:organization:${GUID}`]) {
      expect(await refused(some, source)).toContain("Source must be in format 'cf:app:<uuid>', 'cf:space:<uuid>'");
    }
    expect(await refused(some, `cf:app:${GUID}`)).toBe(
      unprocessable(`A route policy with source 'cf:app:${GUID}' already exists for this route.`),
    );
    expect(await refused(some, "cf:any")).toBe(
      unprocessable("source 'cf:any' cannot coexist with other route policies on the same route"),
    );
    expect(await refused(any, `cf:app:${GUID}`)).toBe(
      unprocessable("source cannot coexist with the existing 'cf:any' policy on this route"),
    );
    const plain = await cf.route("plain");
    expect(await refused(plain, "cf:any")).toContain("does not have enforce_route_policies enabled");
    const narrow = await cf.post("/v3/domains", {
      ...{ name: "narrow.identity", enforce_route_policies: true, route_policies_scope: "space" },
    });
    expect(await refused(await route("narrow", narrow), `cf:org:${GUID}`)).toContain("route_policies_scope is 'space'");
    const missing = { guid: "missing" } as Shown;
    expect(await refused(missing, "cf:any")).toContain("Route not found");
    const create = (fields: object) => cf.refusal("POST", "/v3/domains", { name: "x.identity", ...fields });
    expect(await create({ enforce_route_policies: true })).toBe(
      unprocessable("Route policies scope is required when enforce_route_policies is true"),
    );
    expect(await create({ enforce_route_policies: true, route_policies_scope: "galaxy" })).toContain(
      "Route policies scope must be one of 'any', 'org', 'space'",
    );
    expect(await create({ internal: true, enforce_route_policies: true, route_policies_scope: "any" })).toContain(
      "Internal domains cannot have route policy enforcement.",
    );
  });
});
