import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { z } from "zod";
import { type EmulatedFoundation, startEmulatedFoundation } from "../../../test/support/emulated-foundation.js";
import { eventually } from "../../../test/support/eventually.js";
import { silentLogger } from "../../lib/logger.js";
import { Saver } from "./saver.js";
import { StateFile } from "./state-file.js";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "cf-mesh-state-"));
});
afterEach(() => rm(directory, { recursive: true }));

describe("a state file", () => {
  const schema = z.strictObject({ count: z.number() });
  const open = () => new StateFile(join(directory, "state.json"), schema);

  it("is not there at first, and then what was written last", async () => {
    expect(await open().read()).toBeUndefined();
    await open().write({ count: 1 });
    await open().write({ count: 2 });
    expect(await open().read()).toEqual({ count: 2 });
    expect(await readdir(directory)).toEqual(["state.json"]);
  });

  it("is for its owner alone", async () => {
    await open().write({ count: 1 });
    expect((await stat(open().path)).mode & 0o777).toBe(0o600);
  });

  it("survives what a crash left of a write", async () => {
    await open().write({ count: 1 });
    await writeFile(`${open().path}.new`, '{"cou');
    expect(await open().read()).toEqual({ count: 1 });
    await open().write({ count: 2 });
    expect(await open().read()).toEqual({ count: 2 });
  });

  it("says what is wrong with it, without a word of its content, and how to go on", async () => {
    await writeFile(open().path, '{"secret-word');
    await expect(open().read()).rejects.toThrow(/MESH_STATE_CORRUPT.*state\.json.*no JSON.*--fresh/s);
    await expect(open().read()).rejects.not.toThrow(/secret-word/);
    await writeFile(open().path, '{"count":"many"}');
    await expect(open().read()).rejects.toThrow(/state\.json can't be used: count: /);
  });
});

describe("saving", () => {
  it("gathers changes, never saves twice at a time, and saves once more at the end", async () => {
    const saves: { finish: () => void }[] = [];
    const saver = new Saver(() => new Promise<void>((finish) => saves.push({ finish })), silentLogger);
    for (let count = 0; count < 10; count++) saver.changed();
    await eventually(() => saves.length === 1);
    saver.changed();
    const closed = saver.close();
    expect(saves).toHaveLength(1);
    saves[0]?.finish();
    await eventually(() => saves.length === 2);
    saves[1]?.finish();
    await closed;
    saver.changed();
    expect(saves).toHaveLength(2);
  });

  it("goes on after a save that failed", async () => {
    let count = 0;
    const saver = new Saver(() => {
      count += 1;
      return count === 1 ? Promise.reject(new Error("disk full")) : Promise.resolve();
    }, silentLogger);
    saver.changed();
    await eventually(() => count === 1);
    await saver.close();
    expect(count).toBe(2);
  });
});

describe("a foundation with a data directory", () => {
  const running: EmulatedFoundation[] = [];
  afterEach(async () => {
    for (const cf of running.splice(0)) await cf.close();
  });
  async function start(port = 0): Promise<EmulatedFoundation> {
    const cf = await startEmulatedFoundation({ dataDirectory: directory, port });
    running.push(cf);
    return cf;
  }
  const portOf = (cf: EmulatedFoundation) => Number(new URL(cf.foundation.apiUrl).port);
  async function restart(cf: EmulatedFoundation): Promise<EmulatedFoundation> {
    await cf.close();
    running.length = 0;
    return start(portOf(cf));
  }
  const file = (name: string) => join(directory, name);

  it("has everything again after a restart: guids, times, order, and what was set", async () => {
    const cf = await start();
    expect(cf.foundation.isRestored).toBe(false);
    const shop = await cf.app("shop", 2);
    const cart = await cf.app("cart");
    await cf.patch(`/v3/apps/${shop}/environment_variables`, { var: { COLOUR: "blue" } });
    const { guid } = await cf.route("shop", { path: "/cart", options: { loadbalancing: "least-connection" } });
    const destinations = [
      { app: { guid: shop }, weight: 10 },
      { app: { guid: cart }, weight: 90 },
    ];
    await cf.patch(`/v3/routes/${guid}/destinations`, { destinations });
    await cf.patch("/v3/feature_flags/route_sharing", { enabled: true });
    const role = { type: "organization_manager", relationships: { user: { data: { username: "admin" } } } };
    const organization = { data: { guid: cf.organizationGuid } };
    await cf.post("/v3/roles", { ...role, relationships: { ...role.relationships, organization } });
    const policy = { source: { id: shop }, destination: { id: cart, protocol: "tcp", ports: { start: 1, end: 2 } } };
    await cf.post("/networking/v1/external/policies", { policies: [policy] });
    const identity = { name: "apps.identity", enforce_route_policies: true, route_policies_scope: "space" };
    const domain = { data: { guid: (await cf.post("/v3/domains", identity)).guid } };
    const space = { data: { guid: cf.spaceGuid } };
    const policed = await cf.post("/v3/routes", { host: "policed", relationships: { space, domain } });
    await cf.post("/v3/route_policies", {
      source: `cf:app:${cart}`,
      relationships: { route: { data: { guid: policed.guid } } },
    });
    cf.clock.forward(60);

    const paths = [
      ...["organizations", "spaces", "domains", "routes", "apps", "processes", "roles"].map((kind) => `/v3/${kind}`),
      ...["/v3/feature_flags", "/v3/route_policies", "/v3/audit_events", "/v3/droplets", `/v3/apps/${shop}/env`],
      ...[`/v3/routes/${guid}/destinations`, "/networking/v1/external/policies", "/networking/v1/external/tags"],
    ];
    const look = (foundation: EmulatedFoundation) => Promise.all(paths.map((path) => foundation.call("GET", path)));
    const texts = async (foundation: EmulatedFoundation) => (await look(foundation)).map(({ text }) => text);
    const before = await texts(cf);
    const after = await restart(cf);
    expect(after.foundation.isRestored).toBe(true);
    expect(await texts(after)).toEqual(before);
  });

  it("runs the apps again that were started, in their version, and no others", async () => {
    const cf = await start();
    const [shop, stopped] = [await cf.app("shop", 2), await cf.app("stopped")];
    await cf.post(`/v3/apps/${stopped}/actions/stop`, {});
    const { lrpProcessGuid } = cf.diego.processOf(shop);
    const after = await restart(cf);
    expect([...after.diego.desired.values()]).toMatchObject([{ lrpProcessGuid, appGuid: shop, instances: 2 }]);
  });

  it("keeps its client's secret, and the logins of its users", async () => {
    const cf = await start();
    const { clientSecret } = cf.foundation;
    const headers = { authorization: `Basic ${Buffer.from("cf:").toString("base64")}` };
    const login = async (foundation: EmulatedFoundation, form: Record<string, string>) => {
      const url = `${foundation.foundation.uaaUrl}/oauth/token`;
      const answer = await fetch(url, { method: "POST", headers, body: new URLSearchParams(form) });
      return (await answer.json()) as { access_token: string; refresh_token: string };
    };
    const user = { grant_type: "password", username: "admin", password: "admin" };
    const { access_token: token, refresh_token: refresh } = await login(cf, user);
    const after = await restart(cf);
    expect((await stat(file("secrets.json"))).mode & 0o777).toBe(0o600);
    expect(after.foundation.clientSecret).toBe(clientSecret);
    const { status } = await after.call("GET", "/v3/apps", undefined, { authorization: `bearer ${token}` });
    expect(status).toBe(200);
    const renewed = await login(after, { grant_type: "refresh_token", refresh_token: refresh });
    expect(renewed.access_token).toBeTruthy();
  });

  it("has on disk what was changed, without being closed", async () => {
    const cf = await start();
    await cf.post("/v3/organizations", { name: "new-organization" });
    await eventually(async () => (await readFile(file("state.json"), "utf8")).includes("new-organization"));
  });

  it("does not start with a state that it can't use, and leaves it as it is", async () => {
    const cf = await start();
    await cf.app("shop");
    await cf.close();
    running.length = 0;
    const whole = await readFile(file("state.json"), "utf8");
    const state = JSON.parse(whole) as { spaces: unknown[] };
    const broken = [
      whole.slice(0, whole.length / 2),
      JSON.stringify({ ...state, version: 2 }),
      JSON.stringify({ ...state, spaces: [] }),
      whole.replace('"STARTED"', '"FLYING"'),
    ];
    for (const text of broken) {
      await writeFile(file("state.json"), text);
      await expect(start()).rejects.toMatchObject({ code: "MESH_STATE_CORRUPT" });
      expect(await readFile(file("state.json"), "utf8")).toBe(text);
    }
    await writeFile(file("state.json"), whole);
    const secrets = JSON.parse(await readFile(file("secrets.json"), "utf8")) as { uaa: object };
    const signingKey = { id: "1", pem: "no key" };
    await writeFile(file("secrets.json"), JSON.stringify({ ...secrets, uaa: { ...secrets.uaa, signingKey } }));
    await expect(start()).rejects.toThrow(/MESH_STATE_CORRUPT.*secrets\.json.*no RSA key/s);
  });

  it("goes back to the version before a canary that nobody continued", async () => {
    const cf = await start();
    const shop = await cf.app("shop");
    const { lrpProcessGuid } = cf.diego.processOf(shop);
    const deployment = { strategy: "canary", relationships: { app: { data: { guid: shop } } } };
    const { guid } = await cf.post("/v3/deployments", deployment);
    await eventually(async () => (await cf.get(`/v3/deployments/${guid}`)).status.reason === "PAUSED");
    const after = await restart(cf);
    expect((await after.get(`/v3/deployments/${guid}`)).status.reason).toBe("CANCELED");
    expect(after.diego.processOf(shop).lrpProcessGuid).toBe(lrpProcessGuid);
  });

  it("runs samples from where they lie now", async () => {
    const cf = await start();
    const shop = await cf.app("shop");
    await cf.close();
    running.length = 0;
    const hello = { name: "hello", command: ["node", "moved.js"], workingDirectory: "/moved" };
    const after = await startEmulatedFoundation({ dataDirectory: directory, droplets: [hello] });
    running.push(after);
    expect(after.diego.processOf(shop)).toMatchObject({ command: ["node", "moved.js"], workingDirectory: "/moved" });
  });
});
