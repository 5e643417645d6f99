import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { EventEmitter, once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server } from "node:https";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { type Certificates, createCertificates } from "../../emulator/certificates.js";
import { BbsRecords } from "../../emulator/diego/bbs-records.js";
import { BbsServer } from "../../emulator/diego/bbs-server.js";
import { decodeProcess, InstanceState, type Process } from "../../entries/entries.js";
import { KEY_SPACES } from "../../entries/keys.js";
import {
  type ActualLRP,
  ActualLRPCrashedEventSchema,
  ActualLRPInstanceChangedEventSchema,
  ActualLRPInstanceCreatedEventSchema,
  ActualLRPInstanceRemovedEventSchema,
  ActualLRPSchema,
  ActualLRPsResponseSchema,
  CellsResponseSchema,
  DomainsResponseSchema,
  PingResponseSchema,
  Presence,
} from "../../gen/bbs/v1/bbs_pb.js";
import { createLogger } from "../../lib/logger.js";
import { openEmbeddedLog } from "../../log/embedded.js";
import { type KeySpaceWriter, openKeySpaceWriter, type Want, type WriteCounts } from "../../log/key-space-writer.js";
import type { MeshLog } from "../../log/log.js";
import { type DiegoSourceOptions, diegoSource } from "./diego-source.js";

const SHOP = "5a1c0f6e-7f0e-4c0b-9a53-000000000001";
const CART = "5a1c0f6e-7f0e-4c0b-9a53-000000000002";
const VERSION = "c2f2f4f1-1111-4c0b-9a53-0000000000aa";
const LIST = "/v1/actual_lrps/list";

let certificates: Certificates;
beforeAll(async () => {
  certificates = await createCertificates();
});

type LrpInit = Exclude<MessageInitShape<typeof ActualLRPSchema>, ActualLRP>;

/** Tells whoever waits that something happened. */
class Happenings extends EventEmitter {
  happened(): void {
    this.emit("happened");
  }

  /** Resolves as soon as `look` returns true. */
  async until(look: () => boolean): Promise<void> {
    while (!look()) await once(this, "happened", { signal: AbortSignal.timeout(10_000) });
  }
}

/** The BBS's protocol, with actual LRPs that a test moves by hand. */
class ScriptedBbs {
  readonly happenings = new Happenings();
  readonly lrps = new Map<string, ActualLRP>();
  /** Placement tags by cell. */
  readonly cells = new Map([["cell-1", [] as string[]]]);
  readonly #streams = new Set<Socket>();
  readonly #sockets = new Set<Socket>();
  readonly #server: Server;
  #port = 0;
  subscriptionCount = 0;
  listCount = 0;
  cellListCount = 0;
  pingCount = 0;
  isFresh = true;
  isSilent = false;
  /** Events are not sent, as if they were lost. */
  isDeaf = false;
  /** Runs before a call is answered; what it returns is the status. */
  beforeAnswer: (path: string) => Promise<number> | number = () => 200;

