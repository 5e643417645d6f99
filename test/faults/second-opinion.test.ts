import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { InjectedFault } from "../../src/emulator/http/faults.js";
import { KEY_SPACES } from "../../src/entries/keys.js";
import { groupOf } from "../../src/model/hosts.js";
import { startLoad } from "../support/client.js";
import { eventually } from "../support/eventually.js";
import { DOMAIN, startMesh, type TestMesh } from "../support/mesh.js";

describe("while Cloud Controller can't be read, and Diego can", () => {
  let mesh: TestMesh;
  let outage: InjectedFault;
  const guids: Record<string, string> = {};
  beforeAll(async () => {
    mesh = await startMesh();
    await Promise.all([mesh.app("blue"), mesh.app("green")]);
    guids["weighted"] = await mesh.route("weighted", {
      to: [
        { app: "blue", weight: 99 },
        { app: "green", weight: 1 },
      ],
    });
    await mesh.answers(`weighted.${DOMAIN}`, 200);
    outage = mesh.foundation.faults.inject({
      path: /^\/v3\/(routes|audit_events|processes|apps|spaces)/,
      method: "GET",
      fault: { kind: "status", status: 500 },
    });
    await eventually(() => status("cloud-controller").state === "retrying");
  });
  afterAll(() => mesh.stop());

  const status = (source: string) => {
    const found = mesh.jobs.status.sources.find(({ name }) => name === source);
    if (!found) throw new Error(`no source ${source}`);
    return found;
  };
  const appsOf = async (host: string, count: number) => {
    const names = new Set<unknown>();
    for (let request = 0; request < count; request += 1) names.add((await mesh.client.get(host)).json.app);
    return names;
  };
  const opinions = () =>
    [...(mesh.jobs.router?.table.keys() ?? [])].filter((key) => key.startsWith(KEY_SPACES.diegoRoutes));
  const routeGuidOf = (host: string) =>
    mesh.jobs.router?.table.group(groupOf(`${host}.${DOMAIN}`))?.hosts[0]?.paths[0]?.routeGuid;

  it("a route that is made in the meantime is served, its path included", async () => {
    guids["fresh"] = await mesh.route("fresh", { path: "/deep" });
    await mesh.map(guids["fresh"], [{ app: "green" }]);
    await eventually(async () => (await mesh.client.get(`fresh.${DOMAIN}`, "/deep")).status === 200, 20_000);
    expect((await mesh.client.get(`fresh.${DOMAIN}`, "/other")).status).toBe(404);
    expect(routeGuidOf("fresh")).not.toBe(guids["fresh"]);
  });

  it("it follows each change by its event, and a route that is unmapped is gone", async () => {
    guids["late"] = await mesh.route("late");
    await mesh.map(guids["late"], [{ app: "blue" }]);
    await mesh.answers(`late.${DOMAIN}`, 200);
    await mesh.map(guids["late"], [{ app: "green" }]);
    await eventually(async () => (await mesh.client.get(`late.${DOMAIN}`)).json.app === "green");
    await mesh.map(guids["late"], []);
    await mesh.answers(`late.${DOMAIN}`, 404);
    await mesh.map(guids["late"], [{ app: "blue" }]);
    await mesh.answers(`late.${DOMAIN}`, 200);
  });

  it("the routes of Cloud Controller stay as they are, with their weights", async () => {
    expect(routeGuidOf("weighted")).toBe(guids["weighted"]);
    expect(await appsOf(`weighted.${DOMAIN}`, 20)).toContain("blue");
  });

  it("its own routes take over without a failed request when it is back, and the others go", async () => {
    const load = startLoad(mesh.routerPort, `late.${DOMAIN}`, 1);
    expect(opinions()).toHaveLength(2);
    outage.clear();
    await eventually(() => routeGuidOf("late") === guids["late"] && routeGuidOf("fresh") === guids["fresh"], 20_000);
    await eventually(() => status("cloud-controller").state === "following" && opinions().length === 0);
    expect((await load.stop()).failures).toEqual([]);
    expect((await mesh.client.get(`fresh.${DOMAIN}`, "/deep")).status).toBe(200);
  });
});
