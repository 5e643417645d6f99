import fc from "fast-check";
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { decodeRegistration, encodeRegistration } from "../../src/entries/entries.js";
import { KEY_SPACES } from "../../src/entries/keys.js";
import { silentLogger } from "../../src/lib/logger.js";
import { openKeySpaceWriter } from "../../src/log/key-space-writer.js";
import { BadRoute, parseRoute } from "../../src/sources/routing-api/route.js";
import { routingApiSource, type RoutingApiSource } from "../../src/sources/routing-api/routing-api-source.js";
import { eventually } from "../support/eventually.js";
import { mutated, pieces, runs, RUNS_TIMEOUT_MS } from "../support/random-runs.js";
import { startTestRouter, type TestRouter } from "../support/router.js";

const HOST = "fuzz.example.com";

/** Nobody listens there: the router answers 502 for what it knows. */
const WHOLE = {
  route: `${HOST}/cart`,
  port: 9,
  ip: "127.0.0.1",
  ttl: 120,
  log_guid: "5a1c0f6e-7f0e-4c0b-9a53-000000000001",
  route_service_url: "https://service.example.com/x?y",
  modification_tag: { guid: "c3b0d1f2-0000-4000-8000-000000000001", index: 7 },
};
const GOOD = {
  route: `good.${HOST}`,
  port: 9,
  ip: "127.0.0.1",
  ttl: 120,
  modification_tag: { guid: "good", index: 0 },
};

const strange = fc.oneof(
  fc.constantFrom(
    null,
    true,
    -1,
    0,
    1.5,
    2 ** 32,
    2 ** 53,
    "",
    " ",
    "\n",
    "\u0000",
    "\ud800",
    "ß",
    "*",
    "..",
    "a\r\nb",
  ),
  fc.string({ unit: "binary", maxLength: 20 }),
  fc.jsonValue({ maxDepth: 3 }),
);
/** A route with another value in some of its fields. */
const changed = fc
  .dictionary(fc.constantFrom(...Object.keys(WHOLE)), strange, { maxKeys: 3 })
  .map((changes) => ({ ...WHOLE, ...changes }));
/** Texts that the schema takes, whatever is in them. */
const taken = fc
  .record({
    log_guid: fc.string({ unit: "binary", maxLength: 20 }),
    path: fc.string({ unit: "binary", maxLength: 20 }),
    ip: fc.constantFrom("127.0.0.1", "::1", "1.2.3", "999.1.1.1", "::::", "1:2", "name", "a..b", "-"),
    port: fc.integer({ min: 1, max: 65_535 }),
    ttl: fc.constantFrom(null, 0, 1, 120, 2 ** 31 - 1),
    index: fc.nat(3),
  })
  .map(({ path, index, ...fields }) => ({
    ...fields,
    route: `${HOST}/${path}`,
    modification_tag: { guid: "fuzz", index },
  }));
const anyRoute = fc.oneof(changed, taken, strange);

function parsed(json: unknown) {
  try {
    return parseRoute(json);
  } catch (thrown) {
    if (thrown instanceof BadRoute) return undefined;
    throw thrown;
  }
}

describe("routes of the routing API", () => {
  it("are read or refused, whatever they hold; what is read is written as protobuf reads it", () => {
    fc.assert(
      fc.property(anyRoute, (json) => {
        const route = parsed(json);
        if (!route) return;
        const written = route.encode();
        const entry = decodeRegistration(written);
        expect(Buffer.from(encodeRegistration(entry)).equals(written)).toBe(true);
        expect(entry.host).toMatch(/^(?:\*\.)?[a-z0-9_.-]+$/);
        expect(entry.path).toMatch(/^(?:\/.*)?$/su);
      }),
      runs(3_000),
    );
  });

  it.each([
    ["a list nested 1,000 times", JSON.parse("[".repeat(1_000) + "]".repeat(1_000)) as unknown],
    ["a host of 200,000 dots", { ...WHOLE, route: "a".padEnd(200_000, ".") }],
    ["a path of 200,000 slashes", { ...WHOLE, route: `a.b/${"/".repeat(200_000)}x` }],
    ["an address of 200,000 letters", { ...WHOLE, ip: "a".repeat(200_000) }],
    ["a service of 200,000 letters", { ...WHOLE, route_service_url: `https://${"a".repeat(200_000)}` }],
  ])("are refused within 200 ms, in few words: %s", (_, json) => {
    const startedMs = performance.now();
    expect(() => parseRoute(json)).toThrow(/^.{0,300}$/s);
    expect(performance.now() - startedMs).toBeLessThan(200);
  });
});

const TOKEN = JSON.stringify({ access_token: "token", expires_in: 3_600, scope: "routing.routes.read" });
const answerOf = (body: string, type = "application/json") =>
  `HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
const frame = (event: string, data: object) => `id: 0\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
const STREAM_HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n";
const goodList = answerOf(JSON.stringify([GOOD]));
const goodStream = STREAM_HEAD + frame("Upsert", GOOD);

/** What is answered to a list, and to a subscription, in pieces. */
interface Answers {
  readonly list: readonly Buffer[];
  readonly stream: readonly Buffer[];
}
const GOOD_ANSWERS: Answers = { list: [Buffer.from(goodList)], stream: [Buffer.from(goodStream)] };

