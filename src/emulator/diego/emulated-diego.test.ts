import { once } from "node:events";
import { request } from "node:https";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { connect as connectTls } from "node:tls";
import { fromBinary } from "@bufbuild/protobuf";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { built } from "../../../test/support/built.js";
import { call, encode, type Frame, inWords, RawEvents } from "../../../test/support/raw-bbs-client.js";
import {
  type ActualLRP,
  ActualLRPInstanceChangedEventSchema,
  ActualLRPsByProcessGuidsRequestSchema,
  ActualLRPsRequestSchema,
  ActualLRPsResponseSchema,
  DesiredLRPByProcessGuidRequestSchema,
  DesiredLRPResponseSchema,
  DesiredLRPsRequestSchema,
  DesiredLRPsResponseSchema,
  DomainsResponseSchema,
  PingResponseSchema,
  Presence,
} from "../../gen/bbs/v1/bbs_pb.js";
import { silentLogger } from "../../lib/logger.js";
import { type Certificates, createCertificates } from "../certificates.js";
import type { DesiredProcess } from "./diego.js";
import { type DiegoOptions, type EmulatedDiego, startDiego } from "./emulated-diego.js";

const PROCESS_GUID = "11111111-1111-4111-8111-111111111111-22222222-2222-4222-8222-222222222222";
const OTHER_VERSION = "11111111-1111-4111-8111-111111111111-33333333-3333-4333-8333-333333333333";

let certificates: Certificates;
beforeAll(async () => {
  certificates = await createCertificates();
});

async function start(options: Partial<DiegoOptions> = {}): Promise<TestDiego> {
  const diego = await startDiego({ host: "127.0.0.1", bbsPort: 0, certificates, logger: silentLogger, ...options });
  onTestFinished(() => diego.close());
  return new TestDiego(diego);
}

class TestDiego {
  readonly diego: EmulatedDiego;

  constructor(diego: EmulatedDiego) {
    this.diego = diego;
  }

  get bbs() {
    return { url: this.diego.bbsUrl, certificates };
  }

  async events(cellId = ""): Promise<RawEvents> {
    const { events } = await RawEvents.open(this.bbs, cellId);
    onTestFinished(() => events.close());
    return events;
  }

  async actuals(init: { cellId?: string; processGuid?: string; index?: number; domain?: string } = {}) {
    const body = encode(ActualLRPsRequestSchema, init);
    return (await call(this.bbs, "/v1/actual_lrps/list", ActualLRPsResponseSchema, body)).actualLrps;
  }

  async running(count: number, lrpProcessGuid = PROCESS_GUID): Promise<void> {
    await this.diego.whenRunning(lrpProcessGuid, count, AbortSignal.timeout(20_000));
  }
}

/** The sample app, unless the test says otherwise. */
function app(changes: Partial<DesiredProcess> = {}): DesiredProcess {
  return {
    lrpProcessGuid: PROCESS_GUID,
    appGuid: "app-guid",
    instances: 1,
    ports: [8_080],
    command: [process.execPath, built("src/emulator/sample-app/main.ts"), "hello"],
    workingDirectory: tmpdir(),
    environment: { LAME_DUCK_MS: "0" },
    vcapApplication: { name: "shop" },
    routes: { "cf-router": [{ hostnames: ["shop.example.com"], port: 8_080 }], "internal-router": [] },
    metricTags: { source_id: "app-guid" },
    annotation: "1700000000.0",
    placementTags: [],
    ...changes,
  };
}

/** A process that only listens, or does what `script` says; light enough for many. */
function script(code: string, changes: Partial<DesiredProcess> = {}): DesiredProcess {
  return app({ command: [process.execPath, "-e", code], ...changes });
}
const LISTEN = 'require("net").createServer().listen(process.env.PORT, "127.0.0.1")';

function portOf({ netInfo }: ActualLRP): number {
  return netInfo?.ports[0]?.hostPort ?? 0;
}

