import { EventEmitter, once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import {
  createServer as createHttpServer,
  request as httpRequest,
  type RequestListener,
  type Server as HttpServer,
} from "node:http";
import { createServer as createHttpsServer, type Server as HttpsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TLSSocket } from "node:tls";
import { beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { Link } from "../../../test/reliability/link.js";
import { type EmulatedFoundation, startEmulatedFoundation } from "../../../test/support/emulated-foundation.js";
import { eventually } from "../../../test/support/eventually.js";
import { type PostedRoute, Publisher, READER, ROUTING_CLIENTS } from "../../../test/support/routing-api.js";
import { createCertificates } from "../../emulator/certificates.js";
import { decodeRegistration, encodeRegistration } from "../../entries/entries.js";
import { KEY_SPACES } from "../../entries/keys.js";
import { type Clock, systemClock } from "../../lib/clock.js";
import { createLogger, silentLogger } from "../../lib/logger.js";
import { completionKey } from "../../log/completion.js";
import { openEmbeddedLog } from "../../log/embedded.js";
import { type KeySpaceWriter, openKeySpaceWriter } from "../../log/key-space-writer.js";
import { openLeasedWriters } from "../../log/leased-writers.js";
import type { MeshLog } from "../../log/log.js";
import { routingApiSource, type RoutingApiSourceOptions } from "./routing-api-source.js";

const KEY_SPACE = KEY_SPACES.routingApiRegistrations;
/** So long that none but those at the start and at subscriptions come up within a test. */
const NO_LISTS_MS = 600_000;
const OFTEN_MS = 50;
const ROUTES_PATH = "/routing/v1/routes";

let cf: EmulatedFoundation;
let log: MeshLog;
let publisher: Publisher;
const logLines: { level: string; msg: string; reason?: string }[] = [];
const logger = createLogger("debug", {
  write: (line: string) => void logLines.push(JSON.parse(line) as (typeof logLines)[number]),
});
const logged = (text: string) => logLines.filter(({ msg }) => msg.includes(text)).length;

beforeEach(async () => {
  logLines.length = 0;
  cf = await startEmulatedFoundation({ clock: systemClock, clients: ROUTING_CLIENTS });
  publisher = new Publisher(cf.foundation);
  const directory = await mkdtemp(join(tmpdir(), "cf-mesh-routing-api-"));
  log = await openEmbeddedLog({ directory });
  return async () => {
    await log.close();
    await cf.close();
    await rm(directory, { recursive: true, force: true });
  };
});

const shop: PostedRoute = { route: "shop.example.com/cart", port: 3_000, ttl: 60, log_guid: "shop-app" };
const SHOP = "shop.example.com/cart 127.0.0.1:3000";

/** "host/path address:port" of each entry, sorted. */
async function shown(): Promise<readonly string[]> {
  const found: string[] = [];
  for await (const entries of log.read(KEY_SPACE)) {
    for (const { value } of entries) {
      if (!value) continue;
      const { host, path, address, port } = decodeRegistration(value);
      found.push(`${host}${path} ${address}:${port}`);
    }
  }
  return found.sort();
}

async function holds(...expected: readonly string[]): Promise<void> {
  await eventually(async () => {
    expect(await shown()).toEqual(expected);
    return true;
  });
}

/** A source that runs until the test ends, or is stopped. */
function startWith(writer: KeySpaceWriter, options: Partial<RoutingApiSourceOptions> = {}) {
  const { apiUrl, uaaUrl } = cf.foundation;
  const credentials = { clientSecret: READER.secret };
  const source = routingApiSource({
    apiUrls: [apiUrl],
    uaaUrls: [uaaUrl],
    clientId: READER.id,
    credentials: () => credentials,
    listIntervalMs: NO_LISTS_MS,
    readStored: () => log.read(KEY_SPACE),
    logger,
    ...options,
  });
  const ending = new AbortController();
  const running = source.run(writer, ending.signal);
  const stop = async () => {
    ending.abort();
    await running;
  };
  onTestFinished(stop);
  return { source, stop };
}

async function start(options: Partial<RoutingApiSourceOptions> = {}) {
  return startWith(await openKeySpaceWriter(log, KEY_SPACE), options);
}

/** A source that has subscribed, and has read the list that it asks for then. */
async function following(options: Partial<RoutingApiSourceOptions> = {}) {
  const running = await start(options);
  const { source } = running;
  await eventually(() => source.counts.subscriptions === 1 && source.counts.lists >= 2);
  expect(source.status).toMatchObject({ state: "following", lastError: undefined });
  return running;
}

/** Resolves when a list was read that began after this call. */
async function nextList({ source }: Awaited<ReturnType<typeof start>>): Promise<void> {
  const { lists } = source.counts;
  await eventually(() => source.counts.lists >= lists + 2);
}

async function viaLink(): Promise<{ link: Link; apiUrl: string }> {
  const url = new URL(cf.foundation.apiUrl);
  const link = await Link.to(url);
  onTestFinished(() => link.close());
  return { link, apiUrl: link.via(url) };
}

/** Until the test ends. */
async function listen(server: HttpServer | HttpsServer): Promise<number> {
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

describe("the routing API's source", () => {
  it("reads what is there, and writes nothing when it starts again with nothing new", async () => {
    await publisher.post(shop, {
      ...shop,
      route: "*.shop.example.com",
      route_service_url: "https://guard.example.com",
    });
    await log.append([{ key: `${KEY_SPACE}leftover`, value: encodeRegistration({ host: "gone.example.com" }) }]);
    const { stop } = await following();
    await holds("*.shop.example.com 127.0.0.1:3000", SHOP);
    for await (const entries of log.read(KEY_SPACE)) {
      for (const { value } of entries) {
        const entry = decodeRegistration(value ?? expect.fail());
        expect(entry).toMatchObject({ appGuid: "shop-app", tls: false, staleThresholdSeconds: 60 });
        expect(entry.routeServiceUrl).toBe(entry.path === "" ? "https://guard.example.com" : "");
      }
    }
    await stop();
    const sequence = await log.lastSequence();
    await following();
    expect(await log.lastSequence()).toBe(sequence);
  });

  it("follows events: a route that is posted, changed and deleted; one that is said again writes nothing", async () => {
    const { source } = await following();
    const { lists } = source.counts;
    await publisher.post(shop, { ...shop, port: 3_001 });
    await holds(SHOP, "shop.example.com/cart 127.0.0.1:3001");
    const sequence = await log.lastSequence();
    await publisher.post(shop);
    await publisher.post({ ...shop, log_guid: "other-app" });
    await eventually(async () => (await log.lastSequence()) === sequence + 1);
    await publisher.remove(shop);
    await holds("shop.example.com/cart 127.0.0.1:3001");
    expect(source.counts).toMatchObject({ lists, upserts: 4, deletes: 1, subscriptions: 1, routes: 1 });
    expect(source.status.messages).toEqual({
      registered: 4,
      unregistered: 1,
      pruned: 0,
      waiting: 0,
      dropped: 0,
      refused: 0,
    });
  });

  it("drops what is not said again in time, as the API does", async () => {
    const { source } = await following();
    await publisher.post({ ...shop, ttl: 1 }, { ...shop, route: "stays.example.com" });
    await holds(SHOP, "stays.example.com 127.0.0.1:3000");
    await holds("stays.example.com 127.0.0.1:3000");
    expect(source.counts.deletes).toBe(1);
  });

  it("finds by its lists what events did not tell, and subscribes again: the stream is deaf", async () => {
    const running = await following({ listIntervalMs: OFTEN_MS });
    cf.foundation.faults.routingApi.stall();
    await publisher.post(shop);
    await holds(SHOP);
    await eventually(() => running.source.counts.subscriptions > 1);
    expect(logged("the event stream said nothing")).toBe(1);
    cf.foundation.faults.routingApi.resume();
    await publisher.remove(shop);
    await holds();
    await eventually(() => running.source.status.state === "following");
  });

  it("takes a stream for well that is silent because nothing happens", async () => {
    const running = await following({ listIntervalMs: OFTEN_MS });
    await publisher.post(shop);
    await holds(SHOP);
    for (let list = 0; list < 5; list += 1) await nextList(running);
    expect(running.source.counts.subscriptions).toBe(1);
  });

  it("subscribes again when its stream is cut, and reads what it missed", async () => {
    const { source } = await following();
    const subscribing = cf.foundation.faults.inject({
      path: "/routing/v1/events",
      times: 1,
      fault: { kind: "slow" },
    });
    cf.foundation.faults.routingApi.cutStreams();
    await subscribing.nextHit();
    await publisher.post(shop);
    subscribing.clear();
    await holds(SHOP);
    expect(source.counts.subscriptions).toBe(2);
    await eventually(() => source.status.state === "following");
  });

  it("goes on by lists alone where there is no stream", async () => {
    cf.foundation.faults.inject({ path: "/routing/v1/events", fault: { kind: "status", status: 404 } });
    const { source } = await start({ listIntervalMs: OFTEN_MS });
    await publisher.post(shop);
    await holds(SHOP);
    await publisher.remove(shop);
    await holds();
    expect(source.status.state).toBe("retrying");
    expect(source.status.lastError).toMatch(/MESH_SOURCE_REFUSED.*GET \/routing\/v1\/events answered 404/s);
  });

  it("goes on by events alone where there is no list", async () => {
    const { source } = await following({ listIntervalMs: OFTEN_MS });
    cf.foundation.faults.inject({ path: ROUTES_PATH, method: "GET", fault: { kind: "status", status: 500 } });
    await eventually(() => source.status.state === "retrying");
    expect(source.status.lastError).toContain("500 (DBCommunicationError: driver: bad connection)");
    await publisher.post(shop);
    await holds(SHOP);
    await publisher.remove(shop);
    await holds();
  });

  it("takes what happens while a list is under way after that list", async () => {
    await publisher.post(shop, { ...shop, route: "stays.example.com" });
    const running = await following({ listIntervalMs: OFTEN_MS });
    const held = await holdingAnswers();
    const other = startWith(await openKeySpaceWriter(log, KEY_SPACE), { apiUrls: [held.url] });
    await running.stop();
    await held.isHeld;
    await eventually(() => other.source.counts.subscriptions === 1);
    // The list was answered before, and comes after.
    await publisher.remove(shop);
    await eventually(() => other.source.counts.deletes === 1);
    held.letGo();
    await holds("stays.example.com 127.0.0.1:3000");
    expect(other.source.counts.routes).toBe(1);
  });

  /** A way to the API on which the first list's answer is held back. */
  async function holdingAnswers() {
    const held = new EventEmitter();
    const isHeld = once(held, "held");
    const released = once(held, "released");
    const server = createHttpServer(
      forward((path) => {
        if (path !== ROUTES_PATH) return Promise.resolve();
        held.emit("held");
        return released;
      }),
    );
    const port = await listen(server);
    return { url: `http://127.0.0.1:${port}`, isHeld, letGo: () => held.emit("released") };
  }

  /** Hands requests on to the API, and its answers back once `release` of their path resolves. */
  function forward(release: (path: string) => Promise<unknown> = () => Promise.resolve()): RequestListener {
    return (incoming, outgoing) => {
      const { url = "", method, headers } = incoming;
      const onward = httpRequest(cf.foundation.apiUrl + url, { method, headers }, (answer) => {
        void release(url).then(() => {
          outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
          outgoing.flushHeaders();
          answer.pipe(outgoing);
        });
      });
      onward.on("error", () => outgoing.destroy());
      outgoing.on("close", () => onward.destroy());
      incoming.pipe(onward);
    };
  }

  describe("when the API is away", () => {
    it("keeps all that it had, and follows again when it is back", async () => {
      await publisher.post(shop);
      const { link, apiUrl } = await viaLink();
      const { source } = await following({ apiUrls: [apiUrl], listIntervalMs: OFTEN_MS });
      link.cut();
      await eventually(() => source.status.state === "retrying");
      expect(source.status.lastError).toMatch(/^\[MESH_SOURCE_UNREACHABLE\] Routing API at http:.*stay as they are/s);
      expect(await shown()).toEqual([SHOP]);
      await publisher.post({ ...shop, port: 3_001 });
      await publisher.remove(shop);
      link.mend();
      await holds("shop.example.com/cart 127.0.0.1:3001");
      await eventually(() => source.status.state === "following");
      expect(logged("can be followed again")).toBe(1);
    });

    it("removes nothing that only was not said again meanwhile, until there was time to", async () => {
      const ended = { ...shop, ttl: 1, route: "ended.example.com" };
      const { link, apiUrl } = await viaLink();
      const clock = new ShiftedClock();
      const { source } = await following({ apiUrls: [apiUrl], listIntervalMs: OFTEN_MS, clock });
      await publisher.post({ ...shop, ttl: 1 }, ended);
      await holds("ended.example.com 127.0.0.1:3000", SHOP);
      link.cut();
      await eventually(() => source.status.state === "retrying");
      await eventually(async () => (await publisher.listed()).length === 0);
      // While the API comes back, time stands still for the source.
      clock.stop();
      link.mend();
      await eventually(() => logged("they are waited for") > 0);
      expect(await shown()).toEqual(["ended.example.com 127.0.0.1:3000", SHOP]);
      await eventually(() => source.counts.subscriptions === 2);
      await publisher.post(shop);
      await eventually(() => source.counts.upserts === 3);
      clock.shift(1_100);
      await holds(SHOP);
      expect(source.counts.gone).toBe(1);
    });

    it("keeps what an earlier run left when it starts without an API", async () => {
      await publisher.post(shop);
      const before = await following();
      await holds(SHOP);
      await before.stop();
      const { link, apiUrl } = await viaLink();
      link.cut();
      const { source } = await start({ apiUrls: [apiUrl], listIntervalMs: OFTEN_MS });
      await eventually(() => source.status.state === "retrying");
      expect(source.status.lastSyncMs).toBeUndefined();
      await publisher.remove(shop);
      link.mend();
      await eventually(() => source.status.state === "following");
      // It may only not have been said again.
      expect(await shown()).toEqual([SHOP]);
    });

    it("notices one that takes requests and says nothing", async () => {
      const { link, apiUrl } = await viaLink();
      const { source } = await following({ apiUrls: [apiUrl], listIntervalMs: OFTEN_MS, requestTimeoutMs: 300 });
      link.silence();
      await eventually(() => source.status.state === "retrying");
      link.mend();
      await eventually(() => source.status.state === "following");
    });

    it("asks the next of several", async () => {
      const { link, apiUrl } = await viaLink();
      link.cut();
      await publisher.post(shop);
      const { source } = await start({ apiUrls: [apiUrl, cf.foundation.apiUrl] });
      await holds(SHOP);
      await eventually(() => source.status.state === "following");
    });
  });

  describe("what can't be used", () => {
    it("is passed over alone among events, and counted", async () => {
      const { source } = await following();
      const { routingApi } = cf.foundation.faults;
      for (const odd of ["unknown", "no-json", "bad-route"] as const) routingApi.sendOdd(odd);
      await publisher.post(shop);
      await holds(SHOP);
      expect(source.counts).toMatchObject({ unknownEvents: 1, refused: 2, subscriptions: 1 });
      expect(source.status).toMatchObject({ state: "following", messages: { refused: 2 } });
      expect(logged("a route of the routing API is refused")).toBe(1);
    });

    it("ends a stream when it is without measure, which begins anew", async () => {
      const { source } = await following();
      cf.foundation.faults.routingApi.sendOdd("huge");
      await eventually(() => source.counts.subscriptions === 2);
      await publisher.post(shop);
      await holds(SHOP);
      expect(logged("MESH_SOURCE_MALFORMED")).toBe(1);
    });

    /** A routing API that says these lists, one after the other, the last for ever; its UAA is the foundation's. */
    async function saying(...lists: readonly string[]) {
      let asked = 0;
      const server = createHttpServer(({ url }, response) => {
        if (url === ROUTES_PATH) {
          response.end(lists[Math.min(asked, lists.length - 1)]);
          asked += 1;
        } else {
          response.writeHead(200, { "content-type": "text/event-stream" });
          response.flushHeaders();
        }
      });
      const port = await listen(server);
      return start({ apiUrls: [`http://127.0.0.1:${port}`], listIntervalMs: OFTEN_MS });
    }

    const listed = { ...shop, ip: "127.0.0.1" };

    it("is passed over alone in a list, told by field and value, and counted once however often it is listed", async () => {
      const bad = { ...listed, port: 70_000 };
      const running = await saying(JSON.stringify([bad, listed, null, { ...listed, ip: "app.internal", port: 1 }]));
      await holds(SHOP, "shop.example.com/cart app.internal:1");
      for (let list = 0; list < 3; list += 1) await nextList(running);
      const { listedRoutes, lists } = running.source.counts;
      expect(listedRoutes).toBe(2 * lists);
      expect(running.source.counts).toMatchObject({ refused: 2, routes: 2 });
      expect(running.source.status.messages).toMatchObject({ registered: listedRoutes, refused: 2 });
      expect(logLines.flatMap(({ reason }) => reason ?? [])).toEqual([
        'port: 70000 is no port (route "shop.example.com/cart")',
      ]);
      expect(running.source.status.state).toBe("following");
    });

    it.each([
      ["no JSON", '[{"route":', "no JSON"],
      ["no list", "{}", "no list"],
      ["no list of routes", '[{"uri":"shop.example.com"},{"uri":"b.example.com"}]', "of 2 routes none can be read"],
    ])("leaves all as it is where the list is %s", async (_, text, problem) => {
      const { source } = await saying(JSON.stringify([listed]), text);
      await holds(SHOP);
      await eventually(() => source.status.state === "retrying");
      expect(source.status.lastError).toMatch(new RegExp(`MESH_SOURCE_MALFORMED.*${problem}`, "s"));
      expect(await shown()).toEqual([SHOP]);
    });

    it("leaves what is known of a row as it is, also where that is the only one", async () => {
      const running = await saying(JSON.stringify([listed]), JSON.stringify([{ ...listed, ttl: "soon" }]));
      await holds(SHOP);
      await eventually(() => running.source.counts.refused === 1);
      await nextList(running);
      expect(await shown()).toEqual([SHOP]);
      expect(running.source.status.state).toBe("following");
    });

    it("is not what Go says for an empty list", async () => {
      const { source } = await saying(JSON.stringify([listed]), "null");
      await eventually(() => source.counts.gone === 1);
      await holds();
    });

    it("is more than it may take", async () => {
      const many = [1, 2, 3, 4].map((port) => ({ ...listed, port }));
      const { source } = await saying(JSON.stringify(many));
      expect(source.status.state).toBe("starting");
      await eventually(() => source.counts.routes === 4);
      const bounded = await start({ maxRoutes: 2 });
      await publisher.post(...many);
      await eventually(() => bounded.source.counts.surplus >= 2);
      expect(bounded.source.counts.routes).toBe(2);
      expect(logLines.map(({ reason }) => reason)).toContain("there are too many routes already: routingApi.maxRoutes");
    });
  });

  describe("the token", () => {
    it("is asked for again when the API does not take it, and the routes stay", async () => {
      await publisher.post(shop);
      const running = await following({ listIntervalMs: OFTEN_MS });
      const { requests, faults } = cf.foundation;
      const tokens = requests.count("/oauth/token");
      await faults.revokeTokens();
      faults.routingApi.cutStreams();
      await eventually(() => requests.count("/oauth/token") > tokens);
      await eventually(() => running.source.counts.subscriptions === 2);
      publisher.forgetToken();
      await publisher.post({ ...shop, port: 3_001 });
      await holds(SHOP, "shop.example.com/cart 127.0.0.1:3001");
      expect(logged("MESH_SOURCE_REFUSED")).toBe(0);
    });

    it("is renewed before its end, and never logged; nor is the secret", async () => {
      cf.foundation.faults.tokenLifetimeSeconds = 1;
      await publisher.post(shop);
      await following({ listIntervalMs: OFTEN_MS });
      const { requests } = cf.foundation;
      await eventually(() => requests.count("/oauth/token") >= 4);
      expect(logged("MESH_SOURCE")).toBe(0);
      const said = JSON.stringify(logLines);
      expect(said).not.toContain("eyJ");
      expect(said).not.toContain(READER.secret);
    });

    it("of a client without the scope is refused, with what to do", async () => {
      const { clientId, clientSecret } = cf.foundation;
      const { source } = await start({ clientId, credentials: () => ({ clientSecret }) });
      await eventually(() => source.status.state === "retrying");
      expect(source.status.lastError).toMatch(
        /MESH_SOURCE_REFUSED.*may not read the routes of the routing API.*fix: give the client.*routing\.routes\.read/s,
      );
    });

    it("is not given to a client with a wrong secret", async () => {
      const { source } = await start({ credentials: () => ({ clientSecret: "wrong" }) });
      await eventually(() => source.status.state === "retrying");
      expect(source.status.lastError).toMatch(/MESH_SOURCE_REFUSED.*UAA at .*no token for client "mesh-reader".*401/s);
      expect(logged("MESH_SOURCE_REFUSED")).toBe(1);
    });
  });

  it("shows its certificate to an API that wants one, and checks the API's", async () => {
    const certificates = await createCertificates();
    const { certificate: cert, key } = certificates.server;
    const seen = new Set<string>();
    const handOn = forward();
    const server = createHttpsServer(
      { cert, key, ca: certificates.ca, requestCert: true, rejectUnauthorized: true },
      (incoming, outgoing) => {
        if (incoming.socket instanceof TLSSocket) seen.add(String(incoming.socket.getPeerCertificate().subject.CN));
        handOn(incoming, outgoing);
      },
    );
    const port = await listen(server);
    const apiUrls = [`https://127.0.0.1:${port}`];
    const { certificate: clientCert, key: clientKey } = certificates.client;
    const credentials = {
      clientSecret: READER.secret,
      ca: certificates.ca,
      clientCertificate: { certificate: clientCert, key: clientKey },
    };
    await publisher.post(shop);
    const { stop } = await following({ apiUrls, credentials: () => credentials });
    await holds(SHOP);
    expect(seen.size).toBe(1);
    await stop();

    const stranger = { clientSecret: READER.secret };
    const { source } = await start({ apiUrls, credentials: () => stranger });
    await eventually(() => source.status.state === "retrying");
    expect(source.status.lastError).toMatch(/MESH_SOURCE_UNREACHABLE.*fix: check that its certificate/s);
  });

  describe("as one of several", () => {
    const lease = { lease: "control", logger: silentLogger, ttlMs: 300, renewIntervalMs: 80 };
    const open = (holder: string) => openLeasedWriters(log, { [KEY_SPACE]: "remember" }, { ...lease, holder });

    it("says that the log has all, and leaves the writing to who takes over", async () => {
      await publisher.post(shop);
      const first = await open("one");
      await eventually(() => first.role === "leader");
      const leader = startWith(first.writer(KEY_SPACE));
      await holds(SHOP);
      await eventually(() => log.get(completionKey(KEY_SPACE)));
      const second = await open("two");
      onTestFinished(() => second.close());
      const standby = startWith(second.writer(KEY_SPACE));
      await eventually(() => standby.source.status.state === "following");
      const sequence = await log.lastSequence();
      await leader.stop();
      await first.close();
      await publisher.post({ ...shop, port: 3_001 });
      await publisher.remove(shop);
      await eventually(() => second.role === "leader");
      await holds("shop.example.com/cart 127.0.0.1:3001");
      expect(await log.lastSequence()).toBeGreaterThan(sequence);
    });
  });

  it("ends at once, whatever it waits for", async () => {
    const { stop } = await following();
    await stop();
    cf.foundation.faults.inject({ path: ROUTES_PATH, fault: { kind: "slow" } });
    const waiting = await start();
    await cf.foundation.requests.next("/oauth/token");
    await waiting.stop();
    expect(waiting.source.status.lastError).toBeUndefined();
  });
});

/** The system's clock, which a test can stop, and put forward. Sleeps are as long as ever. */
class ShiftedClock implements Clock {
  #stoppedMs: number | undefined;

  now(): number {
    return this.#stoppedMs ?? systemClock.now();
  }

  sleep(durationMs: number, signal: AbortSignal): Promise<void> {
    return systemClock.sleep(durationMs, signal);
  }

  stop(): void {
    this.#stoppedMs = systemClock.now();
  }

  shift(ms: number): void {
    this.#stoppedMs = this.now() + ms;
  }
}
