import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  type EmulatedFoundation,
  type Shown,
  startEmulatedFoundation,
} from "../../../test/support/emulated-foundation.js";

describe("apps", () => {
  let cf: EmulatedFoundation;
  beforeAll(async () => {
    cf = await startEmulatedFoundation();
  });
  afterAll(() => cf.close());

  const inSpace = () => ({ relationships: { space: { data: { guid: cf.spaceGuid } } } });

  it("are made from a copied droplet, and started, by the API alone", async () => {
    const created = await cf.post("/v3/apps", { name: "made", environment_variables: { COLOUR: "red" }, ...inSpace() });
    expect(created).toMatchObject({
      state: "STOPPED",
      lifecycle: { type: "buildpack", data: { buildpacks: [], stack: "cflinuxfs4" } },
      relationships: { current_droplet: { data: null } },
    });
    const guid = created.guid;
    expect(await cf.refusal("POST", `/v3/apps/${guid}/actions/start`)).toBe(
      "422 CF-UnprocessableEntity: Assign a droplet before starting this app.",
    );
    expect(await cf.refusal("GET", `/v3/apps/${guid}/droplets/current`)).toBe(
      "404 CF-ResourceNotFound: Droplet not found",
    );
    const [sample] = (await cf.get("/v3/droplets?label_selector=sample=hola")).resources;
    const assign = (droplet: string) =>
      ["PATCH", `/v3/apps/${guid}/relationships/current_droplet`, { data: { guid: droplet } }] as const;
    expect(await cf.refusal(...assign(sample.guid))).toBe(
      "422 CF-UnprocessableEntity: Unable to assign current droplet. Ensure the droplet exists and belongs to this app.",
    );
    const copy = await cf.post(`/v3/droplets?source_guid=${sample.guid}`, {
      relationships: { app: { data: { guid } } },
    });
    expect((await cf.call(...assign(copy.guid))).status).toBe(200);
    expect((await cf.get(`/v3/apps/${guid}/droplets/current`)).guid).toBe(copy.guid);
    expect((await cf.post(`/v3/apps/${guid}/actions/start`, {})).state).toBe("STARTED");

    const process = await cf.get(`/v3/apps/${guid}/processes/web`);
    const desired = cf.diego.processOf(guid);
    expect(desired).toMatchObject({
      lrpProcessGuid: `${process.guid}-${process.version}`,
      instances: 1,
      ports: [8080],
      command: ["node", "sample.js", "hola"],
      workingDirectory: "/samples",
      environment: { COLOUR: "red" },
      vcapApplication: { application_name: "made", space_name: "dev", process_id: process.guid },
      routes: { "cf-router": [], "internal-router": [], "tcp-router": [] },
      metricTags: { app_name: "made", process_type: "web", organization_name: "laptop" },
    });
  });

  it("have names of their own in a space", async () => {
    const { guid } = await cf.post("/v3/apps", { name: "unique", ...inSpace() });
    expect(await cf.refusal("POST", "/v3/apps", { name: "Unique", ...inSpace() })).toBe(
      "422 CF-UniquenessError: App with the name 'Unique' already exists.",
    );
    expect((await cf.patch(`/v3/apps/${guid}`, { name: "other" })).name).toBe("other");
    expect(await cf.refusal("POST", "/v3/apps", { ...inSpace() })).toBe(
      "422 CF-UnprocessableEntity: Name can't be blank",
    );
    expect(await cf.refusal("POST", "/v3/apps", { name: 1, ...inSpace() })).toBe(
      "422 CF-UnprocessableEntity: Name must be a string",
    );
  });

  it("are listed in the order of their names, with space and organization", async () => {
    await cf.app("zebra");
    await cf.app("aardvark");
    const page = await cf.get("/v3/apps?names=zebra,aardvark&order_by=name&include=org");
    expect(page.resources.map((one) => one.name)).toEqual(["aardvark", "zebra"]);
    expect(page.included.organizations.map((one) => one.name)).toEqual(["laptop"]);
  });

  it("stop, and start in a new version", async () => {
    const guid = await cf.app("stopped");
    const first = cf.diego.processOf(guid).lrpProcessGuid;
    expect((await cf.post(`/v3/apps/${guid}/actions/stop`, {})).state).toBe("STOPPED");
    expect(cf.diego.desired.has(first)).toBe(false);
    expect((await cf.get(`/v3/processes/${guid}/stats`)).resources).toEqual([]);
    await cf.post(`/v3/apps/${guid}/actions/start`, {});
    expect(cf.diego.processOf(guid).lrpProcessGuid).not.toBe(first);
  });

  it("restart in a new version after the old one was removed", async () => {
    const guid = await cf.app("restarted");
    const first = cf.diego.processOf(guid).lrpProcessGuid;
    cf.diego.calls.length = 0;
    await cf.post(`/v3/apps/${guid}/actions/restart`, {});
    const second = cf.diego.processOf(guid).lrpProcessGuid;
    expect(second).not.toBe(first);
    expect(cf.diego.calls).toEqual([`remove ${first}`, `desire ${second}`]);
  });

  it("keep one version in Diego when restarted several times at once", async () => {
    const guid = await cf.app("hasty");
    await Promise.all([1, 2, 3].map(() => cf.post(`/v3/apps/${guid}/actions/restart`, {})));
    expect([...cf.diego.desired.values()].filter((one) => one.appGuid === guid)).toHaveLength(1);
  });

  it("are scaled in place by instances, and replaced by memory", async () => {
    const guid = await cf.app("scaled");
    const version = cf.diego.processOf(guid).lrpProcessGuid;
    const answer = await cf.call("POST", `/v3/apps/${guid}/processes/web/actions/scale`, { instances: 3 });
    expect([answer.status, answer.body.instances]).toEqual([202, 3]);
    expect(cf.diego.processOf(guid)).toMatchObject({ lrpProcessGuid: version, instances: 3 });
    await cf.post(`/v3/processes/${guid}/actions/scale`, { memory_in_mb: 64 });
    expect(cf.diego.processOf(guid).lrpProcessGuid).not.toBe(version);
    expect(cf.diego.desired.has(version)).toBe(false);
    expect(await cf.refusal("POST", `/v3/processes/${guid}/actions/scale`, { instances: -1 })).toBe(
      "422 CF-UnprocessableEntity: Instances must be greater than or equal to 0",
    );
  });

  it("show what runs of them", async () => {
    const guid = await cf.app("counted", 2);
    const stats = (await cf.get(`/v3/apps/${guid}/processes/web/stats`)).resources;
    expect(stats).toHaveLength(2);
    expect(stats[1]).toMatchObject({
      type: "web",
      index: 1,
      state: "RUNNING",
      routable: true,
      host: "127.0.0.1",
      instance_internal_ip: "127.0.0.2",
      instance_ports: [
        { external: 60_001, internal: 8080, external_tls_proxy_port: null, internal_tls_proxy_port: null },
      ],
    });
    await cf.diego.remove(cf.diego.processOf(guid).lrpProcessGuid);
    expect((await cf.get(`/v3/processes/${guid}/stats`)).resources[0].state).toBe("DOWN");
  });

  it("restart one instance", async () => {
    const guid = await cf.app("instanced", 2);
    const lrp = cf.diego.processOf(guid).lrpProcessGuid;
    expect((await cf.call("DELETE", `/v3/apps/${guid}/processes/web/instances/1`)).status).toBe(204);
    expect(cf.diego.calls.at(-1)).toBe(`restart ${lrp}/1`);
    expect(await cf.refusal("DELETE", `/v3/apps/${guid}/processes/web/instances/2`)).toBe(
      "404 CF-ResourceNotFound: Instance not found",
    );
  });

  it("run the command that was set, from the next start on", async () => {
    const guid = await cf.app("commanded");
    await cf.patch(`/v3/processes/${guid}`, { command: "./serve --fast", health_check: { type: "process" } });
    await cf.post(`/v3/apps/${guid}/actions/restart`, {});
    const [shell, ...rest] = cf.diego.processOf(guid).command;
    expect([shell, rest.at(-1)]).toEqual(["/bin/sh", "./serve --fast"]);
    expect(cf.diego.processOf(guid).healthCheck).toEqual({ type: "process" });
    expect((await cf.get(`/v3/processes/${guid}`)).command).toBe("./serve --fast");
    const [listed] = (await cf.get(`/v3/processes?app_guids=${guid}`)).resources;
    expect(listed.command).toBe("[PRIVATE DATA HIDDEN IN LISTS]");
    expect(listed.health_check.type).toBe("process");
  });

  it("are deleted with their destinations, and nothing of them runs on", async () => {
    const guid = await cf.app("deleted");
    const lrp = cf.diego.processOf(guid).lrpProcessGuid;
    const route = await cf.route("of-deleted");
    await cf.post(`/v3/routes/${route.guid}/destinations`, { destinations: [{ app: { guid } }] });
    const answer = await cf.call("DELETE", `/v3/apps/${guid}`);
    expect((await cf.get(new URL(answer.headers.get("location") ?? "").pathname)).operation).toBe("app.delete");
    expect(cf.diego.desired.has(lrp)).toBe(false);
    expect((await cf.get(`/v3/routes/${route.guid}`)).destinations).toEqual([]);
    expect(await cf.refusal("GET", `/v3/apps/${guid}`)).toBe("404 CF-ResourceNotFound: App not found");
    expect(await cf.refusal("GET", `/v3/processes/${guid}`)).toBe("404 CF-ResourceNotFound: Process not found");
  });

  describe("deployed rolling", () => {
    const deploy = (guid: string) => cf.post("/v3/deployments", { relationships: { app: { data: { guid } } } });
    const reasonOf = async (deployment: Shown) => (await cf.get(`/v3/deployments/${deployment.guid}`)).status.reason;

    it("keep the old version until the new one runs, under the same process guid", async () => {
      const guid = await cf.app("rolled");
      const old = cf.diego.processOf(guid).lrpProcessGuid;
      cf.diego.runsAtOnce = false;
      const deployment = await deploy(guid);
      expect(deployment).toMatchObject({
        state: "DEPLOYING",
        status: { value: "ACTIVE", reason: "DEPLOYING" },
        strategy: "rolling",
        new_processes: [{ guid, type: "web" }],
      });
      const newest = cf.diego.processOf(guid).lrpProcessGuid;
      expect([...cf.diego.desired.keys()].filter((key) => key.startsWith(guid))).toEqual([old, newest]);

      const { guid: route } = await cf.route("rolled");
      await cf.post(`/v3/routes/${route}/destinations`, { destinations: [{ app: { guid } }] });
      for (const version of [old, newest]) {
        expect(JSON.stringify(cf.diego.desired.get(version)?.routes)).toContain("rolled.apps.example.test");
      }

      cf.diego.run(newest);
      await expect.poll(() => reasonOf(deployment)).toBe("DEPLOYED");
      expect(cf.diego.desired.has(old)).toBe(false);
      expect(cf.diego.processOf(guid).lrpProcessGuid).toBe(newest);
      expect((await cf.get(`/v3/deployments?app_guids=${guid}&status_values=ACTIVE`)).resources).toEqual([]);
      cf.diego.runsAtOnce = true;
    });

    it("go back to the old version when the new one does not come up", async () => {
      const guid = await cf.app("unrolled");
      const old = cf.diego.processOf(guid).lrpProcessGuid;
      cf.diego.runsAtOnce = false;
      const deployment = await deploy(guid);
      cf.diego.fail(cf.diego.processOf(guid).lrpProcessGuid);
      await expect.poll(() => reasonOf(deployment)).toBe("CANCELED");
      expect(cf.diego.processOf(guid).lrpProcessGuid).toBe(old);
      cf.diego.runsAtOnce = true;
    });

    it("leave only the newest version when a deployment supersedes another", async () => {
      const guid = await cf.app("superseded");
      cf.diego.runsAtOnce = false;
      const first = await deploy(guid);
      const second = await deploy(guid);
      expect(await reasonOf(first)).toBe("SUPERSEDED");
      const newest = cf.diego.processOf(guid).lrpProcessGuid;
      cf.diego.run(newest);
      await expect.poll(() => reasonOf(second)).toBe("DEPLOYED");
      expect([...cf.diego.desired.keys()].filter((key) => key.startsWith(guid))).toEqual([newest]);
      cf.diego.runsAtOnce = true;
    });

    it("are just started when they were stopped", async () => {
      const guid = await cf.app("asleep");
      await cf.post(`/v3/apps/${guid}/actions/stop`, {});
      expect((await deploy(guid)).status).toMatchObject({ value: "FINALIZED", reason: "DEPLOYED" });
      expect((await cf.get(`/v3/apps/${guid}`)).state).toBe("STARTED");
    });
  });
});