async function get(port: number, path = "/"): Promise<Record<string, unknown>> {
  return (await (await fetch(`http://127.0.0.1:${port}${path}`)).json()) as Record<string, unknown>;
}

describe("the BBS", () => {
  it("answers over mTLS only", async () => {
    const { bbs } = await start();
    expect((await call(bbs, "/v1/ping", PingResponseSchema)).available).toBe(true);
    const stranger = request(`${bbs.url}/v1/ping`, { method: "POST", ca: certificates.ca, agent: false });
    stranger.end();
    await expect(once(stranger, "response")).rejects.toThrow();
  });

  it("lists its domain while it is fresh", async () => {
    const { bbs, diego } = await start();
    const domains = async () => (await call(bbs, "/v1/domains/list", DomainsResponseSchema)).domains;
    expect(await domains()).toEqual(["cf-apps"]);
    diego.faults.setDomainFresh(false);
    expect(await domains()).toEqual([]);
  });

  it("knows no other paths", async () => {
    const { bbs } = await start();
    const listing = call(bbs, "/v1/desired_lrp_scheduling_infos/list", DesiredLRPsResponseSchema);
    await expect(listing).rejects.toThrow("status 404");
  });

  it("tells of what is desired, all of it or what routes need", async () => {
    const { bbs, diego } = await start();
    await diego.desire(app({ instances: 0 }));
    await diego.desire(app({ instances: 0, lrpProcessGuid: OTHER_VERSION }));
    const list = async (path: string, init: { processGuids?: string[]; appGuids?: string[]; domain?: string } = {}) =>
      (await call(bbs, path, DesiredLRPsResponseSchema, encode(DesiredLRPsRequestSchema, init))).desiredLrps;

    const [info] = await list("/v1/desired_lrp_routing_infos/list", { processGuids: [PROCESS_GUID] });
    expect(info).toMatchObject({ processGuid: PROCESS_GUID, domain: "cf-apps", logGuid: "app-guid", instances: 0 });
    expect(info).toMatchObject({ annotation: "", ports: [], modificationTag: { index: 0 } });
    expect(info?.metricTags["source_id"]?.static).toBe("app-guid");
    const cfRouter = Buffer.from(info?.routes?.routes["cf-router"] ?? []).toString();
    expect(JSON.parse(cfRouter)).toEqual([{ hostnames: ["shop.example.com"], port: 8_080 }]);

    const all = await list("/v1/desired_lrps/list.r3");
    expect(all.map(({ processGuid }) => processGuid)).toEqual([PROCESS_GUID, OTHER_VERSION]);
    expect(all[0]).toMatchObject({ annotation: "1700000000.0", ports: [8_080], metricsGuid: "app-guid" });
    expect(await list("/v1/desired_lrps/list.r3", { domain: "other" })).toEqual([]);
    expect(await list("/v1/desired_lrps/list.r3", { appGuids: ["other"] })).toEqual([]);
  });

  it("puts its errors into answers of status 200", async () => {
    const { bbs, diego } = await start();
    await diego.desire(app({ instances: 0 }));
    const path = "/v1/desired_lrps/get_by_process_guid.r3";
    const find = (processGuid: string) =>
      call(bbs, path, DesiredLRPResponseSchema, encode(DesiredLRPByProcessGuidRequestSchema, { processGuid }));
    expect((await find(PROCESS_GUID)).desiredLrp?.processGuid).toBe(PROCESS_GUID);
    expect((await find("unknown")).error?.type).toBe(13);
    const invalid = await call(bbs, "/v1/actual_lrps/list", ActualLRPsResponseSchema, Buffer.from([0x0a, 0x7f]));
    expect(invalid.error?.type).toBe(4);
  });

  it("lists instances by cell, process and index", async () => {
    const { actuals, bbs, diego } = await bindActuals();
    await diego.addSyntheticProcesses([
      { lrpProcessGuid: PROCESS_GUID, appGuid: "a", instances: 3, routes: {} },
      { lrpProcessGuid: OTHER_VERSION, appGuid: "a", instances: 1, routes: {} },
    ]);
    expect(await actuals()).toHaveLength(4);
    expect(await actuals({ cellId: "cell-2" })).toHaveLength(1);
    expect(await actuals({ processGuid: PROCESS_GUID })).toHaveLength(3);
    expect(await actuals({ processGuid: PROCESS_GUID, index: 0 })).toHaveLength(1);
    expect(await actuals({ domain: "other" })).toHaveLength(0);
    const body = encode(ActualLRPsByProcessGuidsRequestSchema, { processGuids: [OTHER_VERSION, "unknown"] });
    const path = "/v1/actual_lrps/list_by_process_guids";
    expect((await call(bbs, path, ActualLRPsResponseSchema, body)).actualLrps).toHaveLength(1);
  });
});

