import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  type EmulatedFoundation,
  type Shown,
  startEmulatedFoundation,
} from "../../../test/support/emulated-foundation.js";
import { DEFAULT_ROUTER_GROUP } from "../routing-api/router-groups.js";

describe("routes", () => {
  let cf: EmulatedFoundation;
  let spaceOnly: { space: { data: { guid: string } } };
  const unprocessable = (detail: string) => `422 CF-UnprocessableEntity: ${detail}`;
  const urls = (page: Shown): string[] => page.resources.map((one) => one.url);

  beforeAll(async () => {
    cf = await startEmulatedFoundation();
    spaceOnly = { space: { data: { guid: cf.spaceGuid } } };
    await cf.post("/v3/domains", { name: "apps.internal", internal: true });
    await cf.post("/v3/domains", { name: "tcp.example.test", router_group: { guid: DEFAULT_ROUTER_GROUP.guid } });
  });
  afterAll(() => cf.close());

  async function on(domain: string): Promise<object> {
    return { relationships: { ...spaceOnly, domain: { data: { guid: await cf.domainGuid(domain) } } } };
  }

  it("are shown with url, destinations, options and links", async () => {
    const created = await cf.route("shop", { path: "/cart", metadata: { labels: { team: "web" } } });
    const { apiUrl } = cf.foundation;
    expect(created).toEqual({
      guid: created.guid,
      created_at: "2026-03-01T12:00:00Z",
      updated_at: "2026-03-01T12:00:00Z",
      protocol: "http",
      host: "shop",
      path: "/cart",
      port: null,
      url: "shop.apps.example.test/cart",
      destinations: [],
      options: {},
      metadata: { labels: { team: "web" }, annotations: {} },
      relationships: { ...spaceOnly, domain: { data: { guid: await cf.domainGuid() } } },
      links: {
        self: { href: `${apiUrl}/v3/routes/${created.guid}` },
        space: { href: `${apiUrl}/v3/spaces/${cf.spaceGuid}` },
        destinations: { href: `${apiUrl}/v3/routes/${created.guid}/destinations` },
        domain: { href: `${apiUrl}/v3/domains/${await cf.domainGuid()}` },
      },
    });
    expect(await cf.get(`/v3/routes/${created.guid}`)).toEqual(created);
  });

  it.each([
    ["cf-mesh/timeout", "annotation key error: prefix 'cf-mesh' must be in valid dns format"],
    ["a.example.com/b/c", "annotation key error: key has more than one '/'"],
    ["/timeout", "annotation key error: prefix cannot be empty"],
    ["cloudfoundry.org/timeout", "annotation key error: prefix 'cloudfoundry.org' is reserved"],
    ["cf-mesh.local/", "annotation key error: key cannot be empty string"],
    ["time out", "annotation key error: 'time out' contains invalid characters"],
    ["timeout-", "annotation key error: 'timeout-' starts or ends with invalid characters"],
    ["x".repeat(64), "annotation key error: 'xxxxxxxx...' is greater than 63 characters"],
  ])("take no annotation with the key %s", async (key, problem) => {
    const { guid } = await cf.route(`annotated-${Buffer.from(key).toString("hex").slice(0, 40)}`);
    const metadata = { annotations: { [key]: "1s", "cf-mesh.local/timeout": "1s" } };
    expect(await cf.refusal("PATCH", `/v3/routes/${guid}`, { metadata })).toContain(problem);
    expect(await cf.get(`/v3/routes/${guid}`)).toMatchObject({ metadata: { labels: {}, annotations: {} } });
  });

  it("are filtered by host, path and domain, where an empty value means none", async () => {
    await cf.route("shelf");
    await cf.route("shelf", { path: "/top" });
    const domain = await cf.domainGuid();
    expect(urls(await cf.get(`/v3/routes?domain_guids=${domain}&hosts=shelf&paths=`))).toEqual([
      "shelf.apps.example.test",
    ]);
    expect(urls(await cf.get("/v3/routes?hosts=shelf&paths=/top"))).toEqual(["shelf.apps.example.test/top"]);
    expect(urls(await cf.get("/v3/routes?hosts=shelf&service_instance_guids=x"))).toEqual([]);
    expect(urls(await cf.get(`/v3/routes?hosts=shelf&organization_guids=${cf.organizationGuid}`))).toHaveLength(2);
  });

  it("bring domain, space and organization along when asked", async () => {
    const { guid } = await cf.route("included");
    const { included } = await cf.get("/v3/routes?hosts=included&include=domain,space.organization");
    expect(included.domains.map((one) => one.name)).toEqual(["apps.example.test"]);
    expect(included.spaces.map((one) => one.name)).toEqual(["dev"]);
    expect(included.organizations.map((one) => one.name)).toEqual(["laptop"]);
    expect((await cf.get(`/v3/routes/${guid}?include=space`)).included.spaces).toHaveLength(1);
    expect(await cf.refusal("GET", "/v3/routes?include=moon")).toContain(
      "Invalid included resource: 'moon'. Valid included resources are: 'domain', 'space', 'space.organization'",
    );
  });

  it("have no host, but a port, on TCP domains, which finds a free one itself", async () => {
    const first = await cf.post("/v3/routes", await on("tcp.example.test"));
    const second = await cf.post("/v3/routes", await on("tcp.example.test"));
    expect([first.url, second.url]).toEqual(["tcp.example.test:1024", "tcp.example.test:1025"]);
    expect(first.protocol).toBe("tcp");
  });

  it("lie directly on a private domain", async () => {
    const organization = { data: { guid: cf.organizationGuid } };
    await cf.post("/v3/domains", { name: "private.test", relationships: { organization } });
    expect((await cf.post("/v3/routes", await on("private.test"))).url).toBe("private.test");
  });

  it("are told apart by path, and conflict without", async () => {
    await cf.route("twin");
    await cf.route("twin", { path: "/p" });
    expect(await cf.refusal("POST", "/v3/routes", { host: "twin", ...(await on("apps.example.test")) })).toBe(
      unprocessable("Route already exists with host 'twin' for domain 'apps.example.test'."),
    );
    expect(
      await cf.refusal("POST", "/v3/routes", { host: "twin", path: "/p", ...(await on("apps.example.test")) }),
    ).toBe(unprocessable("Route already exists with host 'twin' and path '/p' for domain 'apps.example.test'."));
  });

  it("belong to one space for each host of a shared domain", async () => {
    await cf.route("owned");
    const organization = { data: { guid: cf.organizationGuid } };
    const other = await cf.post("/v3/spaces", { name: "other", relationships: { organization } });
    const relationships = { space: { data: { guid: other.guid } }, domain: { data: { guid: await cf.domainGuid() } } };
    expect(await cf.refusal("POST", "/v3/routes", { host: "owned", path: "/mine", relationships })).toContain(
      "Route already exists with host 'owned'",
    );
  });

  it.each([
    ["apps.example.test", {}, "Missing host. Routes in shared domains must have a host defined."],
    ["apps.example.test", { host: "x", port: 80 }, "Routes with protocol 'http' do not support ports."],
    ["apps.internal", { host: "*" }, "Wildcard hosts are not supported for internal domains."],
    ["apps.internal", { host: "x", path: "/p" }, "Paths are not supported for internal domains."],
    ["tcp.example.test", { host: "x" }, "Hosts are not supported for TCP routes."],
    ["tcp.example.test", { path: "/p" }, "Paths are not supported for TCP routes."],
    [
      "apps.example.test",
      { host: "a.b" },
      'Host must be either "*" or contain only alphanumeric characters, "_", or "-"',
    ],
    ["apps.example.test", { host: "x", path: "p" }, "Path must begin with /"],
    ["apps.example.test", { host: "x", path: "/" }, "Path cannot be exactly /"],
    ["apps.example.test", { host: "x", path: "/p?q" }, "Path cannot contain ?"],
    ["apps.example.test", { host: "x", colour: "red" }, "Unknown field(s): 'colour'"],
  ])("are refused on %s with %j", async (domain, fields, problem) => {
    expect(await cf.refusal("POST", "/v3/routes", { ...fields, ...(await on(domain)) })).toBe(unprocessable(problem));
  });

  it("are refused where a port is taken, by this domain or another of its router group", async () => {
    await cf.post("/v3/domains", { name: "tcp2.example.test", router_group: { guid: DEFAULT_ROUTER_GROUP.guid } });
    await cf.post("/v3/routes", { port: 1100, ...(await on("tcp.example.test")) });
    expect(await cf.refusal("POST", "/v3/routes", { port: 1100, ...(await on("tcp.example.test")) })).toBe(
      unprocessable("Route already exists with port '1100' for domain 'tcp.example.test'."),
    );
    expect(await cf.refusal("POST", "/v3/routes", { port: 1100, ...(await on("tcp2.example.test")) })).toBe(
      unprocessable("Port '1100' is not available. Try a different port or use a different domain."),
    );
  });

  it("are refused without a known space and domain, and where a domain has the name", async () => {
    const none = { data: { guid: "none" } };
    const domain = { data: { guid: await cf.domainGuid() } };
    expect(await cf.refusal("POST", "/v3/routes", { host: "x", relationships: { space: none, domain } })).toBe(
      unprocessable("Invalid space. Ensure that the space exists and you have access to it."),
    );
    const relationships = { ...spaceOnly, domain: none };
    expect(await cf.refusal("POST", "/v3/routes", { host: "x", relationships })).toBe(
      unprocessable("Invalid domain. Ensure that the domain exists and you have access to it."),
    );
    expect(await cf.refusal("POST", "/v3/routes", { host: "x" })).toBe(unprocessable("Relationships can't be blank"));
    await cf.post("/v3/domains", { name: "taken.apps.example.test" });
    expect(await cf.refusal("POST", "/v3/routes", { host: "taken", ...(await on("apps.example.test")) })).toBe(
      unprocessable("Route conflicts with domain 'taken.apps.example.test'."),
    );
  });

  it("are deleted by a job that is complete at once, and unmapped", async () => {
    const app = await cf.app("deleted-route");
    const { guid } = await cf.route("gone");
    await cf.post(`/v3/routes/${guid}/destinations`, { destinations: [{ app: { guid: app } }] });
    const answer = await cf.call("DELETE", `/v3/routes/${guid}`);
    expect(answer.status).toBe(202);
    const job = await cf.get(new URL(answer.headers.get("location") ?? "").pathname);
    expect(job).toMatchObject({ operation: "route.delete", state: "COMPLETE", errors: [], warnings: [] });
    expect(await cf.refusal("GET", `/v3/routes/${guid}`)).toBe("404 CF-ResourceNotFound: Route not found");
    expect(cf.diego.processOf(app).routes["cf-router"]).toEqual([]);
  });

  it("are deleted by space when nothing is mapped to them", async () => {
    const app = await cf.app("keeps-route");
    const kept = await cf.route("kept");
    await cf.post(`/v3/routes/${kept.guid}/destinations`, { destinations: [{ app: { guid: app } }] });
    await cf.route("orphan");
    expect((await cf.call("DELETE", `/v3/spaces/${cf.spaceGuid}/routes?unmapped=true`)).status).toBe(202);
    expect(urls(await cf.get("/v3/routes?hosts=orphan,kept"))).toEqual(["kept.apps.example.test"]);
    expect(await cf.refusal("DELETE", `/v3/spaces/${cf.spaceGuid}/routes`)).toContain("Use 'unmapped=true'");
  });

  it("answer whether an address is reserved", async () => {
    await cf.route("reserved", { path: "/p" });
    const path = `/v3/domains/${await cf.domainGuid()}/route_reservations`;
    expect(await cf.get(`${path}?host=reserved&path=/p`)).toEqual({ matching_route: true });
    expect(await cf.get(`${path}?host=reserved`)).toEqual({ matching_route: false });
  });

  it("are listed by app", async () => {
    const app = await cf.app("has-routes");
    const { guid } = await cf.route("of-app");
    await cf.route("of-nobody");
    await cf.post(`/v3/routes/${guid}/destinations`, { destinations: [{ app: { guid: app } }] });
    expect(urls(await cf.get(`/v3/apps/${app}/routes`))).toEqual(["of-app.apps.example.test"]);
    expect(urls(await cf.get(`/v3/routes?app_guids=${app}`))).toEqual(["of-app.apps.example.test"]);
    expect(await cf.refusal("GET", "/v3/apps/none/routes")).toBe("404 CF-ResourceNotFound: App not found");
  });

  it("are read from bodies of any content type, and not from what is no JSON object", async () => {
    const body = JSON.stringify({ host: "curl", ...(await on("apps.example.test")) });
    const form = { "content-type": "application/x-www-form-urlencoded" };
    expect((await cf.call("POST", "/v3/routes", body, form)).status).toBe(201);
    expect(await cf.refusal("POST", "/v3/routes", "{")).toBe(
      "400 CF-MessageParseError: Request invalid due to parse error: invalid request body",
    );
  });

  describe("with options", () => {
    const refused = async (options: unknown) =>
      cf.refusal("POST", "/v3/routes", { host: "no", options, ...(await on("apps.example.test")) });

    it("merge them, and delete those that are null", async () => {
      const { guid, options } = await cf.route("merged", { options: { loadbalancing: "round-robin" } });
      expect(options).toEqual({ loadbalancing: "round-robin" });
      cf.clock.forward(5);
      const changed = await cf.patch(`/v3/routes/${guid}`, { options: { loadbalancing: "least-connection" } });
      expect(changed.options).toEqual({ loadbalancing: "least-connection" });
      expect(changed.updated_at).not.toBe(changed.created_at);
      expect((await cf.patch(`/v3/routes/${guid}`, { options: { loadbalancing: null } })).options).toEqual({});
    });

    it("hash by a header only while the feature flag is on", async () => {
      expect(await refused({ loadbalancing: "hash", hash_header: "X-User" })).toBe(
        unprocessable("Options Loadbalancing must be one of 'round-robin, least-connection' if present"),
      );
      await cf.patch("/v3/feature_flags/hash_based_routing", { enabled: true });
      const options = { loadbalancing: "hash", hash_header: "X-User", hash_balance: 1.25 };
      const { guid, ...route } = await cf.route("hashed", { options });
      expect(route.options).toEqual({ loadbalancing: "hash", hash_header: "X-User", hash_balance: "1.3" });
      expect(await refused({ loadbalancing: "hash" })).toBe(
        unprocessable("Options Hash header must be present when loadbalancing is set to hash."),
      );
      expect(await refused({ loadbalancing: "hash", hash_header: "X", hash_balance: 1 })).toBe(
        unprocessable("Options Hash balance must be either 0 or between 1.1 and 10.0"),
      );
      const switched = await cf.patch(`/v3/routes/${guid}`, { options: { loadbalancing: "round-robin" } });
      expect(switched.options).toEqual({ loadbalancing: "round-robin" });
      await cf.patch("/v3/feature_flags/hash_based_routing", { enabled: false });
    });

    it("refuse what is no option, and hash keys without hash", async () => {
      expect(await refused({ colour: "red" })).toBe(unprocessable("Options Unknown field(s): 'colour'"));
      expect(await refused({ hash_header: "X" })).toBe(
        unprocessable("Options Hash header can only be set when loadbalancing is hash"),
      );
      expect(await refused("none")).toBe(unprocessable("Options 'options' is not a valid object"));
    });

    it("reach Diego as they are", async () => {
      const app = await cf.app("optioned");
      const { guid } = await cf.route("optioned");
      await cf.post(`/v3/routes/${guid}/destinations`, { destinations: [{ app: { guid: app } }] });
      await cf.patch(`/v3/routes/${guid}`, { options: { loadbalancing: "least-connection" } });
      expect(cf.diego.processOf(app).routes["cf-router"]).toEqual([
        {
          hostnames: ["optioned.apps.example.test"],
          port: 8080,
          route_service_url: null,
          isolation_segment: null,
          protocol: "http1",
          options: { loadbalancing: "least-connection" },
        },
      ]);
    });
  });
});
