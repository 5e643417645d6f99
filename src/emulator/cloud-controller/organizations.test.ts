import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  type EmulatedFoundation,
  type Shown,
  startEmulatedFoundation,
} from "../../../test/support/emulated-foundation.js";
import { DEFAULT_ROUTER_GROUP } from "../routing-api/router-groups.js";

describe("organizations, spaces and domains", () => {
  let cf: EmulatedFoundation;
  const unprocessable = (detail: string) => `422 CF-UnprocessableEntity: ${detail}`;
  const inOrganization = (guid: string) => ({ relationships: { organization: { data: { guid } } } });
  const names = (page: Shown): string[] => page.resources.map((one) => one.name);

  beforeAll(async () => {
    cf = await startEmulatedFoundation();
  });
  afterAll(() => cf.close());

  it("are there from the start: organization laptop with space dev, and the shared domains", async () => {
    expect(names(await cf.get("/v3/organizations"))).toEqual(["laptop"]);
    expect(names(await cf.get(`/v3/spaces?organization_guids=${cf.organizationGuid}`))).toEqual(["dev"]);
    expect((await cf.get(`/v3/organizations/${cf.organizationGuid}/domains/default`)).name).toBe("apps.example.test");
  });

  it("have unique names", async () => {
    expect(await cf.refusal("POST", "/v3/organizations", { name: "laptop" })).toBe(
      unprocessable("Organization 'laptop' already exists."),
    );
    expect(await cf.refusal("POST", "/v3/spaces", { name: "dev", ...inOrganization(cf.organizationGuid) })).toBe(
      unprocessable("Name must be unique per organization"),
    );
    expect(await cf.refusal("POST", "/v3/domains", { name: "apps.example.test" })).toBe(
      unprocessable('The domain name "apps.example.test" is already in use'),
    );
  });

  it("hide private domains from other organizations", async () => {
    const { guid } = await cf.post("/v3/organizations", { name: "owner" });
    const domain = await cf.post("/v3/domains", { name: "mine.test", ...inOrganization(guid) });
    expect(domain.relationships.organization.data.guid).toBe(guid);
    expect(names(await cf.get(`/v3/organizations/${guid}/domains`))).toContain("mine.test");
    expect(names(await cf.get(`/v3/organizations/${cf.organizationGuid}/domains`))).not.toContain("mine.test");
    const relationships = { space: { data: { guid: cf.spaceGuid } }, domain: { data: { guid: domain.guid } } };
    expect(await cf.refusal("POST", "/v3/routes", { relationships })).toBe(
      unprocessable("Invalid domain. Domain 'mine.test' is not available in organization 'laptop'."),
    );
    expect(await cf.refusal("POST", "/v3/domains", { name: "sub.mine.test" })).toBe(
      unprocessable(
        'The domain name "sub.mine.test" cannot be created because "mine.test" is already reserved by another domain',
      ),
    );
  });

  it("are shared, private, internal or TCP domains, in no other mixture", async () => {
    const internal = await cf.post("/v3/domains", { name: "apps.internal", internal: true });
    expect(internal).toMatchObject({ internal: true, router_group: null, supported_protocols: ["http"] });
    const tcp = await cf.post("/v3/domains", { name: "tcp.test", router_group: { guid: DEFAULT_ROUTER_GROUP.guid } });
    expect(tcp).toMatchObject({ router_group: { guid: DEFAULT_ROUTER_GROUP.guid }, supported_protocols: ["tcp"] });
    expect(await cf.refusal("POST", "/v3/domains", { name: "tcp2.test", router_group: { guid: "g" } })).toBe(
      unprocessable("Router group with guid 'g' not found."),
    );
    const mixed = { name: "x.test", internal: true };
    expect(await cf.refusal("POST", "/v3/domains", { ...mixed, ...inOrganization(cf.organizationGuid) })).toBe(
      unprocessable("Cannot associate an internal domain with an organization"),
    );
    expect(await cf.refusal("POST", "/v3/domains", { ...mixed, router_group: { guid: "g" } })).toBe(
      unprocessable("Internal domains cannot be associated to a router group."),
    );
    expect(await cf.refusal("POST", "/v3/domains", { name: "localhost" })).toBe(
      unprocessable('Name must contain at least one "."'),
    );
  });

  it("take all they hold with them when they are deleted", async () => {
    const { guid } = await cf.foundation.pushSample("doomed", "hello", {
      instances: 1,
      organization: "doomed",
      space: "doomed",
    });
    const lrp = cf.diego.processOf(guid).lrpProcessGuid;
    const [organization] = (await cf.get("/v3/organizations?names=doomed")).resources;
    expect((await cf.call("DELETE", `/v3/organizations/${organization.guid}`)).status).toBe(202);
    expect(names(await cf.get("/v3/spaces?names=doomed"))).toEqual([]);
    expect(cf.diego.desired.has(lrp)).toBe(false);
  });

  it("take roles, each once", async () => {
    const role = {
      type: "space_developer",
      relationships: {
        user: { data: { username: "admin", origin: "uaa" } },
        space: { data: { guid: cf.spaceGuid } },
      },
    };
    expect((await cf.post("/v3/roles", role)).type).toBe("space_developer");
    expect(await cf.refusal("POST", "/v3/roles", role)).toBe(
      unprocessable("User 'admin' already has 'space_developer' role in space 'dev'."),
    );
  });

  it("say where all is, without a token", async () => {
    const { apiUrl, uaaUrl } = cf.foundation;
    const root = (await (await fetch(apiUrl)).json()) as Shown;
    expect(root.links.cloud_controller_v3).toEqual({ href: `${apiUrl}/v3`, meta: { version: "3.225.0" } });
    expect([root.links.login.href, root.links.uaa.href]).toEqual([uaaUrl, uaaUrl]);
    expect((await fetch(`${apiUrl}/v3/info`)).status).toBe(200);
    expect(await cf.refusal("GET", "/v3/unheard")).toBe("404 CF-NotFound: Unknown request");
  });

  it("answer for what there is none of with an empty page", async () => {
    const page = await cf.get("/v3/service_offerings?names=a,b");
    expect([page.pagination.total_results, page.resources]).toEqual([0, []]);
  });

  it("leave events, newest first when asked", async () => {
    const app = await cf.app("evented");
    await cf.post(`/v3/apps/${app}/actions/stop`, {});
    const types = async (query: string) =>
      ((await cf.get(`/v3/audit_events?${query}`)).resources as Shown[]).map((event) => event.type);
    expect(await types(`target_guids=${app}`)).toEqual([
      "audit.app.create",
      "audit.app.droplet.mapped",
      "audit.app.process.scale",
      "audit.app.start",
      "audit.app.stop",
    ]);
    expect(await types(`target_guids[not]=${app}&types=audit.app.stop`)).toEqual([]);
    const [event] = (await cf.get(`/v3/audit_events?types=audit.app.stop&order_by=-created_at`)).resources;
    expect(event).toMatchObject({
      actor: { type: "user", name: "admin" },
      target: { guid: app, type: "app", name: "evented" },
      space: { guid: cf.spaceGuid },
      organization: { guid: cf.organizationGuid },
    });
    expect(event.updated_at).toBe(event.created_at);
  });
});
