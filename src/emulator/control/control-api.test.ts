import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "@nats-io/transport-node";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { eventually } from "../../../test/support/eventually.js";
import { silentLogger } from "../../lib/logger.js";
import { createCertificates } from "../certificates.js";
import { type EmulatedDiego, startDiego } from "../diego/emulated-diego.js";
import { type Foundation, type PushedApp, startFoundation } from "../foundation.js";
import { startNatsServer } from "../nats/nats-server.js";
import { CONTROL_FILE, CONTROL_PATH, type ControlFile } from "./control-api.js";

const LISTEN = 'require("net").createServer().listen(process.env.PORT, "127.0.0.1")';

interface Injected {
  readonly id: string | null;
  readonly name: string;
  readonly parameters: Readonly<Record<string, unknown>>;
}
interface Listed {
  readonly kinds: readonly {
    readonly name: string;
    readonly description: string;
    readonly parameters: readonly { readonly name: string; readonly description: string; readonly type: string }[];
  }[];
  readonly active: readonly Injected[];
}

describe("the door for faults", () => {
  const cleanups: (() => Promise<unknown>)[] = [];
  let directory: string;
  let diego: EmulatedDiego;
  let foundation: Foundation;
  let control: ControlFile;
  let admin: string;
  let app: PushedApp;
  let natsServer: string;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "cf-mesh-control-"));
    cleanups.push(() => rm(directory, { recursive: true }));
    const nats = await startNatsServer();
    cleanups.push(() => nats.close());
    natsServer = `127.0.0.1:${nats.port}`;
    const certificates = await createCertificates();
    diego = await startDiego({
      ...{ host: "127.0.0.1", bbsPort: 0, certificates, logger: silentLogger },
      ...{ cellPollMs: 20, stopGraceMs: 500 },
    });
    cleanups.push(() => diego.close());
    foundation = await startFoundation({
      ...{ appDomains: ["apps.test"], diego, logger: silentLogger, dataDirectory: directory },
      nats: { servers: [natsServer] },
      droplets: [{ name: "listener", command: [process.execPath, "-e", LISTEN], workingDirectory: tmpdir() }],
    });
    cleanups.push(() => foundation.close());
    control = JSON.parse(await readFile(join(directory, CONTROL_FILE), "utf8")) as ControlFile;
    admin = await foundation.adminToken();
    app = await foundation.pushSample("shop", "listener", { instances: 2 });
    await diego.whenRunning(lrp(), 2, AbortSignal.timeout(20_000));
  });
  afterAll(async () => {
    for (const cleanup of cleanups.reverse()) await cleanup();
  });
  beforeEach(() => call("DELETE", ""));

  const lrp = () => diego.lrps.processGuids().find((guid) => guid.startsWith(app.guid)) ?? "";
  const instanceGuid = (index: number) => diego.instances(lrp())[index]?.guid;

  async function call(method: string, path: string, body?: unknown, authorization = `bearer ${control.token}`) {
    const response = await fetch(`${control.url}${CONTROL_PATH}${path}`, {
      method,
      headers: { authorization },
      ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, text, json: () => JSON.parse(text) as unknown };
  }
  async function inject(name: string, parameters?: object): Promise<Injected> {
    const { status, text } = await call("POST", "", { name, ...(parameters !== undefined && { parameters }) });
    if (status !== 201) throw new Error(text);
    return JSON.parse(text) as Injected;
  }
  const list = async () => (await call("GET", "")).json() as Listed;
  const statusOf = async (path: string) =>
    (await fetch(`${foundation.apiUrl}${path}`, { headers: { authorization: admin } })).status;

  it("opens to the control token, which its owner alone may read, and to administrators", async () => {
    expect((await stat(join(directory, CONTROL_FILE))).mode & 0o777).toBe(0o600);
    expect((await call("GET", "", undefined, admin)).status).toBe(200);
    expect((await call("GET", "", undefined, "bearer guessed")).status).toBe(401);
    expect((await call("GET", "", undefined, "")).status).toBe(401);
    const { clientId, clientSecret, uaaUrl } = foundation;
    const form = { grant_type: "client_credentials", client_id: clientId, client_secret: clientSecret };
    const answer = await fetch(`${uaaUrl}/oauth/token`, { method: "POST", body: new URLSearchParams(form) });
    const { access_token: token } = (await answer.json()) as { access_token: string };
    expect((await call("DELETE", "", undefined, `bearer ${token}`)).status).toBe(401);
  });

  it("says of each fault what it does, and what each of its parameters means", async () => {
    const { kinds } = await list();
    expect(kinds.length).toBeGreaterThan(20);
    for (const { name, description, parameters } of kinds) {
      expect([name, description]).not.toContain("");
      for (const parameter of parameters) expect(parameter.description).not.toBe("");
    }
    expect(kinds.find(({ name }) => name === "bbs-stall")?.parameters).toEqual([
      {
        ...{ name: "what", type: "string", required: false, default: "events" },
        ...{ description: "event streams, or all calls", values: ["events", "everything"] },
      },
    ]);
  });

  it("injects what stands until it is cleared, and never stands in its own way", async () => {
    const fault = await inject("http-status", { path: "/v3/*", status: 503 });
    const other = await inject("http-status");
    expect(fault.parameters).toEqual({ path: "/v3/*", status: 503 });
    expect((await list()).active.map(({ id }) => id)).toEqual([fault.id, other.id]);
    expect([await statusOf("/v3/apps"), await statusOf("/")]).toEqual([503, 503]);
    expect((await call("DELETE", `/${other.id}`)).status).toBe(204);
    expect([await statusOf("/v3/apps"), await statusOf("/")]).toEqual([503, 200]);
    expect((await call("DELETE", "")).status).toBe(204);
    expect(await statusOf("/v3/apps")).toBe(200);
    expect((await list()).active).toEqual([]);
    expect((await call("DELETE", `/${fault.id}`)).status).toBe(404);
  });

  it("refuses what it does not know, and what can't be", async () => {
    const refusal = async (body: unknown) => {
      const { status, json } = await call("POST", "", body);
      const { errors } = json() as { errors: readonly { detail: string }[] };
      return `${status} ${errors[0]?.detail}`;
    };
    expect(await refusal("{")).toMatch(/^400/);
    expect(await refusal({})).toMatch(/^422 name/);
    expect(await refusal({ name: "earthquake" })).toBe('422 there is no fault "earthquake"');
    expect(await refusal({ name: "http-status", parameters: { status: 200 } })).toMatch(/^422 status: /);
    expect(await refusal({ name: "http-status", parameters: { status: "x" } })).toBe("422 status: has to be a number");
    expect(await refusal({ name: "instance-crash" })).toBe("422 app: is needed");
    expect(await refusal({ name: "bbs-stall", parameters: { how: "long" } })).toMatch(/^422 .*"how"/);
    expect(await refusal({ name: "instance-crash", parameters: { app: "none" } })).toBe("404 App not found");
    expect(await refusal({ name: "instance-crash", parameters: { app: "shop", index: 7 } })).toMatch(
      /^422 no instance 7/,
    );
    expect(await refusal({ name: "cell-evacuation", parameters: { cell: "cell-9" } })).toMatch(/^422 there is no cell/);
  });

  it("lets rates, tokens and the BBS fail, and mends them", async () => {
    await inject("rate-limit", { requestCount: 5 });
    expect(foundation.faults.rateLimit).toEqual({ requestCount: 5, intervalMs: 60_000 });
    await inject("token-lifetime", { seconds: 1 });
    expect(foundation.faults.tokenLifetimeSeconds).toBe(1);
    await inject("bbs-down");
    await expect(fetch(diego.bbsUrl)).rejects.toMatchObject({ cause: { code: "ECONNREFUSED" } });
    await inject("bbs-stale-domain");
    await call("DELETE", "");
    expect(foundation.faults.rateLimit).toBeUndefined();
    expect(foundation.faults.tokenLifetimeSeconds).toBe(3_600);
    await expect(fetch(diego.bbsUrl)).rejects.not.toMatchObject({ cause: { code: "ECONNREFUSED" } });
  });

  it("crashes an instance, and takes one out of the routes for a while", async () => {
    const crashed = instanceGuid(1);
    expect((await inject("instance-crash", { app: "shop", index: 1 })).id).toBeNull();
    await eventually(() => instanceGuid(1) !== crashed && diego.instances(lrp())[1]?.state === "RUNNING");
    const isRoutable = () => diego.lrps.actuals(lrp()).find(({ key }) => (key?.index ?? 0) === 0)?.routable;
    const { id } = await inject("instance-unroutable", { app: app.guid });
    expect(isRoutable()).toBe(false);
    await call("DELETE", `/${id}`);
    expect(isRoutable()).toBe(true);
  });

  it("evacuates a cell", async () => {
    const cellsOf = () => diego.lrps.actuals(lrp()).map(({ instanceKey }) => instanceKey?.cellId);
    await eventually(() => cellsOf().every((cell) => cell !== "" && cell !== undefined));
    const [cell = ""] = cellsOf();
    const parameters = { cell };
    await inject("cell-evacuation", parameters);
    await eventually(() => cellsOf().length === 2 && cellsOf().every((one) => one !== "" && one !== cell));
  });

  it("cuts the connection to NATS, and mends it", async () => {
    const router = await connect({ servers: natsServer });
    cleanups.push(() => router.close());
    await inject("nats-disconnect");
    // Whoever has a connection greets routers each second until one answers.
    const greeting = router.subscribe("router.greet", { max: 1 });
    const published = router.subscribe("router.register");
    expect((await list()).active.map(({ name }) => name)).toEqual(["nats-disconnect"]);
    await call("DELETE", "");
    for await (const message of greeting) message.respond("{}");
    expect(published.getReceived()).toBe(0);
  });
});