async function bindActuals() {
  const test = await start();
  return { actuals: test.actuals.bind(test), bbs: test.bbs, diego: test.diego };
}

describe("the event stream", () => {
  it("is framed like the BBS's own, with ids from 0 on each connection", async () => {
    const { bbs, diego } = await start();
    const { events, head } = await RawEvents.open(bbs);
    onTestFinished(() => events.close());
    expect(head).toMatch(/^HTTP\/1.1 200 OK\r\n/);
    expect(head.toLowerCase()).toContain("transfer-encoding: chunked\r\n");
    expect(head.toLowerCase()).toContain("content-type: text/event-stream; charset=utf-8\r\n");
    diego.faults.sendUnknownEvent();
    diego.faults.sendUnknownEvent();
    expect((await events.next()).id).toBe(0);
    expect((await events.next()).id).toBe(1);
  });

  it("tells every step of an instance, from the desire to the end", async () => {
    const test = await start();
    const events = await test.events();
    await test.diego.desire(app());
    expect(await events.words(4)).toEqual([
      "desired created 1",
      "created 0 UNCLAIMED",
      "changed 0 UNCLAIMED>CLAIMED",
      "changed 0 CLAIMED>RUNNING",
    ]);
    await test.diego.remove(PROCESS_GUID);
    expect(await events.words(2)).toEqual(["desired removed 1", "removed 0 RUNNING"]);
    expect(await test.actuals()).toEqual([]);
  });

  it("counts modification tags up, and keeps their epoch", async () => {
    const test = await start();
    const events = await test.events();
    await test.diego.desire(script(LISTEN));
    await events.words(2);
    const tags = [];
    for (let i = 0; i < 2; i++) {
      const { data } = await events.next();
      const { before, after } = fromBinary(ActualLRPInstanceChangedEventSchema, Buffer.from(data, "base64"));
      expect(after?.modificationTag?.epoch).toBe(before?.modificationTag?.epoch);
      tags.push([before?.modificationTag?.index, after?.modificationTag?.index]);
    }
    expect(tags).toEqual([
      [0, 1],
      [1, 2],
    ]);
  });

  it("sends events about instances of one cell only, when asked, and all about what is desired", async () => {
    const test = await start();
    const events = await test.events("cell-2");
    await test.diego.addSyntheticProcesses([
      { lrpProcessGuid: PROCESS_GUID, appGuid: "a", instances: 2, routes: {} },
      { lrpProcessGuid: OTHER_VERSION, appGuid: "a", instances: 0, routes: {} },
    ]);
    expect(await events.words(3)).toEqual(["desired created 2", "created 1 RUNNING", "desired created 0"]);
  });

  it("tells of a change of routes, and nothing when nothing changed", async () => {
    const test = await start();
    const events = await test.events();
    await test.diego.desire(app({ instances: 0 }));
    await test.diego.desire(app({ instances: 0 }));
    await test.diego.desire(app({ instances: 0, routes: { "cf-router": [] } }));
    expect(await events.words(2)).toEqual(["desired created 0", "desired changed 0>0"]);
  });

  it("does not cut a client that reads while many processes are added", async () => {
    const test = await start();
    const events = await test.events();
    const processes = Array.from({ length: 2_000 }, (_, i) => ({
      lrpProcessGuid: `process-${i}`,
      appGuid: "a",
      instances: 1,
      routes: {},
    }));
    const [words] = await Promise.all([events.words(4_000), test.diego.addSyntheticProcesses(processes)]);
    expect(words.filter((word) => word === "created 0 RUNNING")).toHaveLength(2_000);
    expect(await test.actuals()).toHaveLength(2_000);
  });
});