  constructor() {
    const { ca, server: identity } = certificates;
    const tls = { ca, cert: identity.certificate, key: identity.key, requestCert: true, rejectUnauthorized: true };
    this.#server = createServer(tls, (request, response) => void this.#answer(request, response));
    this.#server.on("secureConnection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on("error", () => undefined).on("close", () => this.#sockets.delete(socket));
    });
  }

  get url(): string {
    return `https://127.0.0.1:${this.#port}`;
  }

  async start(): Promise<this> {
    this.#server.listen(this.#port, "127.0.0.1");
    await once(this.#server, "listening");
    this.#port = (this.#server.address() as AddressInfo).port;
    return this;
  }

  async stop(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  cutStreams(): void {
    for (const socket of this.#streams) socket.destroy();
  }

  /** Creates an instance that runs, with the events of one that starts. */
  run(guid: string, changes: LrpInit = {}): void {
    const lrp = create(ActualLRPSchema, {
      key: { processGuid: `${SHOP}-${VERSION}`, index: 0, domain: "cf-apps" },
      instanceKey: { instanceGuid: guid, cellId: "cell-1" },
      netInfo: { address: "10.0.1.5", ports: [{ containerPort: 8080, hostPort: 61001 }] },
      state: "RUNNING",
      modificationTag: { epoch: guid, index: 1 },
      metricTags: { app_id: "shop-app" },
      ...changes,
    });
    this.lrps.set(guid, lrp);
    this.send("actual_lrp_instance_created", ActualLRPInstanceCreatedEventSchema, { actualLrp: lrp });
  }

  change(guid: string, changes: Partial<Pick<ActualLRP, "presence" | "routable" | "state">>): void {
    const before = this.#lrp(guid);
    const modificationTag = { epoch: guid, index: (before.modificationTag?.index ?? 0) + 1 };
    const { key, instanceKey, netInfo, presence, routable, state } = { ...before, ...changes };
    const info = { presence, state, ...(netInfo && { netInfo }), ...(routable !== undefined && { routable }) };
    this.lrps.set(guid, create(ActualLRPSchema, { ...info, ...pair(key, instanceKey), modificationTag }));
    this.send("actual_lrp_instance_changed", ActualLRPInstanceChangedEventSchema, {
      ...pair(key, instanceKey),
      after: { ...info, modificationTag },
    });
  }

  crash(guid: string): void {
    const { key, instanceKey } = this.#lrp(guid);
    this.send("actual_lrp_crashed", ActualLRPCrashedEventSchema, pair(key, instanceKey));
    this.change(guid, { state: "CRASHED" });
  }

  remove(guid: string): void {
    const actualLrp = this.#lrp(guid);
    this.lrps.delete(guid);
    this.send("actual_lrp_instance_removed", ActualLRPInstanceRemovedEventSchema, { actualLrp });
  }

  send<Schema extends DescMessage>(event: string, schema: Schema, message: MessageInitShape<Schema>): void {
    this.sendRaw(event, Buffer.from(toBinary(schema, create(schema, message))).toString("base64"));
  }

  sendRaw(event: string, data: string): void {
    if (this.isDeaf) return;
    const text = `id: 0\nevent: ${event}\ndata: ${data}\n\n`;
    for (const socket of this.#streams) socket.write(`${text.length.toString(16)};\r\n${text}\r\n`);
  }

  #lrp(guid: string): ActualLRP {
    const lrp = this.lrps.get(guid);
    if (!lrp) throw new Error(`no instance ${guid}`);
    return lrp;
  }

  async #answer({ url = "", socket }: IncomingMessage, response: ServerResponse): Promise<void> {
    if (this.isSilent) return;
    const snapshot = create(ActualLRPsResponseSchema, { actualLrps: [...this.lrps.values()] });
    const status = await this.beforeAnswer(url);
    if (status !== 200) {
      response.writeHead(status).end();
      return;
    }
    if (url === "/v1/events/lrp_instances.r1") {
      this.subscriptionCount += 1;
      this.#streams.add(socket);
      socket.on("close", () => this.#streams.delete(socket));
      socket.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
    }
    if (url === "/v1/ping") {
      this.pingCount += 1;
      response.end(toBinary(PingResponseSchema, create(PingResponseSchema, { available: true })));
    }
    if (url === "/v1/domains/list") {
      const domains = this.isFresh ? ["cf-apps"] : [];
      response.end(toBinary(DomainsResponseSchema, create(DomainsResponseSchema, { domains })));
    }
    if (url === "/v1/cells/list.r1") {
      this.cellListCount += 1;
      const cells = [...this.cells].map(([cellId, placementTags]) => ({ cellId, placementTags }));
      response.end(toBinary(CellsResponseSchema, create(CellsResponseSchema, { cells })));
    }
    if (url === LIST) {
      this.listCount += 1;
      response.end(toBinary(ActualLRPsResponseSchema, snapshot));
    }
    this.happenings.happened();
  }
}

function pair(key: ActualLRP["key"], instanceKey: ActualLRP["instanceKey"]) {
  return { ...(key && { key }), ...(instanceKey && { instanceKey }) };
}

/** A key space in memory, which counts its writes. */
class MemoryWriter implements KeySpaceWriter {
  readonly keySpace = KEY_SPACES.diegoProcesses;
  readonly values = new Map<string, Uint8Array>();
  readonly happenings = new Happenings();
  applyCount = 0;
  beforeWrite: () => Promise<void> | void = () => undefined;

  async apply(wants: readonly Want[]): Promise<WriteCounts> {
    await this.beforeWrite();
    this.applyCount += 1;
    for (const { key, value } of wants) {
      if (value) this.values.set(key, value);
      else this.values.delete(key);
    }
    this.happenings.happened();
    return { written: wants.length, deleted: 0, unchanged: 0 };
  }

  async replaceAll(wants: Iterable<Want>): Promise<WriteCounts> {
    const all = [...wants];
    const wanted = new Set(all.map(({ key }) => key));
    return this.apply([...all, ...[...this.keys()].filter((key) => !wanted.has(key)).map(gone)]);
  }

  complete(): Promise<void> {
    return Promise.resolve();
  }

  keys(): IterableIterator<string> {
    return this.values.keys();
  }

  process(guid = SHOP): Process | undefined {
    const value = this.values.get(this.keySpace + guid);
    return value && decodeProcess(value);
  }

  /** Resolves when the process's entry holds these instances; a state may follow the guid: "a SUSPECT". */
  async holds(guids: readonly string[], process = SHOP): Promise<void> {
    const shown = () =>
      (this.process(process)?.instances ?? []).map(({ guid, state }) =>
        state === InstanceState.RUNNING ? guid : `${guid} ${InstanceState[state]}`,
      );
    await this.happenings.until(() => shown().join() === guids.join());
  }
}

const gone = (key: string): Want => ({ key, value: undefined });

/** What was logged, line by line. */
class LogLines extends Writable {
  readonly happenings = new Happenings();
  readonly lines: { level: string; msg: string }[] = [];

  override _write(chunk: Buffer, _: BufferEncoding, done: () => void): void {
    this.lines.push(JSON.parse(chunk.toString()) as { level: string; msg: string });
    this.happenings.happened();
    done();
  }

  matching(text: string): readonly string[] {
    return this.lines.map(({ msg }) => msg).filter((msg) => msg.includes(text));
  }

  async says(text: string, times = 1): Promise<void> {
    await this.happenings.until(() => this.matching(text).length >= times);
  }
}

async function bbs(): Promise<ScriptedBbs> {
  const started = await new ScriptedBbs().start();
  onTestFinished(() => started.stop());
  return started;
}

/** A source that runs until the test ends, or is stopped. */
function start(urls: readonly string[], writer: KeySpaceWriter, options: Partial<DiegoSourceOptions> = {}) {
  const logged = new LogLines();
  const credentials = { ca: certificates.ca, ...certificates.client };
  const source = diegoSource({
    urls,
    credentials: () => credentials,
    resyncIntervalMs: 60_000,
    logger: createLogger("debug", logged),
    ...options,
  });
  const ending = new AbortController();
  const running = source.run(writer, ending.signal);
  const stop = async () => {
    ending.abort();
    await running;
  };
  onTestFinished(stop);
  return { source, logged, stop };
}

function follow(urls: readonly string[], options: Partial<DiegoSourceOptions> = {}, writer = new MemoryWriter()) {
  return { ...start(urls, writer, options), writer };
}

/** A BBS with one running instance, and a source that follows it. */
async function following(options: Partial<DiegoSourceOptions> = {}) {
  const server = await bbs();
  server.run("a");
  const followed = follow([server.url], options);
  await followed.logged.says("following Diego's instances");
  await followed.writer.holds(["a"]);
  return { server, ...followed };
}

describe("the Diego source", () => {
  it("writes what runs, and then each change as its event comes", async () => {
    const { server, source, writer } = await following();
    expect(source.status).toMatchObject({ state: "following", lastError: undefined });
    expect(writer.process()).toMatchObject({ processGuid: SHOP, appGuid: "shop-app" });

    server.run("b", { key: { processGuid: `${SHOP}-${VERSION}`, index: 1, domain: "cf-apps" } });
    await writer.holds(["a", "b"]);
    server.change("a", { presence: Presence.EVACUATING });
    await writer.holds(["a EVACUATING", "b"]);
    server.change("b", { presence: Presence.SUSPECT });
    await writer.holds(["a EVACUATING", "b SUSPECT"]);
    server.change("a", { presence: Presence.ORDINARY, routable: false });
    await writer.holds(["b SUSPECT"]);
    server.change("a", { routable: true });
    await writer.holds(["a", "b SUSPECT"]);
    server.crash("a");
    await writer.holds(["b SUSPECT"]);
    server.remove("b");
    await writer.holds([]);
    expect([...writer.keys()]).toEqual([]);
    expect(server.listCount).toBe(1);
    expect(source.counts).toMatchObject({ subscriptions: 1, lists: 1, brokenEvents: 0, repairedProcesses: 0 });
  });

  it("deletes what an earlier run left and nobody runs any more", async () => {
    const server = await bbs();
    const writer = new MemoryWriter();
    writer.values.set(`process.bbs.${CART}`, new Uint8Array(0));
    server.run("a");
    follow([server.url], {}, writer);
    await writer.holds(["a"]);
    expect([...writer.keys()]).toEqual([`process.bbs.${SHOP}`]);
  });

  it("joins the events that come while a write is under way", async () => {
    const { server, writer } = await following();
    const before = writer.applyCount;
    const writing = new Happenings();
    let isHeld = true;
    writer.beforeWrite = async () => {
      writing.happened();
      await writing.until(() => !isHeld);
    };
    const begun = once(writing, "happened");
    server.run("b");
    await begun;
    const guids = Array.from({ length: 50 }, (_, index) => `c${String(index).padStart(2, "0")}`);
    for (const guid of guids) server.run(guid);
    server.sendRaw("marker", "AAAA");
    isHeld = false;
    writing.happened();
    await writer.holds(["a", "b", ...guids]);
    expect(writer.applyCount - before).toBeLessThan(10);
  });

  it("keeps the events that come while the list is read, and applies them after it", async () => {
    const server = await bbs();
    server.run("a");
    server.run("goes");
    server.beforeAnswer = (path) => {
      if (path === LIST) {
        server.beforeAnswer = () => 200;
        server.remove("goes");
        server.run("comes");
      }
      return 200;
    };
    const { writer } = follow([server.url]);
    await writer.holds(["a", "comes"]);
    expect(server.listCount).toBe(1);
  });

  it("subscribes again and lists when the stream is cut: what was missed is made up for", async () => {
    const { server, source, writer, logged } = await following();
    server.isDeaf = true;
    server.run("missed");
    server.isDeaf = false;
    server.cutStreams();
    await writer.holds(["a", "missed"]);
    await logged.says("following Diego's instances", 2);
    expect(server.subscriptionCount).toBe(2);
    expect(source.status).toMatchObject({ state: "following", lastError: undefined });
    server.remove("missed");
    await writer.holds(["a"]);
  });

  it("asks a silent BBS whether it is there, and stays with one that answers", async () => {
    const { server } = await following({ readTimeoutMs: 150 });
    await server.happenings.until(() => server.pingCount >= 3);
    expect(server.subscriptionCount).toBe(1);
  });

  it("leaves a BBS that stalls, keeps its entries, and follows again when it goes on", async () => {
    const { server, source, writer, logged } = await following({ readTimeoutMs: 100 });
    server.isSilent = true;
    await logged.says("asking whether it is there");
    expect(source.status).toMatchObject({ state: "retrying" });
    expect(writer.process()?.instances).toHaveLength(1);
    server.isSilent = false;
    await logged.says("following Diego's instances", 2);
    server.run("b");
    await writer.holds(["a", "b"]);
  });

  it("repairs by its regular lists what events did not say, and then leaves a stream that is deaf", async () => {
    const { server, source, writer, logged } = await following({ resyncIntervalMs: 50 });
    server.isDeaf = true;
    server.run("b");
    await writer.holds(["a", "b"]);
    expect(source.counts.repairedProcesses).toBe(1);
    await logged.says("the event stream said nothing");
    server.isDeaf = false;
    await server.happenings.until(() => server.subscriptionCount === 2);
  });

  it("passes over unknown events: counted each time, logged once", async () => {
    const { server, source, writer, logged } = await following();
    server.sendRaw("actual_lrp_teleported", "AAAA");
    server.sendRaw("actual_lrp_teleported", "AAAA");
    server.run("b");
    await writer.holds(["a", "b"]);
    expect(source.counts.unknownEvents).toBe(2);
    expect(logged.matching("does not know")).toHaveLength(1);
  });

  it.each([
    ["base64", "####"],
    ["protobuf", Buffer.from([0xff, 0xff]).toString("base64")],
    ["data", ""],
  ])("reads a list at once when an event has broken %s, and keeps its stream", async (_, data) => {
    const { server, source, writer } = await following();
    server.isDeaf = true;
    server.run("b");
    server.isDeaf = false;
    server.sendRaw("actual_lrp_instance_created", data);
    await writer.holds(["a", "b"]);
    expect(source.counts).toMatchObject({ brokenEvents: 1, subscriptions: 1 });
    server.remove("b");
    await writer.holds(["a"]);
  });

  it("serves the last known instances while the BBS is down, says so once, and follows when it is back", async () => {
    const { server, source, writer, logged } = await following();
    await server.stop();
    await logged.says("ECONNREFUSED");
    expect(source.status.state).toBe("retrying");
    expect(source.status.lastError).toContain(server.url);
    expect(source.status.lastError).toContain("fix: ");
    expect(writer.process()?.instances).toHaveLength(1);
    server.lrps.clear();
    server.run("b");
    await server.start();
    await writer.holds(["b"]);
    await logged.says("following Diego's instances", 2);
    expect(logged.matching("ECONNREFUSED")).toHaveLength(1);
    expect(source.status).toMatchObject({ state: "following", lastError: undefined });
  });

  it("is retrying, and writes nothing, before it could read anything", async () => {
    const server = await bbs();
    await server.stop();
    const { source, writer, logged } = follow([server.url]);
    expect(source.status.state).toBe("starting");
    await logged.says("ECONNREFUSED");
    expect(source.status).toMatchObject({ state: "retrying", lastSyncMs: undefined });
    expect(writer.applyCount).toBe(0);
  });

  it("fails over to the other BBS of its group, and back", async () => {
    const [first, second] = [await bbs(), await bbs()];
    first.run("a");
    second.run("a");
    await second.stop();
    const { writer } = follow([first.url, second.url]);
    await writer.holds(["a"]);
    await Promise.all([first.stop(), second.start()]);
    second.run("b");
    await writer.holds(["a", "b"]);
    await Promise.all([second.stop(), first.start()]);
    await writer.holds(["a"]);
  });

  it("changes nothing for a list that fails, and goes on with events", async () => {
    const { server, source, writer, logged } = await following({ resyncIntervalMs: 50 });
    const { lists } = source.counts;
    server.beforeAnswer = (path) => (path === LIST ? 404 : 200);
    await logged.says("HTTP 404");
    expect(source.status.state).toBe("retrying");
    server.run("b");
    await writer.holds(["a", "b"]);
    expect(server.subscriptionCount).toBe(1);
    server.beforeAnswer = () => 200;
    await logged.says("following Diego's instances", 2);
    expect(source.counts.lists).toBeGreaterThan(lists);
    await writer.holds(["a", "b"]);
  });

  it("keeps instances that a list lacks until the domain is fresh", async () => {
    const { server, source, writer } = await following({ resyncIntervalMs: 20 });
    server.isFresh = false;
    server.isDeaf = true;
    server.run("b");
    await writer.holds(["a", "b"]);
    server.lrps.delete("a");
    const { lists } = source.counts;
    await server.happenings.until(() => source.counts.lists > lists + 3);
    await writer.holds(["a", "b"]);
    server.isFresh = true;
    await writer.holds(["b"]);
  });

  it("keeps what an earlier run left when it starts while the domain is not fresh", async () => {
    const first = await following();
    first.server.run("cart", { key: { processGuid: `${CART}-v`, index: 0, domain: "cf-apps" } });
    first.server.run("b");
    await first.writer.holds(["a", "b"]);
    await first.stop();
    first.server.lrps.clear();
    first.server.run("b");
    first.server.run("new");
    first.server.isFresh = false;
    const entries = [...first.writer.values].map(([key, value], index) => ({ key, value, sequence: index + 1 }));
    const options = {
      resyncIntervalMs: 20,
      readStored: async function* () {
        yield await Promise.resolve(entries);
      },
    };
    const { writer } = follow([first.server.url], options, first.writer);
    await writer.holds(["a", "b", "new"]);
    await writer.holds(["cart"], CART);
    first.server.isFresh = true;
    await writer.holds(["b", "new"]);
    await writer.holds([], CART);
  });

  it("writes again what the log refused", async () => {
    const { server, source, writer, logged } = await following();
    writer.beforeWrite = () => {
      throw new Error("disk full");
    };
    server.run("b");
    await logged.says("disk full");
    expect(source.status).toMatchObject({ state: "retrying", lastError: "disk full" });
    server.run("c");
    writer.beforeWrite = () => undefined;
    await writer.holds(["a", "b", "c"]);
    await logged.says("written to the log again");
    expect(source.status).toMatchObject({ state: "following", lastError: undefined });
  });

  it("leaves out what is none of an app's, and says so once at debug", async () => {
    const server = await bbs();
    server.run("task-1", { key: { processGuid: "t1", index: 0, domain: "cf-tasks" } });
    server.run("task-2", { key: { processGuid: "t2", index: 0, domain: "cf-tasks" } });
    server.run("odd", { key: { processGuid: "odd", index: 0, domain: "cf-apps" } });
    server.run("a");
    const { writer, logged } = follow([server.url]);
    await writer.holds(["a"]);
    expect([...writer.keys()]).toEqual([`process.bbs.${SHOP}`]);
    expect(logged.lines.filter(({ level }) => level === "debug").map(({ msg }) => msg)).toEqual([
      "actual LRPs of this domain are none of an app's: left out",
      "an actual LRP's process guid is not Cloud Controller's process guid and version: left out",
    ]);
  });

  it("never logs its key", async () => {
    const server = await bbs();
    await server.stop();
    const { logged } = follow([server.url]);
    await logged.says("ECONNREFUSED");
    expect(JSON.stringify(logged.lines)).not.toContain("PRIVATE KEY");
  });

  it("says which isolation segment an instance is in: that of its cell, also of a cell that comes later", async () => {
    const server = await bbs();
    server.cells.set("cell-1", ["red"]);
    server.run("a");
    const { writer } = follow([server.url]);
    await writer.holds(["a"]);
    server.cells.set("cell-2", ["blue"]);
    server.run("b", { instanceKey: { instanceGuid: "b", cellId: "cell-2" } });
    await writer.holds(["a", "b"]);
    expect(writer.process()?.instances.map(({ isolationSegment }) => isolationSegment)).toEqual(["red", "blue"]);
    server.run("c", { instanceKey: { instanceGuid: "c", cellId: "cell-2" } });
    await writer.holds(["a", "b", "c"]);
    expect(server.cellListCount).toBe(2);
  });

  it("goes on without segments when a BBS does not tell of its cells, and says so once", async () => {
    const server = await bbs();
    server.beforeAnswer = (path) => (path === "/v1/cells/list.r1" ? 404 : 200);
    server.run("a");
    const { writer, logged } = follow([server.url]);
    await writer.holds(["a"]);
    server.run("b", { instanceKey: { instanceGuid: "b", cellId: "cell-2" } });
    await writer.holds(["a", "b"]);
    expect(writer.process()?.instances.map(({ isolationSegment }) => isolationSegment)).toEqual(["", ""]);
    expect(logged.matching("no isolation segment")).toHaveLength(1);
  });
});

describe("the Diego source before the emulated BBS", () => {
  /** The emulator's BBS server: its framing, records and events are written apart from this source. */
  async function emulated(options: Partial<DiegoSourceOptions> = {}) {
    const records: BbsRecords = new BbsRecords((events) => server.hub.emit(events));
    const server = new BbsServer("127.0.0.1", 0, certificates, records);
    await server.listen();
    onTestFinished(() => server.close());
    const followed = follow([server.url], options);
    await followed.logged.says("following Diego's instances");
    return { server, cell: new Cell(records), records, ...followed };
  }

  /** Moves instances as cells do; `index` names the instance. */
  class Cell {
    readonly #records: BbsRecords;

    constructor(records: BbsRecords) {
      this.#records = records;
    }

    /** From unclaimed over claimed to running. */
    starts(guid: string, index: number): void {
      const unclaimed = create(ActualLRPSchema, {
        key: { processGuid: `${SHOP}-${VERSION}`, index, domain: "cf-apps" },
        state: "UNCLAIMED",
        metricTags: { app_id: "shop-app" },
      });
      this.#records.change([{ before: undefined, after: unclaimed }]);
      this.becomes(index, { state: "CLAIMED", instanceKey: { instanceGuid: guid, cellId: "cell-1" } });
      const ports = [{ containerPort: 8080, hostPort: 61_000 + index }];
      this.becomes(index, { state: "RUNNING", netInfo: { address: "127.0.0.1", ports } });
    }

    becomes(index: number, changes: LrpInit, presence = Presence.ORDINARY): void {
      const before = this.#actual(index, presence);
      const after = create(ActualLRPSchema, changes);
      this.#records.change([{ before, after: { ...before, ...pickSet(after, changes) } }]);
    }

    /** The instance is gone, and its index waits for a cell. */
    crashes(index: number): void {
      const before = this.#actual(index, Presence.ORDINARY);
      const { instanceKey, netInfo, ...kept } = before;
      expect([instanceKey, netInfo]).not.toContain(undefined);
      this.#records.change([{ before, after: { ...kept, state: "UNCLAIMED", crashCount: 1 } }], true);
    }

    stops(index: number, presence = Presence.ORDINARY): void {
      this.#records.change([{ before: this.#actual(index, presence), after: undefined }]);
    }

    #actual(index: number, presence: Presence): ActualLRP {
      const actual = this.#records.actual({ processGuid: `${SHOP}-${VERSION}`, index, presence });
      if (!actual) throw new Error(`no actual LRP ${index}`);
      return actual;
    }
  }

  /** The fields of a message that `changes` sets. */
  function pickSet(message: ActualLRP, changes: LrpInit): Partial<ActualLRP> {
    return Object.fromEntries(Object.entries(message).filter(([field]) => field in changes));
  }

  it("follows starts, scaling, evacuation, suspects, routability, crashes and stops, without a second list", async () => {
    const { cell, source, writer } = await emulated();
    cell.starts("a", 0);
    await writer.holds(["a"]);
    expect(writer.process()?.appGuid).toBe("shop-app");
    cell.starts("b", 1);
    await writer.holds(["a", "b"]);
    cell.becomes(0, { presence: Presence.EVACUATING });
    await writer.holds(["a EVACUATING", "b"]);
    cell.starts("a2", 0);
    await writer.holds(["a EVACUATING", "a2", "b"]);
    cell.stops(0, Presence.EVACUATING);
    await writer.holds(["a2", "b"]);
    cell.becomes(1, { presence: Presence.SUSPECT });
    await writer.holds(["a2", "b SUSPECT"]);
    cell.becomes(0, { routable: false });
    await writer.holds(["b SUSPECT"]);
    cell.becomes(0, { routable: true });
    await writer.holds(["a2", "b SUSPECT"]);
    cell.crashes(0);
    await writer.holds(["b SUSPECT"]);
    cell.stops(1, Presence.SUSPECT);
    await writer.holds([]);
    expect(source.counts).toMatchObject({ lists: 1, subscriptions: 1, brokenEvents: 0, unknownEvents: 0 });
  });

  it("makes up for events that come twice or in reverse", async () => {
    const { server, cell, writer } = await emulated();
    server.hub.duplicateNext(3);
    cell.starts("a", 0);
    await writer.holds(["a"]);
    server.hub.reverseNext(3);
    cell.starts("b", 1);
    await writer.holds(["a", "b"]);
  });

  it("recovers from a cut, a stall and a BBS that is down", async () => {
    const { server, cell, writer, logged } = await emulated({ readTimeoutMs: 300 });
    cell.starts("a", 0);
    await writer.holds(["a"]);
    server.hub.cut();
    cell.starts("b", 1);
    await writer.holds(["a", "b"]);
    await logged.says("following Diego's instances", 2);
    server.hub.stall(true);
    server.stallCalls(true);
    cell.starts("c", 2);
    await logged.says("asking whether it is there");
    server.hub.stall(false);
    server.stallCalls(false);
    await writer.holds(["a", "b", "c"]);
    await logged.says("following Diego's instances", 3);
    await server.close();
    cell.stops(2);
    await logged.says("ECONNREFUSED");
    await server.listen();
    await writer.holds(["a", "b"]);
  });

  it.each(["status 500", "error", "garbage", "truncated"] as const)(
    "changes nothing for a list answered with %s, and follows when lists are good again",
    async (bad) => {
      const { server, cell, source, writer, logged } = await emulated({ resyncIntervalMs: 50 });
      cell.starts("a", 0);
      await writer.holds(["a"]);
      server.setBadAnswer(LIST, bad);
      await logged.says("listing actual LRPs");
      expect(writer.process()?.instances).toHaveLength(1);
      cell.starts("b", 1);
      server.setBadAnswer(LIST, undefined);
      await logged.says("following Diego's instances", 2);
      await writer.holds(["a", "b"]);
      expect(source.status).toMatchObject({ state: "following", lastError: undefined });
    },
  );
});

describe("the Diego source over the embedded log", () => {
  /** A log in a directory of its own; both are gone when the test ends. */
  async function openLog(): Promise<MeshLog> {
    const directory = await mkdtemp(join(tmpdir(), "cf-mesh-diego-"));
    const log = await openEmbeddedLog({ directory });
    onTestFinished(async () => {
      await log.close();
      await rm(directory, { recursive: true });
    });
    return log;
  }

  async function startOver(log: MeshLog, server: ScriptedBbs, options: Partial<DiegoSourceOptions> = {}) {
    const writer = await openKeySpaceWriter(log, KEY_SPACES.diegoProcesses);
    const readStored = () => log.read(KEY_SPACES.diegoProcesses);
    const started = start([server.url], writer, { readStored, ...options });
    await started.logged.says("following Diego's instances");
    return started;
  }

  /** Resolves when the shop's entry holds these instances. */
  async function holds(log: MeshLog, guids: readonly string[]): Promise<void> {
    for await (const { entries } of log.follow(0, AbortSignal.timeout(10_000))) {
      const value = entries.findLast(({ key }) => key === `process.bbs.${SHOP}`)?.value;
      if (
        value &&
        decodeProcess(value)
          .instances.map(({ guid }) => guid)
          .join() === guids.join()
      )
        return;
    }
    throw new Error(`the log does not come to hold ${guids.join()}`);
  }

  it("has each change in the log by its event, before any resync", async () => {
    const [server, log] = [await bbs(), await openLog()];
    await startOver(log, server);
    let changeCount = 0;
    const ending = new AbortController();
    for await (const { entries, caughtUp } of log.follow(0, ending.signal)) {
      changeCount += entries.length;
      if (changeCount === 20) ending.abort();
      else if (entries.length > 0 || (caughtUp && changeCount === 0)) server.run(`instance-${changeCount}`);
    }
    expect(changeCount).toBe(20);
  });

  it("writes nothing when it starts again and nothing moved", async () => {
    const [server, log] = [await bbs(), await openLog()];
    server.run("a");
    const first = await startOver(log, server);
    await holds(log, ["a"]);
    await first.stop();
    const sequence = await log.lastSequence();
    const second = await startOver(log, server);
    await second.stop();
    expect(await log.lastSequence()).toBe(sequence);
  });

  it("starts again with what the log holds when the domain is not fresh", async () => {
    const [server, log] = [await bbs(), await openLog()];
    server.run("a");
    server.run("b");
    const first = await startOver(log, server);
    await holds(log, ["a", "b"]);
    await first.stop();
    server.isFresh = false;
    server.lrps.delete("a");
    server.run("c");
    await startOver(log, server, { resyncIntervalMs: 20 });
    await holds(log, ["a", "b", "c"]);
    server.isFresh = true;
    await holds(log, ["b", "c"]);
  });
});
