import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import {
  type EmulatedFoundation,
  type Shown,
  startEmulatedFoundation,
} from "../../../test/support/emulated-foundation.js";
import { DEFAULT_ROUTER_GROUP } from "../routing-api/router-groups.js";

describe("destinations", () => {
  let cf: EmulatedFoundation;
  let blue: string;
  let green: string;
  let path: string;
  let routeGuid: string;
  let routeCount = 0;
  const unprocessable = (detail: string) => `422 CF-UnprocessableEntity: ${detail}`;
  const to = (guid: string, more: object = {}) => ({ app: { guid }, ...more });

  beforeAll(async () => {
    cf = await startEmulatedFoundation();
    blue = await cf.app("blue");
    green = await cf.app("green");
  });
  afterAll(() => cf.close());
  beforeEach(async () => {
    routeCount += 1;
    routeGuid = (await cf.route(`route-${routeCount}`)).guid;
    path = `/v3/routes/${routeGuid}/destinations`;
  });

  async function replace(...destinations: object[]): Promise<Shown["destinations"]> {
    return (await cf.patch(path, { destinations })).destinations;
  }
  async function destinationOf(app: string): Promise<Shown> {
    const { destinations } = await cf.get(`/v3/routes/${routeGuid}`);
    const found = destinations.find((one) => one.app.guid === app);
    if (found === undefined) throw new Error(`no destination leads to ${app}`);
    return found;
  }

  it("are inserted with their defaults, and listed by filters", async () => {
    const answer = await cf.post(path, { destinations: [to(blue), to(green, { port: 9000, protocol: "http2" })] });
    expect(answer.links).toEqual({
      self: { href: `${cf.foundation.apiUrl}${path}` },
      route: { href: `${cf.foundation.apiUrl}/v3/routes/${routeGuid}` },
    });
    expect(await destinationOf(blue)).toMatchObject({
      app: { guid: blue, process: { type: "web" } },
      weight: null,
      port: 8080,
      protocol: "http1",
    });
    expect((await cf.get(`${path}?app_guids=${green}`)).destinations).toEqual([await destinationOf(green)]);
    expect(await cf.refusal("GET", `${path}?colour=red`)).toContain("Unknown query parameter(s): 'colour'");
  });

  it("stay as they are when inserted again", async () => {
    await cf.post(path, { destinations: [to(blue)] });
    const before = await destinationOf(blue);
    await cf.post(path, { destinations: [to(blue), to(green)] });
    expect(await destinationOf(blue)).toEqual(before);
    expect((await cf.get(path)).destinations).toHaveLength(2);
  });

  it("get a new guid when their weight changes, and keep it when it does not", async () => {
    await replace(to(blue, { weight: 10 }), to(green, { weight: 90 }));
    const before = await destinationOf(blue);
    await replace(to(blue, { weight: 20 }), to(green, { weight: 80 }));
    const after = await destinationOf(blue);
    expect(after.weight).toBe(20);
    expect(after.guid).not.toBe(before.guid);
    await replace(to(blue, { weight: 20 }), to(green, { weight: 80 }));
    expect((await destinationOf(blue)).guid).toBe(after.guid);
  });

  it("move the updated_at of the processes they lead to, and not the route's", async () => {
    cf.clock.forward(60);
    const route = await cf.get(`/v3/routes/${routeGuid}`);
    cf.clock.forward(60);
    await replace(to(blue, { weight: 100 }));
    expect((await cf.get(`/v3/routes/${routeGuid}`)).updated_at).toBe(route.updated_at);
    const process = await cf.get(`/v3/processes/${blue}`);
    expect(Date.parse(process.updated_at)).toBe(cf.clock.nowMs);
    expect(cf.diego.processOf(blue).annotation).toBe(`${cf.clock.nowMs / 1000}.0`);
  });

  it("leave events of mapping and unmapping", async () => {
    await replace(to(blue, { weight: 100 }));
    const destination = await destinationOf(blue);
    await replace();
    const events = async (type: string) =>
      ((await cf.get(`/v3/audit_events?types=${type}&target_guids=${blue}`)).resources as Shown[])
        .map((event) => event.data)
        .filter((data) => data.route_guid === routeGuid);
    const data = {
      route_guid: routeGuid,
      app_port: 8080,
      route_mapping_guid: destination.guid,
      destination_guid: destination.guid,
      process_type: "web",
      weight: 100,
      protocol: "http1",
    };
    expect(await events("audit.app.map-route")).toEqual([data]);
    expect(await events("audit.app.unmap-route")).toEqual([data]);
  });

  it("reach Diego as routes without weights", async () => {
    await replace(to(blue, { weight: 30, protocol: "http2", port: 9000 }), to(green, { weight: 70 }));
    const routes = cf.diego.processOf(blue).routes["cf-router"] as Shown[];
    expect(routes.find((one) => one.hostnames[0] === `route-${routeCount}.apps.example.test`)).toEqual({
      hostnames: [`route-${routeCount}.apps.example.test`],
      port: 9000,
      route_service_url: null,
      isolation_segment: null,
      protocol: "http2",
    });
    expect(cf.diego.processOf(blue).ports).toContain(9000);
    await replace();
    expect(JSON.stringify(cf.diego.processOf(blue).routes)).not.toContain(`route-${routeCount}.`);
    expect(cf.diego.processOf(blue).ports).not.toContain(9000);
  });

  it("reach Diego as internal and TCP routes on such domains", async () => {
    const internal = await cf.post("/v3/domains", { name: `in${routeCount}.internal`, internal: true });
    const tcp = await cf.post("/v3/domains", {
      name: `tcp${routeCount}.test`,
      router_group: { guid: DEFAULT_ROUTER_GROUP.guid },
    });
    for (const [domain, host] of [
      [internal.guid, "backend"],
      [tcp.guid, ""],
    ]) {
      const relationships = { space: { data: { guid: cf.spaceGuid } }, domain: { data: { guid: domain } } };
      const { guid } = await cf.post("/v3/routes", { host, relationships });
      await cf.post(`/v3/routes/${guid}/destinations`, { destinations: [to(green)] });
    }
    const { routes } = cf.diego.processOf(green);
    expect(routes["internal-router"]).toEqual([{ hostname: `backend.in${routeCount}.internal` }]);
    expect(routes["tcp-router"]).toEqual([
      { router_group_guid: DEFAULT_ROUTER_GROUP.guid, external_port: 1024, container_port: 8080 },
    ]);
  });

  it("change their protocol in place", async () => {
    await cf.post(path, { destinations: [to(blue)] });
    const { guid } = await destinationOf(blue);
    const changed = await cf.patch(`${path}/${guid}`, { protocol: "http2" });
    expect(changed).toMatchObject({ guid, protocol: "http2" });
    expect(Object.keys(changed.links as object)).toEqual(["destinations", "route"]);
    expect((await cf.patch(`${path}/${guid}`, { protocol: null })).protocol).toBe("http1");
    expect(await cf.refusal("PATCH", `${path}/${guid}`, { protocol: "h3" })).toBe(
      unprocessable("Protocol must be 'http1', 'http2' or 'tcp'."),
    );
    expect(await cf.refusal("PATCH", `${path}/${guid}`, { protocol: "tcp" })).toBe(
      unprocessable("Cannot use 'tcp' protocol for http routes; valid options are: [http1, http2]."),
    );
  });

  it("are deleted one by one, unless they are weighted", async () => {
    await cf.post(path, { destinations: [to(blue)] });
    const { guid } = await destinationOf(blue);
    expect((await cf.call("DELETE", `${path}/${guid}`)).status).toBe(204);
    expect((await cf.get(path)).destinations).toEqual([]);
    expect(await cf.refusal("DELETE", `${path}/${guid}`)).toBe(
      unprocessable("Unable to unmap route from destination. Ensure the route has a destination with this guid."),
    );
    const [weighted] = await replace(to(blue, { weight: 100 }));
    expect(await cf.refusal("DELETE", `${path}/${weighted.guid}`)).toBe(
      unprocessable("Weighted destinations cannot be deleted individually."),
    );
  });

  it("are inserted neither with weights, nor beside weighted ones", async () => {
    expect(await cf.refusal("POST", path, { destinations: [to(blue, { weight: 100 })] })).toBe(
      unprocessable("Destinations[0]: weighted destinations can only be used when replacing all destinations."),
    );
    await replace(to(blue, { weight: 100 }));
    expect(await cf.refusal("POST", path, { destinations: [to(green)] })).toBe(
      unprocessable("Destinations cannot be inserted when there are weighted destinations already configured."),
    );
  });

  it("refuse another protocol for what is mapped already", async () => {
    await cf.post(path, { destinations: [to(blue)] });
    expect(await cf.refusal("POST", path, { destinations: [to(blue, { protocol: "http2" })] })).toBe(
      unprocessable(
        `Cannot add destination with protocol: http2. Destination already exists for route: ` +
          `route-${routeCount}.apps.example.test, app: ${blue}, process: web, and protocol: http1.`,
      ),
    );
  });

  it("must lie in the route's space, and exist", async () => {
    const organization = { data: { guid: cf.organizationGuid } };
    const space = await cf.post("/v3/spaces", { name: `space-${routeCount}`, relationships: { organization } });
    const relationships = { space: { data: { guid: space.guid } } };
    const { guid } = await cf.post("/v3/apps", { name: "elsewhere", relationships });
    expect(await cf.refusal("POST", path, { destinations: [to(guid)] })).toBe(
      unprocessable("Routes destinations must be in either the route's space or the route's shared spaces"),
    );
    expect(await cf.refusal("POST", path, { destinations: [to("none"), to("nil")] })).toBe(
      unprocessable('App(s) with guid(s) "none", "nil" do not exist.'),
    );
  });

  it("may lead to a process type that the app does not have", async () => {
    const [destination] = await replace({ app: { guid: blue, process: { type: "worker" } } });
    expect(destination.app.process.type).toBe("worker");
    expect(JSON.stringify(cf.diego.processOf(blue).routes)).not.toContain(`route-${routeCount}.`);
  });

  it.each([
    ["an empty insert", "POST", [], "Destinations must be an array containing between 1 and 100 destination objects."],
    ["no array", "PATCH", "x", "Destinations must be an array containing between 0 and 100 destination objects."],
    ["a text", "PATCH", ["x"], "Destinations[0]: must be an object."],
    ["no app", "PATCH", [{ port: 8080 }], 'Destinations[0]: must have an "app".'],
    [
      "other keys",
      "PATCH",
      [{ app: { guid: "BLUE" }, colour: "red" }],
      'Destinations[0]: must have only "app" and optionally "weight", "port" or "protocol".',
    ],
    [
      "an app without guid",
      "PATCH",
      [{ app: {} }],
      'Destinations[0]: app must have the structure {"guid": "app_guid"}',
    ],
    [
      "a process without type",
      "PATCH",
      [{ app: { guid: "BLUE", process: {} } }],
      'Destinations[0]: process must have the structure {"type": "process_type"}',
    ],
    [
      "a weight of 0",
      "PATCH",
      [{ app: { guid: "BLUE" }, weight: 0 }],
      "Destinations[0]: weight must be a positive integer between 1 and 100.",
    ],
    [
      "a weight of 101",
      "PATCH",
      [{ app: { guid: "GREEN" } }, { app: { guid: "BLUE" }, weight: 101 }],
      "Destinations[1]: weight must be a positive integer between 1 and 100.",
    ],
    [
      "a port of 80",
      "PATCH",
      [{ app: { guid: "BLUE" }, port: 80 }],
      "Destinations[0]: port must be a positive integer between 1024 and 65535 inclusive.",
    ],
    [
      "an unknown protocol",
      "PATCH",
      [{ app: { guid: "BLUE" }, protocol: "h3" }],
      "Destinations[0]: protocol must be 'http1', 'http2' or 'tcp'.",
    ],
    [
      "the protocol of another kind of route",
      "PATCH",
      [{ app: { guid: "BLUE" }, protocol: "tcp" }],
      "Cannot use 'tcp' protocol for http routes; valid options are: [http1, http2].",
    ],
    [
      "some weights",
      "PATCH",
      [{ app: { guid: "BLUE" }, weight: 100 }, { app: { guid: "GREEN" } }],
      "Destinations cannot contain both weighted and unweighted destinations.",
    ],
    [
      "weights of 1 and 9",
      "PATCH",
      [
        { app: { guid: "BLUE" }, weight: 1 },
        { app: { guid: "GREEN" }, weight: 9 },
      ],
      "Destinations must have weights that sum to 100.",
    ],
    [
      "the same twice",
      "PATCH",
      [{ app: { guid: "BLUE" } }, { app: { guid: "BLUE" }, port: 8080 }],
      "Destinations cannot contain duplicate entries",
    ],
    [
      "eleven ports of one app",
      "PATCH",
      Array.from({ length: 11 }, (_, index) => ({ app: { guid: "BLUE" }, port: 2000 + index })),
      "Process must have at most 10 exposed ports.",
    ],
  ])("are refused with %s", async (_case, method, destinations, problem) => {
    const named = JSON.stringify({ destinations }).replaceAll("BLUE", blue).replaceAll("GREEN", green);
    expect(await cf.refusal(method, path, named)).toBe(unprocessable(problem));
  });

  it("are at most 100 to a route", async () => {
    const types = Array.from({ length: 100 }, (_, index) => ({ app: { guid: blue, process: { type: `t${index}` } } }));
    await replace(...types);
    expect(await cf.refusal("POST", path, { destinations: [to(green)] })).toBe(
      unprocessable("Routes can be mapped to at most 100 destinations."),
    );
  });
});