describe("app instances", () => {
  it("are reachable where the BBS says, and know who they are", async () => {
    const test = await start();
    await test.diego.desire(app({ instances: 2 }));
    await test.running(2);
    for (const lrp of await test.actuals()) {
      expect(lrp.netInfo).toMatchObject({ address: "127.0.0.1", ports: [{ containerPort: 8_080 }] });
      expect(await get(portOf(lrp))).toMatchObject({
        app: "shop",
        greeting: "hello",
        index: lrp.key?.index,
        guid: lrp.instanceKey?.instanceGuid,
      });
    }
    const zones = (await test.actuals()).map(({ availabilityZone }) => availabilityZone);
    expect(zones).toEqual(["z1", "z2"]);
  });

  it("find Cloud Foundry's variables in their environment, and none of ours", async () => {
    process.env["SECRET_OF_THE_PARENT"] = "x";
    onTestFinished(() => {
      delete process.env["SECRET_OF_THE_PARENT"];
    });
    const test = await start();
    const tellEnvironment = `console.log(JSON.stringify(process.env)); ${LISTEN}`;
    await test.diego.desire(script(tellEnvironment, { ports: [8_080, 9_090], environment: { OWN: "1" } }));
    await test.running(1);
    const [lrp] = await test.actuals();
    const [first, second] = lrp?.netInfo?.ports ?? [];
    expect([first?.containerPort, second?.containerPort]).toEqual([8_080, 9_090]);
    const output = test.diego.output(PROCESS_GUID, 0);
    const environment = JSON.parse(output[0]?.text ?? "{}") as Record<string, string>;
    expect(environment).toMatchObject({
      OWN: "1",
      PORT: String(first?.hostPort),
      PORTS: `${first?.hostPort ?? 0},${second?.hostPort ?? 0}`,
      CF_INSTANCE_GUID: lrp?.instanceKey?.instanceGuid,
      INSTANCE_GUID: lrp?.instanceKey?.instanceGuid,
      CF_INSTANCE_INDEX: "0",
      INSTANCE_INDEX: "0",
      CF_INSTANCE_IP: "127.0.0.1",
      CF_INSTANCE_INTERNAL_IP: "127.0.0.1",
      CF_INSTANCE_PORT: String(first?.hostPort),
      CF_INSTANCE_ADDR: `127.0.0.1:${first?.hostPort ?? 0}`,
    });
    expect(JSON.parse(environment["CF_INSTANCE_PORTS"] ?? "")).toEqual([
      { external: first?.hostPort, internal: 8_080 },
      { external: second?.hostPort, internal: 9_090 },
    ]);
    expect(JSON.parse(environment["VCAP_APPLICATION"] ?? "")).toMatchObject({
      name: "shop",
      instance_id: lrp?.instanceKey?.instanceGuid,
      instance_index: 0,
      port: first?.hostPort,
    });
    expect(environment).not.toHaveProperty("SECRET_OF_THE_PARENT");
  });

  it("are told to Cloud Controller in the order of their indexes", async () => {
    const test = await start();
    await test.diego.desire(script(LISTEN, { instances: 2 }));
    expect(test.diego.instances(PROCESS_GUID).map(({ state }) => state)).toEqual(["STARTING", "STARTING"]);
    await test.running(2);
    const instances = test.diego.instances(PROCESS_GUID);
    expect(instances.map(({ index, state, host }) => ({ index, state, host }))).toEqual([
      { index: 0, state: "RUNNING", host: "127.0.0.1" },
      { index: 1, state: "RUNNING", host: "127.0.0.1" },
    ]);
    expect(instances[0]?.ports[0]?.internal).toBe(8_080);
    expect(Date.now() - (instances[0]?.sinceMs ?? 0)).toBeLessThan(20_000);
  });

  it("grow and shrink in number, from the highest index", async () => {
    const test = await start();
    await test.diego.desire(script(LISTEN));
    await test.running(1);
    await test.diego.desire(script(LISTEN, { instances: 3 }));
    await test.running(3);
    const events = await test.events();
    await test.diego.desire(script(LISTEN, { instances: 1 }));
    expect(await events.words(3)).toEqual(["desired changed 3>1", "removed 2 RUNNING", "removed 1 RUNNING"]);
    expect(test.diego.instances(PROCESS_GUID).map(({ index }) => index)).toEqual([0]);
  });

  it("run in several versions beside each other", async () => {
    const test = await start();
    await test.diego.desire(script(LISTEN));
    await test.diego.desire(script(LISTEN, { lrpProcessGuid: OTHER_VERSION }));
    await Promise.all([test.running(1), test.running(1, OTHER_VERSION)]);
    await test.diego.remove(PROCESS_GUID);
    expect((await test.actuals()).map(({ key }) => key?.processGuid)).toEqual([OTHER_VERSION]);
  });

  it("finish what they have when they are stopped", async () => {
    const test = await start();
    await test.diego.desire(app());
    await test.running(1);
    const [lrp] = await test.actuals();
    const upload = new TransformStream<Uint8Array, Uint8Array>();
    const writer = upload.writable.getWriter();
    const body = upload.readable;
    const echoed = fetch(`http://127.0.0.1:${portOf(lrp as ActualLRP)}/echo`, { method: "POST", body, duplex: "half" });
    await writer.write(Buffer.from("be"));
    const response = await echoed;
    await test.diego.remove(PROCESS_GUID);
    expect(await test.actuals()).toEqual([]);
    await writer.write(Buffer.from("fore"));
    await writer.close();
    expect(await response.text()).toBe("before");
  });

  it("are killed when they don't end in the grace period", async () => {
    const test = await start({ stopGraceMs: 50 });
    const deaf = `process.on("SIGTERM", () => {}); ${LISTEN}`;
    await test.diego.desire(script(deaf));
    await test.running(1);
    const port = portOf((await test.actuals())[0] as ActualLRP);
    const connection = connect(port, "127.0.0.1");
    await once(connection, "connect");
    const closed = once(connection, "close");
    await test.diego.remove(PROCESS_GUID);
    connection.resume();
    await closed;
  });

  it("are replaced when Cloud Controller asks for a restart of one", async () => {
    const test = await start();
    await test.diego.desire(script(LISTEN, { instances: 2 }));
    await test.running(2);
    const before = test.diego.instances(PROCESS_GUID).map(({ guid }) => guid);
    const events = await test.events();
    await test.diego.restartInstance(PROCESS_GUID, 1);
    await test.running(2);
    expect(await events.words(4)).toEqual([
      "removed 1 RUNNING",
      "created 1 UNCLAIMED",
      "changed 1 UNCLAIMED>CLAIMED",
      "changed 1 CLAIMED>RUNNING",
    ]);
    const after = test.diego.instances(PROCESS_GUID).map(({ guid }) => guid);
    expect(after[0]).toBe(before[0]);
    expect(after[1]).not.toBe(before[1]);
  });
});