describe("a router that the routing API's routes come to", () => {
  let server: Server;
  let router: TestRouter;
  let source: RoutingApiSource;
  let running: Promise<void>;
  let answers = GOOD_ANSWERS;
  let listsAnswered = 0;
  let streamsAnswered = 0;
  const sockets = new Set<Socket>();
  const ending = new AbortController();

  beforeAll(async () => {
    server = createServer((socket) => {
      sockets.add(socket);
      socket.on("error", () => undefined).on("close", () => sockets.delete(socket));
      socket.once("data", (request: Buffer) => {
        const isGood = answers === GOOD_ANSWERS;
        if (request.includes("/oauth/token")) socket.end(answerOf(TOKEN));
        else if (request.includes("/events")) {
          for (const piece of answers.stream) socket.write(piece);
          streamsAnswered += 1;
          // Good streams last.
          if (!isGood) socket.end();
        } else {
          for (const piece of answers.list) socket.write(piece);
          listsAnswered += 1;
          socket.end();
        }
      });
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    router = await startTestRouter();
    source = routingApiSource({
      apiUrls: [url],
      uaaUrls: [url],
      clientId: "mesh",
      credentials: () => ({ clientSecret: "secret" }),
      listIntervalMs: 20,
      requestTimeoutMs: 2_000,
      readStored: () => router.log.read(KEY_SPACES.routingApiRegistrations),
      logger: silentLogger,
      // Whatever fails is tried again at once.
      clock: {
        now: () => performance.now(),
        sleep: (ms, signal) =>
          new Promise((resolve) => {
            const done = () => {
              clearTimeout(timer);
              signal.removeEventListener("abort", done);
              resolve();
            };
            const timer = setTimeout(done, Math.min(ms, 20));
            signal.addEventListener("abort", done);
            if (signal.aborted) done();
          }),
      },
    });
    running = source.run(await openKeySpaceWriter(router.log, KEY_SPACES.routingApiRegistrations), ending.signal);
    await eventually(() => source.status.state === "following");
  });

  afterAll(async () => {
    ending.abort();
    await running;
    for (const socket of sockets) socket.destroy();
    server.close();
    await router.stop();
  });

  const refusals = () => router.router.status.proxies.flatMap((proxy) => proxy.refusals);

  /** Says this to one list and one subscription at least, and then what is good again. */
  async function say(said: Answers): Promise<void> {
    const [lists, streams] = [listsAnswered, streamsAnswered];
    answers = said;
    for (const socket of sockets) socket.destroy();
    await eventually(() => listsAnswered > lists + 1 && streamsAnswered > streams + 1);
    await sayGood();
  }

  async function sayGood(): Promise<void> {
    answers = GOOD_ANSWERS;
    for (const socket of sockets) socket.destroy();
    await eventually(() => source.status.state === "following" && source.counts.routes === 1);
    await eventually(async () => (await router.client.get(GOOD.route, "/")).status === 502);
  }

  it(
    "follows again after answers of any bytes, in any pieces",
    async () => {
      const list = pieces(mutated(goodList, answerOf(JSON.stringify([WHOLE, GOOD]))));
      const stream = pieces(mutated(goodStream, STREAM_HEAD + frame("Delete", GOOD) + frame("Upsert", WHOLE)));
      await fc.assert(
        fc.asyncProperty(fc.record({ list, stream }), async (said) => {
          await say(said);
        }),
        { ...runs(25), endOnFailure: true },
      );
    },
    2 * RUNS_TIMEOUT_MS,
  );

  it(
    "has Envoy take what it takes over",
    async () => {
      const both = fc.record({
        listed: fc.array(taken, { minLength: 3, maxLength: 15 }),
        told: fc.array(fc.oneof(taken, changed), { minLength: 3, maxLength: 15 }),
      });
      await fc.assert(
        fc.asyncProperty(both, async ({ listed, told }) => {
          const list = [Buffer.from(answerOf(JSON.stringify([...listed, GOOD])))];
          const events = told.map((route, index) => frame(index % 3 === 2 ? "Delete" : "Upsert", route));
          answers = { list, stream: [Buffer.from(STREAM_HEAD + events.join(""))] };
          const { lists } = source.counts;
          await eventually(() => source.counts.lists > lists + 1);
          // It is asked for, so that Envoy gets its routes, clusters and endpoints.
          await router.client.get(HOST, "/");
          await eventually(async () => (await router.client.get(GOOD.route, "/")).status === 502);
          expect(refusals()).toEqual([]);
        }),
        { ...runs(12), endOnFailure: true },
      );
      await sayGood();
    },
    RUNS_TIMEOUT_MS,
  );

  it(
    "keeps its size while streams without measure come",
    async () => {
      const huge = Buffer.alloc(2 ** 20, "a");
      const bytesBefore = process.memoryUsage().rss;
      for (let round = 0; round < 20; round += 1) {
        await say({ list: [Buffer.from(answerOf("[".repeat(100_000)))], stream: [Buffer.from(STREAM_HEAD), huge] });
      }
      expect(process.memoryUsage().rss - bytesBefore).toBeLessThan(200 * 2 ** 20);
    },
    RUNS_TIMEOUT_MS,
  );
});
