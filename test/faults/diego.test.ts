import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startLoad } from "../support/client.js";
import { eventually } from "../support/eventually.js";
import { startMesh, type TestMesh } from "../support/mesh.js";

describe("while the BBS misbehaves", () => {
  let mesh: TestMesh;
  beforeAll(async () => {
    mesh = await startMesh();
    await mesh.app("serving");
    await mesh.app("changing");
    await mesh.route("serving", { to: [{ app: "serving" }] });
    await mesh.route("changing", { to: [{ app: "changing" }] });
    await mesh.answers("serving.mesh.localhost", 200);
    await mesh.answers("changing.mesh.localhost", 200);
  });
  afterAll(() => mesh.stop());

  const status = () => {
    const found = mesh.jobs.status.sources.find(({ name }) => name === "diego");
    if (!found) throw new Error("no such source");
    return found;
  };
  const act = (action: "stop" | "start") =>
    mesh.api.call("POST", `/v3/apps/${mesh.appGuid("changing")}/actions/${action}`);

  /** What follows is served by the events after the fault, or by a list that repairs what was missed. */
  it.each<{ name: string; fault: () => void }>([
    { name: "cuts its event stream", fault: () => mesh.diego.faults.cutEventStreams() },
    { name: "sends an event that nobody knows", fault: () => mesh.diego.faults.sendUnknownEvent() },
    { name: "sends a broken protobuf", fault: () => mesh.diego.faults.sendBrokenProtobuf() },
    { name: "sends an empty event", fault: () => mesh.diego.faults.sendEmptyEvent() },
  ])("nothing that serves changes when it $name, and changes go on", async ({ fault }) => {
    const load = startLoad(mesh.routerPort, "serving.mesh.localhost", 1);
    fault();
    await act("stop");
    await mesh.answers("changing.mesh.localhost", 503);
    await act("start");
    await mesh.answers("changing.mesh.localhost", 200);
    expect((await load.stop()).failures).toEqual([]);
  });

  it("goes on with the known instances while it can't be reached, says why, and catches up", async () => {
    const load = startLoad(mesh.routerPort, "serving.mesh.localhost", 1);
    await mesh.diego.faults.refuseConnections();
    await eventually(() => status().state === "retrying");
    expect(status().lastError).toContain("MESH_SOURCE_UNREACHABLE");
    expect(status().lastError).toContain("fix:");
    await act("stop");
    await mesh.diego.faults.acceptConnections();
    await mesh.answers("changing.mesh.localhost", 503);
    await eventually(() => status().state === "following");
    await act("start");
    await mesh.answers("changing.mesh.localhost", 200);
    expect((await load.stop()).failures).toEqual([]);
  });

  it("serves from evacuating and suspect instances, and not from those that are not routable", async () => {
    await mesh.app("moving");
    await mesh.route("moving", { to: [{ app: "moving" }] });
    await mesh.answers("moving.mesh.localhost", 200);
    const load = startLoad(mesh.routerPort, "moving.mesh.localhost", 1);
    const before = (await mesh.client.get("moving.mesh.localhost")).json.guid;
    mesh.diego.faults.evacuate(await mesh.lrpProcessGuid("moving"), 0);
    await eventually(async () => (await mesh.client.get("moving.mesh.localhost")).json.guid !== before, 20_000);
    mesh.diego.faults.suspect(await mesh.lrpProcessGuid("moving"), 0);
    await eventually(async () => (await mesh.client.get("moving.mesh.localhost")).status === 200);
    expect((await load.stop()).failures).toEqual([]);
    await mesh.app("unready");
    await mesh.route("unready", { to: [{ app: "unready" }] });
    await mesh.answers("unready.mesh.localhost", 200);
    mesh.diego.faults.setRoutable(await mesh.lrpProcessGuid("unready"), 0, false);
    await mesh.answers("unready.mesh.localhost", 503);
    mesh.diego.faults.setRoutable(await mesh.lrpProcessGuid("unready"), 0, true);
    await mesh.answers("unready.mesh.localhost", 200);
  });
});