describe("a crash", () => {
  it("of a killed instance is told first, and another instance starts", async () => {
    const test = await start();
    await test.diego.desire(script(LISTEN));
    await test.running(1);
    const events = await test.events();
    process.kill(test.diego.pid(PROCESS_GUID, 0) ?? 0, "SIGKILL");
    expect(await events.words(5)).toEqual([
      "crashed 0 time 1",
      "created 0 UNCLAIMED",
      "removed 0 RUNNING",
      "changed 0 UNCLAIMED>CLAIMED",
      "changed 0 CLAIMED>RUNNING",
    ]);
    const [lrp] = await test.actuals();
    expect(lrp).toMatchObject({ crashCount: 1, crashReason: "Exited with status 137" });
  });

  it("is answered at once twice, and after a pause from the third on", async () => {
    const test = await start({ crashBackoffMs: 30 });
    const events = await test.events();
    await test.diego.desire(script("process.exit(3)"));
    const words = await events.words(15);
    expect(words.filter((word) => word.startsWith("crashed"))).toEqual([
      "crashed 0 time 1",
      "crashed 0 time 2",
      "crashed 0 time 3",
    ]);
    expect(words.slice(10)).toEqual([
      "changed 0 UNCLAIMED>CLAIMED",
      "crashed 0 time 3",
      "changed 0 CLAIMED>CRASHED",
      "created 0 UNCLAIMED",
      "removed 0 CRASHED",
    ]);
  });

  it("is what becomes of an instance that never listens", async () => {
    const test = await start({ startTimeoutMs: 100, stopGraceMs: 50 });
    const events = await test.events();
    await test.diego.desire(script("setInterval(() => {}, 1000)"));
    expect(await events.words(4)).toContain("crashed 0 time 1");
    const [lrp] = await test.actuals();
    expect(lrp?.crashReason).toContain("never healthy after 100 ms");
  });

  it("is what becomes of a program that does not exist, with the reason in its output", async () => {
    const test = await start();
    const events = await test.events();
    await test.diego.desire(app({ command: ["/no/such/program"] }));
    const words = await events.words(4);
    expect(words).toContain("crashed 0 time 1");
    expect((await test.actuals())[0]?.crashReason).toContain("127");
  });
});

