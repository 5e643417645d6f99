import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  APP_DOMAIN,
  type EmulatedFoundation,
  startEmulatedFoundation,
} from "../../../test/support/emulated-foundation.js";

describe("manifests", () => {
  let cf: EmulatedFoundation;
  beforeAll(async () => {
    cf = await startEmulatedFoundation();
  });
  afterAll(() => cf.close());

  const send = (path: string, yaml: string) =>
    cf.call("POST", `/v3/spaces/${cf.spaceGuid}/${path}`, yaml, { "content-type": "application/x-yaml" });
  async function apply(yaml: string) {
    const answer = await send("actions/apply_manifest", yaml);
    if (answer.status !== 202) return { state: "REFUSED", errors: answer.body.errors.map(({ detail }) => detail) };
    const job = await cf.get(new URL(answer.headers.get("location") ?? "").pathname);
    return { state: job.state, errors: job.errors.map(({ detail }) => detail) };
  }
  const diff = async (yaml: string) =>
    (JSON.parse((await send("manifest_diff", yaml)).text) as { diff: { op: string; path: string }[] }).diff;
  const applied = { state: "COMPLETE", errors: [] };
  const appNamed = async (name: string) => (await cf.get(`/v3/apps?names=${name}`)).resources[0];
  const urlsOf = async (guid: string) => (await cf.get(`/v3/apps/${guid}/routes`)).resources.map(({ url }) => url);

  it("make apps with processes, environment, routes and labels, and change what is there", async () => {
    const manifest = `
applications:
- name: made
  memory: 1G
  instances: 2
  disk_quota: 512MB
  log-rate-limit-per-second: 1K
  command: ./serve
  health-check-type: http
  health-check-http-endpoint: /health
  timeout: 90
  buildpack: go_buildpack
  env: { NUMBER: 1, FLAG: true, NESTED: { a: [1] } }
  metadata: { labels: { team: blue } }
  processes: [{ type: worker, memory: 64M, command: ./work }]
  routes:
  - route: made.${APP_DOMAIN}/cart
  - { route: "h2.${APP_DOMAIN}", protocol: http2, options: { loadbalancing: least-connection } }
`;
    expect(await apply(manifest)).toEqual(applied);
    const app = await appNamed("made");
    expect(app).toMatchObject({
      state: "STOPPED",
      lifecycle: { data: { buildpacks: ["go_buildpack"] } },
      metadata: { labels: { team: "blue" } },
    });
    const processes = (await cf.get(`/v3/apps/${app.guid}/processes`)).resources;
    expect(processes).toMatchObject([
      {
        type: "web",
        instances: 2,
        memory_in_mb: 1024,
        disk_in_mb: 512,
        log_rate_limit_in_bytes_per_second: 1024,
        health_check: { type: "http", data: { endpoint: "/health", timeout: 90 } },
      },
      { type: "worker", instances: 0, memory_in_mb: 64, health_check: { type: "process" } },
    ]);
    expect(await cf.get(`/v3/apps/${app.guid}/environment_variables`)).toMatchObject({
      var: { NUMBER: "1", FLAG: "true", NESTED: '{"a":[1]}' },
    });
    expect((await urlsOf(app.guid)).sort()).toEqual([`h2.${APP_DOMAIN}`, `made.${APP_DOMAIN}/cart`]);
    const [h2] = (await cf.get("/v3/routes?hosts=h2")).resources;
    expect([h2.options, h2.destinations[0].protocol]).toEqual([{ loadbalancing: "least-connection" }, "http2"]);

    expect(await diff(manifest)).toEqual([]);
    expect(await apply("applications: [{ name: made, memory: 2G, command: null, no-route: true }]")).toEqual(applied);
    expect(await cf.get(`/v3/processes/${app.guid}`)).toMatchObject({
      memory_in_mb: 2048,
      instances: 2,
      command: null,
    });
    expect(await urlsOf(app.guid)).toEqual([]);
    expect((await cf.get("/v3/routes?hosts=h2")).resources).toHaveLength(1);
  });

  it("give an app a default or random route, when it has none", async () => {
    expect(await apply("applications: [{ name: by-default, default-route: true }]")).toEqual(applied);
    expect(await apply("applications: [{ name: at-random, random-route: true }]")).toEqual(applied);
    expect(await urlsOf((await appNamed("by-default")).guid)).toEqual([`by-default.${APP_DOMAIN}`]);
    const random = await urlsOf((await appNamed("at-random")).guid);
    expect(random).toEqual([expect.stringMatching(/^at-random-[0-9a-f]{8}\./)]);
    expect(await apply("applications: [{ name: at-random, random-route: true }]")).toEqual(applied);
    expect(await urlsOf((await appNamed("at-random")).guid)).toEqual(random);
  });

  it("are shown, and differ in nothing from what they were made of", async () => {
    await apply("applications: [{ name: shown, memory: 1G, env: { A: 1 }, instances: 3, default-route: true }]");
    const { guid } = await appNamed("shown");
    const { text } = await cf.call("GET", `/v3/apps/${guid}/manifest`);
    expect(text).toContain("memory: 1024M");
    expect(await diff(text)).toEqual([]);
  });

  it("tell their differences as JSON Patch", async () => {
    await apply("applications: [{ name: differing, memory: 1G, env: { A: 1, B: 2 }, default-route: true }]");
    const changed = `
applications:
- name: differing
  memory: 1024M
  instances: 5
  env: { A: 3, "C/D": x }
  routes: [{ route: "new.${APP_DOMAIN}" }]
- { name: brand-new, memory: 64M }
`;
    expect(await diff(changed)).toEqual([
      { op: "replace", path: "/applications/0/instances", was: 1, value: 5 },
      { op: "remove", path: "/applications/0/env/B", was: "2" },
      { op: "replace", path: "/applications/0/env/A", was: "1", value: "3" },
      { op: "add", path: "/applications/0/env/C~1D", value: "x" },
      { op: "add", path: "/applications/0/routes/0", value: { route: `new.${APP_DOMAIN}` } },
      { op: "add", path: "/applications/1/name", value: "brand-new" },
      { op: "add", path: "/applications/1/memory", value: "64M" },
    ]);
  });

  it.each<[string, string, string[]]>([
    [
      "memory without a unit",
      "{ name: a, memory: 64 }",
      ['Process "web": Memory must use a supported unit: B, K, KB, M, MB, G, GB, T, or TB'],
    ],
    ["memory that is no number", "{ name: a, memory: lots }", ['Process "web": Memory is not a number']],
    ["no memory at all", "{ name: a, memory: 0M }", ['Process "web": Memory must be greater than 0MB']],
    [
      "two problems",
      "{ name: a, instances: -1, buildpacks: [nope] }",
      [
        'Process "web": Instances must be greater than or equal to 0',
        'Buildpack "nope" must be an existing admin buildpack or a valid git URI',
      ],
    ],
    ["processes without types", "{ name: a, processes: [{ instances: 1 }] }", ["All Processes must specify a type"]],
    ["a process twice", "{ name: a, processes: [{ type: w }, { type: w }] }", ['Process "w" may only be present once']],
    [
      "routes and no-route",
      "{ name: a, no-route: true, routes: [{ route: a.b }] }",
      ["Cannot use the combination of properties: no-route, routes"],
    ],
    [
      "a route that is none",
      "{ name: a, routes: [{ route: 'x y' }] }",
      ["The route 'x y' is not a properly formed URL"],
    ],
    ["an environment that is a list", "{ name: a, env: [1] }", ["Env must be an object of keys and values"]],
    ["reserved variables", "{ name: a, env: { PORT: 1 } }", ["Env cannot set PORT"]],
    [
      "both fields of buildpacks",
      "{ name: a, buildpack: go_buildpack, buildpacks: [] }",
      ["Buildpack and Buildpacks fields cannot be used together."],
    ],
    ["docker", "{ name: a, docker: { image: x } }", ["Docker support has not been enabled."]],
  ])("refuse %s", async (_what, app, problems) => {
    const errors = problems.map((problem) => `For application 'a': ${problem}`);
    const answer = await apply(`applications: [${app}]`);
    expect({ ...answer, errors: answer.errors.sort() }).toEqual({ state: "REFUSED", errors: errors.sort() });
    expect((await cf.get("/v3/apps?names=a")).resources).toEqual([]);
  });

  it("refuse what is no manifest", async () => {
    expect((await apply("applications: [")).errors[0]).toContain("parse error");
    expect((await apply("just: this")).errors).toEqual(["Invalid app manifest"]);
    expect((await apply("applications: {}")).errors[0]).toContain("must be an array");
    expect((await apply("applications: [{ memory: 1G }]")).errors).toEqual([
      "For application at index 0: Name must not be empty",
    ]);
  });

  it("fail as jobs where the foundation lacks what they name", async () => {
    const failed = (problem: string) => ({ state: "FAILED", errors: [`For application 'f': ${problem}`] });
    const unknown = "x.unknown.example.org";
    expect(await apply(`applications: [{ name: f, routes: [{ route: ${unknown} }] }]`)).toEqual(
      failed(`For route '${unknown}': No domains exist for route ${unknown}`),
    );
    expect(await apply("applications: [{ name: f, services: [db] }]")).toEqual(
      failed("Service instance 'db' not found"),
    );
    const other = await cf.post("/v3/spaces", {
      name: "elsewhere",
      relationships: { organization: { data: { guid: cf.organizationGuid } } },
    });
    await cf.post("/v3/routes", {
      host: "taken",
      relationships: { space: { data: { guid: other.guid } }, domain: { data: { guid: await cf.domainGuid() } } },
    });
    expect(await apply(`applications: [{ name: f, routes: [{ route: taken.${APP_DOMAIN} }] }]`)).toEqual(
      failed(`For route 'taken.${APP_DOMAIN}': Routes cannot be mapped to destinations in different spaces`),
    );
  });
});
