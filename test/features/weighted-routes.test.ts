import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startLoad } from "../support/client.js";
import { eventually } from "../support/eventually.js";
import { startMesh, type TestMesh } from "../support/mesh.js";

describe("weighted routes", () => {
  let mesh: TestMesh;
  beforeAll(async () => {
    mesh = await startMesh();
    await Promise.all([
      mesh.app("blue", { instances: 1 }),
      mesh.app("green", { instances: 3 }),
      mesh.app("idle", { instances: 0 }),
    ]);
  });
  afterAll(() => mesh.stop());

  it.each([
    { name: "1 to 9, unequal instance counts", blue: 10, green: 90 },
    { name: "50 to 50", blue: 50, green: 50 },
    { name: "99 to 1", blue: 99, green: 1 },
  ])("gives each app its exact share of 100 requests: $name", async ({ blue, green }) => {
    const host = `share-${blue}`;
    await mesh.route(host, {
      to: [
        { app: "blue", weight: blue },
        { app: "green", weight: green },
      ],
    });
    await mesh.answers(`${host}.mesh.localhost`, 200);
    expect(await mesh.client.shares(`${host}.mesh.localhost`)).toEqual({ blue, green });
  });

  it("gives each of 100 destinations one of 100 requests", async () => {
    const names = Array.from({ length: 100 }, (_, index) => `one-of-${index}`);
    // A hundred processes would say no more about the mesh: their instances are listeners of this test.
    await Promise.all(names.map((name) => mesh.stubApp(name)));
    await mesh.route("hundred", { to: names.map((app) => ({ app, weight: 1 })) });
    await mesh.answers("hundred.mesh.localhost", 200);
    expect(await mesh.client.shares("hundred.mesh.localhost")).toEqual(
      Object.fromEntries(names.map((name) => [name, 1])),
    );
  });

  it("gives the share of an app with nothing running to its siblings", async () => {
    await mesh.route("idle-sibling", {
      to: [
        { app: "idle", weight: 60 },
        { app: "blue", weight: 20 },
        { app: "green", weight: 20 },
      ],
    });
    await mesh.answers("idle-sibling.mesh.localhost", 200);
    expect(await mesh.client.shares("idle-sibling.mesh.localhost")).toEqual({ blue: 50, green: 50 });
  });

  it("sends testers to the canary when an annotation in Cloud Controller says so", async () => {
    const guid = await mesh.route("testers", {
      to: [
        { app: "blue", weight: 99 },
        { app: "green", weight: 1 },
      ],
    });
    const annotations = {
      "cf-mesh.local/match": "header X-Canary=yes -> green",
      "cf-mesh.local/match-only": "green",
    };
    await mesh.api.call("PATCH", `/v3/routes/${guid}`, { metadata: { annotations } });
    const host = "testers.mesh.localhost";
    await eventually(async () => {
      const { status, json } = await mesh.client.get(host, "/", { headers: { "x-canary": "yes" } });
      return status === 200 && json.app === "green";
    });
    expect(await mesh.client.shares(host)).toEqual({ blue: 100 });
  });

  it("gives every instance an equal share on a route without weights", async () => {
    await mesh.route("unweighted", { to: [{ app: "blue" }, { app: "green" }] });
    await mesh.answers("unweighted.mesh.localhost", 200);
    expect(await mesh.client.shares("unweighted.mesh.localhost")).toEqual({ blue: 25, green: 75 });
  });

  it("moves the share under load with no failed request, and sends endpoints alone", async () => {
    const guid = await mesh.route("reweighed", {
      to: [
        { app: "blue", weight: 90 },
        { app: "green", weight: 10 },
      ],
    });
    const host = "reweighed.mesh.localhost";
    await mesh.answers(host, 200);
    const load = startLoad(mesh.routerPort, host);
    const pushes = await mesh.pushesDuring(async () => {
      await mesh.map(guid, [
        { app: "blue", weight: 10 },
        { app: "green", weight: 90 },
      ]);
      await eventually(async () => (await mesh.client.shares(host, { count: 10 }))["green"] === 9);
    });
    const report = await load.stop();
    expect(report.failures).toEqual([]);
    expect(report.total).toBeGreaterThan(10);
    expect(pushes).toEqual({
      Cluster: 0,
      ClusterLoadAssignment: 1,
      RouteConfiguration: 0,
      ScopedRouteConfiguration: 0,
    });
  });
});