describe("faults", () => {
  it("move an instance away while it serves", async () => {
    const test = await start({ cellPollMs: 10 });
    await test.diego.desire(app());
    await test.running(1);
    const events = await test.events();
    test.diego.faults.evacuate(PROCESS_GUID, 0);
    const during = await test.actuals();
    const old = during.find(({ presence }) => presence === Presence.EVACUATING);
    expect((await get(portOf(old as ActualLRP)))["guid"]).toBe(old?.instanceKey?.instanceGuid);
    expect(await events.words(5)).toEqual([
      "changed 0 RUNNING>RUNNING presence 1",
      "created 0 UNCLAIMED",
      "changed 0 UNCLAIMED>CLAIMED",
      "changed 0 CLAIMED>RUNNING",
      "removed 0 RUNNING",
    ]);
    const [lrp, ...others] = await test.actuals();
    expect(others).toEqual([]);
    expect(lrp?.instanceKey?.cellId).not.toBe(old?.instanceKey?.cellId);
  });

  it("make an instance suspect until its replacement runs, and stop it then", async () => {
    const test = await start({ cellPollMs: 10 });
    await test.diego.desire(script(LISTEN));
    await test.running(1);
    const events = await test.events();
    test.diego.faults.suspect(PROCESS_GUID, 0);
    expect(await events.words(5)).toEqual([
      "changed 0 RUNNING>RUNNING presence 2",
      "created 0 UNCLAIMED",
      "changed 0 UNCLAIMED>CLAIMED",
      "changed 0 CLAIMED>RUNNING",
      "removed 0 RUNNING",
    ]);
  });

  it("drop an evacuating instance that dies", async () => {
    const test = await start();
    const events = await test.events();
    await test.diego.desire(script(LISTEN));
    await test.running(1);
    const pid = test.diego.pid(PROCESS_GUID, 0) ?? 0;
    // The replacement never listens, so the old one stays until it dies.
    await test.diego.desire(script("setInterval(() => {}, 1000)"));
    test.diego.faults.evacuate(PROCESS_GUID, 0);
    await events.words(7);
    process.kill(pid, "SIGKILL");
    expect(await events.words(1)).toEqual(["removed 0 RUNNING"]);
  });

  it("make an instance unroutable, and hide its host ports", async () => {
    const test = await start();
    await test.diego.addSyntheticProcesses([
      { lrpProcessGuid: PROCESS_GUID, appGuid: "a", instances: 1, routes: {}, hostPort: 61_000 },
    ]);
    const events = await test.events();
    test.diego.faults.setRoutable(PROCESS_GUID, 0, false);
    const { data } = await events.next();
    const { before, after } = fromBinary(ActualLRPInstanceChangedEventSchema, Buffer.from(data, "base64"));
    expect([before?.routable, after?.routable]).toEqual([true, false]);
    test.diego.faults.hideHostPorts(PROCESS_GUID, 0);
    expect(portOf((await test.actuals())[0] as ActualLRP)).toBe(0);
  });

  it("leave an evacuating instance in place for a while when its replacement runs", async () => {
    const test = await start({ cellPollMs: 60_000 });
    await test.diego.desire(app());
    await test.running(1);
    test.diego.faults.evacuate(PROCESS_GUID, 0);
    await test.running(1);
    const lrps = await test.actuals();
    expect(lrps.map(({ presence, state }) => [presence, state])).toEqual([
      [Presence.EVACUATING, "RUNNING"],
      [Presence.ORDINARY, "RUNNING"],
    ]);
    for (const lrp of lrps) expect((await get(portOf(lrp)))["guid"]).toBe(lrp.instanceKey?.instanceGuid);
    await test.diego.remove(PROCESS_GUID);
    expect(await test.actuals()).toEqual([]);
  });

  it("cut event streams, and let clients come back", async () => {
    const test = await start();
    const events = await test.events();
    test.diego.faults.cutEventStreams();
    await expect(events.next()).rejects.toThrow();
    const again = await test.events();
    test.diego.faults.sendUnknownEvent();
    expect((await again.next()).id).toBe(0);
  });

  it("hold events and calls back while connections stay open", async () => {
    const test = await start();
    const events = await test.events();
    test.diego.faults.stall("everything");
    const order: string[] = [];
    const ping = call(test.bbs, "/v1/ping", PingResponseSchema).then(() => order.push("ping"));
    const frame = events.next().then(() => order.push("event"));
    test.diego.faults.sendUnknownEvent();
    // New connections are taken meanwhile: the server has had its turn.
    const { hostname, port } = new URL(test.bbs.url);
    const { ca, client } = certificates;
    const idle = connectTls({ host: hostname, port: Number(port), ca, cert: client.certificate, key: client.key });
    onTestFinished(() => void idle.destroy());
    await once(idle, "secureConnect");
    expect(order).toEqual([]);
    test.diego.faults.resume();
    await Promise.all([ping, frame]);
  });

  it("cut a client that is more than 1,024 events behind", async () => {
    const test = await start();
    const events = await test.events();
    test.diego.faults.stall("events");
    for (let i = 0; i < 1_024; i++) test.diego.faults.sendUnknownEvent();
    expect(test.diego.faults.eventStreamCount).toBe(1);
    test.diego.faults.sendUnknownEvent();
    await expect(events.next()).rejects.toThrow();
  });

  it("send what a client may not expect", async () => {
    const test = await start();
    const events = await test.events();
    const { faults } = test.diego;
    faults.sendUnknownEvent();
    faults.sendBrokenProtobuf();
    faults.sendBrokenBase64();
    faults.sendEmptyEvent();
    faults.sendHollowEvent();
    expect((await events.next()).name).toBe("actual_lrp_teleported");
    const broken = await events.next();
    expect(() => inWords(broken)).toThrow();
    expect((await events.next()).data).toContain("not base64");
    expect((await events.next()).data).toBe("");
    expect(inWords(await events.next())).toBe("changed ? ?>?");
  });

  it("send events twice, and in another order", async () => {
    const test = await start();
    const events = await test.events();
    test.diego.faults.duplicateEvents(1);
    await test.diego.addSyntheticProcesses([{ lrpProcessGuid: "a", appGuid: "a", instances: 1, routes: {} }]);
    expect(await events.words(3)).toEqual(["desired created 1", "desired created 1", "created 0 RUNNING"]);
    test.diego.faults.reverseEvents(3);
    await test.diego.addSyntheticProcesses([{ lrpProcessGuid: "b", appGuid: "a", instances: 3, routes: {} }]);
    const frames: Frame[] = [];
    while (frames.length < 4) frames.push(await events.next());
    expect(frames.map(inWords)).toEqual([
      "created 1 RUNNING",
      "created 0 RUNNING",
      "desired created 3",
      "created 2 RUNNING",
    ]);
    expect(frames.map(({ id }) => id)).toEqual([3, 4, 5, 6]);
  });

  it("spoil the answers to calls, for one path or for all", async () => {
    const { actuals, bbs, diego } = await bindActuals();
    await diego.addSyntheticProcesses([{ lrpProcessGuid: "a", appGuid: "a", instances: 1, routes: {} }]);
    const path = "/v1/actual_lrps/list";
    diego.faults.answerBadly("status 500", path);
    await expect(actuals()).rejects.toThrow("status 500");
    expect((await call(bbs, "/v1/ping", PingResponseSchema)).available).toBe(true);
    diego.faults.answerBadly("error", path);
    expect((await call(bbs, path, ActualLRPsResponseSchema)).error?.message).not.toBe("");
    diego.faults.answerBadly("garbage", path);
    await expect(actuals()).rejects.toThrow();
    diego.faults.answerBadly("truncated", path);
    await expect(actuals()).rejects.toThrow("aborted");
    diego.faults.answerWell(path);
    expect(await actuals()).toHaveLength(1);
    diego.faults.answerBadly("truncated");
    await expect(call(bbs, "/v1/domains/list", DomainsResponseSchema)).rejects.toThrow();
  });

  it("refuse connections, and accept them again at the same address", async () => {
    const test = await start();
    const events = await test.events();
    await test.diego.faults.refuseConnections();
    await expect(events.next()).rejects.toThrow();
    await expect(test.actuals()).rejects.toThrow("ECONNREFUSED");
    await test.diego.faults.acceptConnections();
    expect(await test.actuals()).toEqual([]);
  });
});

