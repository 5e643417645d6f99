import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startLoad } from "../support/client.js";
import { eventually } from "../support/eventually.js";
import { startMesh, type TestMesh } from "../support/mesh.js";

describe("an app's life", () => {
  let mesh: TestMesh;
  beforeAll(async () => {
    mesh = await startMesh();
  });
  afterAll(() => mesh.stop());

  const scale = (app: string, instances: number) =>
    mesh.api.call("POST", `/v3/apps/${mesh.appGuid(app)}/processes/web/actions/scale`, { instances });
  const indexes = async (host: string, count: number) => {
    const seen = new Set<number>();
    for (let sent = 0; sent < count; sent += 1) seen.add((await mesh.client.get(host)).json.index);
    return [...seen].sort();
  };

  it("answers 503 in Gorouter's words while it is stopped, and 200 again when it is started", async () => {
    await mesh.app("stopper");
    await mesh.route("stopper", { to: [{ app: "stopper" }] });
    await mesh.answers("stopper.mesh.localhost", 200);
    await mesh.api.call("POST", `/v3/apps/${mesh.appGuid("stopper")}/actions/stop`);
    await mesh.answers("stopper.mesh.localhost", 503);
    const answer = await mesh.client.get("stopper.mesh.localhost");
    expect(answer.headers["x-cf-routererror"]).toBe("no_endpoints");
    expect(answer.body.toString()).toContain("Requested route ('stopper.mesh.localhost') has no available endpoints.");
    await mesh.api.call("POST", `/v3/apps/${mesh.appGuid("stopper")}/actions/start`);
    await mesh.answers("stopper.mesh.localhost", 200);
  });

  it("answers 404 when its route is unmapped or deleted", async () => {
    await mesh.app("leaver");
    const unmapped = await mesh.route("unmapped", { to: [{ app: "leaver" }] });
    const deleted = await mesh.route("deleted", { to: [{ app: "leaver" }] });
    await mesh.answers("unmapped.mesh.localhost", 200);
    await mesh.answers("deleted.mesh.localhost", 200);
    await mesh.map(unmapped, []);
    await mesh.api.call("DELETE", `/v3/routes/${deleted}`);
    await mesh.answers("unmapped.mesh.localhost", 404);
    await mesh.answers("deleted.mesh.localhost", 404);
  });

  it("is scaled up and down under load with no failed request", async () => {
    await mesh.app("scaler", { instances: 2 });
    await mesh.route("scaler", { to: [{ app: "scaler" }] });
    const host = "scaler.mesh.localhost";
    await mesh.answers(host, 200);
    const load = startLoad(mesh.routerPort, host);
    await scale("scaler", 4);
    await eventually(async () => (await indexes(host, 8)).length === 4);
    await scale("scaler", 1);
    await eventually(async () => (await indexes(host, 8)).length === 1);
    expect((await load.stop()).failures).toEqual([]);
  });

  it("is replaced version by version under load with no failed request", async () => {
    await mesh.app("roller", { instances: 2 });
    await mesh.route("roller", { to: [{ app: "roller" }] });
    const host = "roller.mesh.localhost";
    await mesh.answers(host, 200);
    const before = (await mesh.client.get(host)).json.guid;
    const load = startLoad(mesh.routerPort, host);
    await mesh.api.call("POST", "/v3/deployments", {
      relationships: { app: { data: { guid: mesh.appGuid("roller") } } },
    });
    await eventually(async () => {
      const guids = new Set<string>();
      for (let sent = 0; sent < 4; sent += 1) guids.add((await mesh.client.get(host)).json.guid);
      return guids.size === 2 && !guids.has(before);
    }, 20_000);
    expect((await load.stop()).failures).toEqual([]);
  });

  it("is served on after one of its instances dies", async () => {
    await mesh.app("crasher", { instances: 2 });
    await mesh.route("crasher", { to: [{ app: "crasher" }] });
    const host = "crasher.mesh.localhost";
    await mesh.answers(host, 200);
    const load = startLoad(mesh.routerPort, host);
    const { guid, index } = (await mesh.client.get(host)).json;
    const pid = mesh.diego.pid(await mesh.lrpProcessGuid("crasher"), index);
    if (pid === undefined) throw new Error("the instance has a process");
    process.kill(pid, "SIGKILL");
    // Another one takes its place.
    const guids = async () => {
      const seen = new Set<string>();
      for (let sent = 0; sent < 4; sent += 1) seen.add((await mesh.client.get(host)).json.guid);
      return seen;
    };
    await eventually(async () => {
      const seen = await guids();
      return seen.size === 2 && !seen.has(guid);
    }, 20_000);
    expect((await load.stop()).failures).toEqual([]);
  });
});
