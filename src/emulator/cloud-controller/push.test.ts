import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  type EmulatedFoundation,
  type Shown,
  startEmulatedFoundation,
} from "../../../test/support/emulated-foundation.js";
import { zip } from "../../../test/support/zip.js";

const PROCFILE = zip([{ name: "Procfile", content: "web: ./serve\nworker: ./work\n" }]);

describe("pushing an app, as the CLI does", () => {
  let cf: EmulatedFoundation;
  let dataDirectory: string;
  beforeAll(async () => {
    dataDirectory = await mkdtemp(join(tmpdir(), "cf-mesh-push-"));
    cf = await startEmulatedFoundation({ dataDirectory });
  });
  afterAll(async () => {
    await cf.close();
    await rm(dataDirectory, { recursive: true, force: true });
  });

  const toApp = (guid: string) => ({ relationships: { app: { data: { guid } } } });
  const newApp = async (name: string) =>
    (await cf.post("/v3/apps", { name, relationships: { space: { data: { guid: cf.spaceGuid } } } })).guid;
  const newPackage = async (app: string) => (await cf.post("/v3/packages", { type: "bits", ...toApp(app) })).guid;

  async function upload(guid: string, bits: Buffer | undefined = PROCFILE) {
    const form = new FormData();
    form.set("resources", "[]");
    form.set("bits", new Blob([new Uint8Array(bits)]), "package.zip");
    const authorization = await cf.foundation.adminToken();
    const url = new URL(`/v3/packages/${guid}/upload`, cf.foundation.apiUrl);
    const response = await fetch(url, { method: "POST", headers: { authorization }, body: form });
    return { status: response.status, body: (await response.json()) as Shown };
  }
  async function uploaded(app: string, bits?: Buffer): Promise<string> {
    const guid = await newPackage(app);
    expect((await upload(guid, bits)).body.state).toBe("READY");
    return guid;
  }
  const build = (packageGuid: string) => cf.post("/v3/builds", { package: { guid: packageGuid } });
  async function ended(buildGuid: string) {
    let seen: unknown;
    await expect
      .poll(async () => {
        const answer = await cf.call("GET", `/v3/builds/${buildGuid}`);
        seen = JSON.parse(answer.text);
        return answer.body.state;
      })
      .not.toBe("STAGING");
    return seen as { state: string; error: string | null; droplet: { guid: string } | null };
  }
  async function staged(app: string): Promise<string> {
    const { guid } = await build(await uploaded(app));
    return (await ended(guid)).droplet?.guid ?? "";
  }

  it("goes from upload over package, build and droplet to processes that run", async () => {
    const app = await newApp("pushed");
    const guid = await newPackage(app);
    expect(await cf.get(`/v3/packages/${guid}`)).toMatchObject({ state: "AWAITING_UPLOAD", type: "bits" });
    expect((await cf.call("POST", "/v3/resource_matches", { resources: [{}] })).text).toBe('{"resources":[]}');
    const { status, body } = await upload(guid);
    expect([status, body]).toMatchObject([200, { state: "READY", data: { checksum: { type: "sha256" } } }]);
    const started = await build(guid);
    expect(started).toMatchObject({ state: "STAGING", package: { guid }, created_by: { name: "admin" } });
    const end = await ended(started.guid);
    expect(end).toMatchObject({ state: "STAGED", error: null });
    const droplet = end.droplet?.guid ?? "";
    expect(await cf.get(`/v3/droplets/${droplet}`)).toMatchObject({
      state: "STAGED",
      buildpacks: [{ name: "binary_buildpack" }],
      process_types: { web: "./serve", worker: "./work" },
    });
    await cf.patch(`/v3/apps/${app}/relationships/current_droplet`, { data: { guid: droplet } });
    await cf.post(`/v3/apps/${app}/actions/restart`, {});
    const processes = (await cf.get(`/v3/apps/${app}/processes`)).resources;
    expect(processes.map(({ type, instances }) => [type, instances])).toEqual([
      ["web", 1],
      ["worker", 0],
    ]);
    const desired = [...cf.diego.desired.values()].filter(({ appGuid }) => appGuid === app);
    expect(desired.map(({ command, ports }) => [command.at(-1), ports])).toEqual([
      ["./serve", [8080]],
      ["./work", []],
    ]);
    expect(existsSync(join(desired[0]?.workingDirectory ?? "", "Procfile"))).toBe(true);
    const logged = cf.diego.logs.recent(app).map(({ source, text }) => `${source} ${text}`);
    expect(logged).toContain("STG/0 -----> binary_buildpack");
  });

  it("takes the bits of a package once, and only where there are some", async () => {
    const app = await newApp("once");
    const guid = await uploaded(app);
    expect((await upload(guid)).body.errors[0].detail).toMatch(/^Bits may be uploaded only once/);
    const none = await newPackage(app);
    expect(await cf.refusal("POST", `/v3/packages/${none}/upload`, "x")).toContain("Upload must include");
    expect(await cf.refusal("POST", "/v3/builds", { package: { guid: none } })).toContain("state is not ready");
    expect(await cf.refusal("POST", "/v3/packages", { type: "docker", ...toApp(app) })).toContain("Docker support");
    expect(await cf.refusal("POST", "/v3/packages", { type: "bits", ...toApp("nobody") })).toContain("App is invalid");
    const copy = await cf.post(`/v3/packages?source_guid=${guid}`, toApp(await newApp("copied")));
    expect(copy.state).toBe("READY");
  });

  it("fails builds with words for the user, in the build and in the app's log", async () => {
    const app = await newApp("failing");
    const broken = await ended((await build(await uploaded(app, Buffer.from("no zip")))).guid);
    expect(broken).toMatchObject({ state: "FAILED", droplet: null });
    expect(broken.error).toMatch(/^StagingError - Staging error: the package can't be unpacked/);
    const readme = zip([{ name: "readme.md", content: "hi" }]);
    const unknown = await ended((await build(await uploaded(app, readme))).guid);
    expect(unknown.error).toMatch(/^NoAppDetectedError - An app was not successfully detected/);
    const [last] = cf.diego.logs.recent(app).slice(-1);
    expect(last).toMatchObject({ source: "STG/0", stream: "stderr" });
  });

  it("keeps the newest packages and droplets of an app, and its current one, and drops the rest from disk", async () => {
    const app = await newApp("often");
    const first = await staged(app);
    await cf.patch(`/v3/apps/${app}/relationships/current_droplet`, { data: { guid: first } });
    const later: string[] = [];
    for (let count = 0; count < 6; count += 1) later.push(await staged(app));
    const droplets = (await cf.get(`/v3/apps/${app}/droplets`)).resources.map(({ guid }) => guid);
    expect(droplets).toEqual([first, ...later.slice(1)]);
    expect((await cf.get(`/v3/apps/${app}/packages`)).resources).toHaveLength(5);
    const onDisk = (guid: string) => existsSync(join(dataDirectory, "droplets", guid));
    expect([first, ...later].map(onDisk)).toEqual([true, false, true, true, true, true, true]);
    await cf.call("DELETE", `/v3/apps/${app}`);
    expect([first, ...later].some(onDisk)).toBe(false);
  });

  it("tells an app's environment, its features and what it has none of", async () => {
    const app = await newApp("looked-at");
    await cf.patch(`/v3/apps/${app}/environment_variables`, { var: { A: "1" } });
    expect(await cf.get(`/v3/apps/${app}/env`)).toMatchObject({
      environment_variables: { A: "1" },
      application_env_json: { VCAP_APPLICATION: { application_name: "looked-at" } },
    });
    expect(await cf.get(`/v3/apps/${app}/features/ssh`)).toMatchObject({ enabled: false });
    expect(await cf.refusal("PATCH", `/v3/apps/${app}/features/ssh`, { enabled: true })).toContain("not supported");
    expect(await cf.refusal("POST", `/v3/apps/${app}/tasks`, { command: "ls" })).toContain("Tasks are not supported");
    for (const list of ["service_brokers", "security_groups", "isolation_segments", "organization_quotas"]) {
      expect((await cf.get(`/v3/${list}`)).resources).toEqual([]);
    }
    expect((await cf.get("/v3/buildpacks?order_by=position")).resources.map(({ name }) => name)).toContain(
      "go_buildpack",
    );
    expect((await cf.get("/v3/users?usernames=admin")).resources).toHaveLength(1);
  });

  it("refuses buildpacks and stacks that are not there", async () => {
    const app = await newApp("lifecycle");
    const change = (data: object) => cf.refusal("PATCH", `/v3/apps/${app}`, { lifecycle: { type: "buildpack", data } });
    expect(await change({ buildpacks: ["nope"] })).toContain('Buildpack "nope" must be an existing admin buildpack');
    expect(await change({ stack: "windows" })).toContain("Stack must be an existing stack");
  });

  it("embeds instances in lists of processes when asked", async () => {
    const guid = await cf.app("embedded", 2);
    const [process] = (await cf.get(`/v3/processes?app_guids=${guid}&embed=process_instances`)).resources;
    expect(process).toMatchObject({
      process_instances: [
        { index: 0, state: "RUNNING" },
        { index: 1, state: "RUNNING" },
      ],
    });
  });

  it("runs one canary beside the old version, and continues or goes back", async () => {
    const guid = await cf.app("bird", 3);
    const versions = () => [...cf.diego.desired.values()].filter(({ appGuid }) => appGuid === guid);
    const deploy = () => cf.post("/v3/deployments", { strategy: "canary", ...toApp(guid) });
    const reasonOf = async ({ guid: one }: Shown) => (await cf.get(`/v3/deployments/${one}`)).status.reason;
    const old = cf.diego.processOf(guid).lrpProcessGuid;
    const first = await deploy();
    await expect.poll(() => reasonOf(first)).toBe("PAUSED");
    expect(versions().map(({ instances }) => instances)).toEqual([3, 1]);
    await cf.post(`/v3/deployments/${first.guid}/actions/cancel`, {});
    expect([await reasonOf(first), versions().map(({ lrpProcessGuid }) => lrpProcessGuid)]).toEqual([
      "CANCELED",
      [old],
    ]);
    expect(await cf.refusal("POST", `/v3/deployments/${first.guid}/actions/continue`, {})).toContain("Cannot continue");
    const second = await deploy();
    await expect.poll(() => reasonOf(second)).toBe("PAUSED");
    await cf.post(`/v3/deployments/${second.guid}/actions/continue`, {});
    await expect.poll(() => reasonOf(second)).toBe("DEPLOYED");
    expect(versions().map(({ instances }) => instances)).toEqual([3]);
    expect(cf.diego.desired.has(old)).toBe(false);
  });
});