describe("the emulated Diego", () => {
  it("keeps callers waiting for instances no longer than they want, or than the process is there", async () => {
    const { diego } = await start();
    await diego.desire(script("setInterval(() => {}, 1000)"));
    const abort = new AbortController();
    const aborted = diego.whenRunning(PROCESS_GUID, 1, abort.signal);
    abort.abort();
    await expect(aborted).rejects.toThrow("aborted");
    const gone = diego.whenRunning(PROCESS_GUID, 1, AbortSignal.timeout(20_000));
    await diego.remove(PROCESS_GUID);
    await expect(gone).rejects.toThrow("gone");
  });

  it("says what is wrong with a port that is taken", async () => {
    const { diego } = await start();
    const bbsPort = Number(new URL(diego.bbsUrl).port);
    const second = startDiego({ host: "127.0.0.1", bbsPort, certificates, logger: silentLogger });
    await expect(second).rejects.toMatchObject({ code: "MESH_PORT_TAKEN" });
  });

  it("stops deaf apps, too, within 3 seconds", async () => {
    const diego = await startDiego({ host: "127.0.0.1", bbsPort: 0, certificates, logger: silentLogger });
    await diego.desire(script(`process.on("SIGTERM", () => {}); ${LISTEN}`, { instances: 2 }));
    await diego.whenRunning(PROCESS_GUID, 2, AbortSignal.timeout(20_000));
    const pids = [0, 1].map((index) => diego.pid(PROCESS_GUID, index) ?? 0);
    const before = performance.now();
    await diego.close();
    expect(performance.now() - before).toBeLessThan(3_000);
    for (const pid of pids) expect(() => process.kill(pid, 0)).toThrow("ESRCH");
  });
});
