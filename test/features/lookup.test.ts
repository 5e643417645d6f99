import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventually } from "../support/eventually.js";
import { startMesh, type TestMesh } from "../support/mesh.js";

describe("finding the route of a request", () => {
  let mesh: TestMesh;
  const appOf = async (host: string, path = "/") => {
    const answer = await mesh.client.get(host, path);
    return answer.status === 200 ? answer.json.app : answer.status;
  };
  beforeAll(async () => {
    mesh = await startMesh();
    await Promise.all([mesh.app("blue"), mesh.app("green")]);
  });
  afterAll(() => mesh.stop());

  it("takes the longest context path, by whole segments", async () => {
    await mesh.route("paths", { to: [{ app: "blue" }] });
    await mesh.route("paths", { path: "/cart", to: [{ app: "green" }] });
    await mesh.route("paths", { path: "/cart/items", to: [{ app: "blue" }] });
    const host = "paths.mesh.localhost";
    await mesh.answers(host, 200, "/cart/items");
    expect(await appOf(host, "/cart")).toBe("green");
    expect(await appOf(host, "/cart/")).toBe("green");
    expect(await appOf(host, "/cart?items")).toBe("green");
    expect(await appOf(host, "/CART/x")).toBe("green");
    expect(await appOf(host, "/cart/items/1")).toBe("blue");
    expect(await appOf(host, "/cartoon")).toBe("blue");
    expect(await appOf(host, "/other/cart")).toBe("blue");
  });

  it("hands path and query on unchanged", async () => {
    await mesh.route("raw", { to: [{ app: "blue" }] });
    await mesh.answers("raw.mesh.localhost", 200);
    const answer = await mesh.client.get("raw.mesh.localhost", "/a%2Fb//c/../d?x=1&y=%20");
    expect(answer.json.url).toBe("/a%2Fb//c/../d?x=1&y=%20");
  });

  it("matches wildcard hosts at any level, and prefers exact hosts", async () => {
    await mesh.route("*.wild", { to: [{ app: "blue" }] });
    await mesh.route("exact.wild", { to: [{ app: "green" }] });
    await mesh.answers("exact.wild.mesh.localhost", 200);
    await mesh.answers("any.wild.mesh.localhost", 200);
    expect(await appOf("exact.wild.mesh.localhost")).toBe("green");
    expect(await appOf("any.wild.mesh.localhost")).toBe("blue");
    expect(await appOf("a.b.c.wild.mesh.localhost")).toBe("blue");
    expect(await appOf("below.exact.wild.mesh.localhost")).toBe("blue");
    expect(await appOf("wild.mesh.localhost")).toBe(404);
  });

  it("gives a host that is used much below a wildcard a scope of its own, and changes nothing by it", async () => {
    await mesh.route("*.much", { to: [{ app: "blue" }] });
    await mesh.route("*.much", { path: "/green", to: [{ app: "green" }] });
    const host = "busy.much.mesh.localhost";
    await mesh.answers(host, 200, "/green");
    const scopes = () => mesh.proxy().types.find(({ typeUrl }) => typeUrl.includes("Scoped"))?.heldCount ?? 0;
    const before = scopes();
    for (let sent = 0; sent < 40; sent += 1) expect(await appOf(host)).toBe("blue");
    await eventually(() => scopes() === before + 1);
    expect(await appOf(host)).toBe("blue");
    expect(await appOf(host, "/green")).toBe("green");
    expect(await appOf("Busy.much.mesh.localhost")).toBe("blue");
    expect(await appOf("other.much.mesh.localhost")).toBe("blue");
    // A route of its own is before the wildcards', and they are there again when it goes.
    const guid = await mesh.route("busy.much", { path: "/green", to: [{ app: "blue" }] });
    await eventually(async () => (await appOf(host, "/green")) === "blue");
    expect(await appOf(host)).toBe("blue");
    await mesh.api.call("DELETE", `/v3/routes/${guid}`);
    await eventually(async () => (await appOf(host, "/green")) === "green");
    expect(await appOf(host)).toBe("blue");
  });

  it("prefers the nearest of several wildcard hosts", async () => {
    await mesh.route("*.far", { to: [{ app: "blue" }] });
    await mesh.route("*.near.far", { path: "/only", to: [{ app: "green" }] });
    await mesh.answers("x.near.far.mesh.localhost", 200, "/only");
    await mesh.answers("x.far.mesh.localhost", 200);
    expect(await appOf("x.near.far.mesh.localhost", "/only/this")).toBe("green");
    expect(await appOf("x.near.far.mesh.localhost", "/else")).toBe("blue");
  });

  it("lets an exact host fall through to its wildcard for paths that it does not have", async () => {
    await mesh.route("*.through", { to: [{ app: "blue" }] });
    await mesh.route("exact.through", { path: "/only", to: [{ app: "green" }] });
    await mesh.answers("exact.through.mesh.localhost", 200, "/only");
    await mesh.answers("other.through.mesh.localhost", 200);
    expect(await appOf("exact.through.mesh.localhost", "/only")).toBe("green");
    expect(await appOf("exact.through.mesh.localhost", "/else")).toBe("blue");
  });

  it("ignores case and port of the host, and hands the Host header on as it came", async () => {
    await mesh.route("case", { to: [{ app: "blue" }] });
    await mesh.answers("case.mesh.localhost", 200);
    for (const host of ["CASE.Mesh.Localhost", "case.mesh.localhost:8080", "Case.mesh.LOCALHOST:1"]) {
      const answer = await mesh.client.get(host);
      expect(answer.status).toBe(200);
      expect(answer.json.headers["host"]).toBe(host);
    }
  });

  it("answers the first request of a host with capitals that nobody asked for before", async () => {
    await mesh.route("cold-capitals", { to: [{ app: "blue" }] });
    await mesh.route("known", { to: [{ app: "blue" }] });
    // Later than the route above, so that one is there too.
    await mesh.answers("known.mesh.localhost", 200);
    expect(await appOf("COLD-Capitals.mesh.localhost")).toBe("blue");
  });

  it("takes no scope from a client, and shows none to apps", async () => {
    await mesh.route("scope-a", { to: [{ app: "blue" }] });
    await mesh.route("scope-b", { to: [{ app: "green" }] });
    await mesh.answers("scope-a.mesh.localhost", 200);
    await mesh.answers("scope-b.mesh.localhost", 200);
    const answer = await mesh.client.get("scope-a.mesh.localhost", "/", {
      headers: { "x-cf-mesh-scope": "scope-b.mesh.localhost" },
    });
    expect(answer.json.app).toBe("blue");
    expect(Object.keys(answer.json.headers).filter((name) => /envoy|cf-mesh/.test(name))).toEqual([]);
  });

  it("answers 404 for an unknown host and an unmapped route, in Gorouter's words", async () => {
    await mesh.route("unmapped");
    for (const host of ["unknown.mesh.localhost", "unmapped.mesh.localhost", "a.b.c.d.e.unknown.test:8080"]) {
      const answer = await mesh.client.get(host);
      expect(answer.status).toBe(404);
      expect(answer.headers["x-cf-routererror"]).toBe("unknown_route");
      expect(answer.body.toString()).toBe(`404 Not Found: Requested route ('${host}') does not exist.\n`);
    }
  });

  it("keeps internal routes out of reach", async () => {
    const internal = await mesh.route("blue", { domain: "apps.internal" });
    await mesh.map(internal, [{ app: "blue" }]);
    await mesh.route("public", { to: [{ app: "blue" }] });
    await mesh.answers("public.mesh.localhost", 200);
    expect(await appOf("blue.apps.internal")).toBe(404);
  });

  it("serves several domains, several hosts of one app, and several apps of one host", async () => {
    await mesh.route("multi", { to: [{ app: "blue" }, { app: "green" }] });
    await mesh.route("multi", { domain: "apps.example.test", to: [{ app: "blue" }] });
    await mesh.answers("multi.mesh.localhost", 200);
    await mesh.answers("multi.apps.example.test", 200);
    expect(await mesh.client.shares("multi.mesh.localhost", { count: 10 })).toEqual({ blue: 5, green: 5 });
    expect(await appOf("multi.apps.example.test")).toBe("blue");
  });

  it("answers the first requests of hosts that were never used, several at once", async () => {
    const hosts = Array.from({ length: 10 }, (_, index) => `cold-${index}`);
    for (const host of hosts) await mesh.route(host, { to: [{ app: "blue" }] });
    await mesh.route("after-cold", { to: [{ app: "blue" }] });
    await mesh.answers("after-cold.mesh.localhost", 200);
    expect(await Promise.all(hosts.map((host) => appOf(`${host}.mesh.localhost`)))).toEqual(hosts.map(() => "blue"));
  });
});
