import fc from "fast-check";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { KEY_SPACES } from "../../src/entries/keys.js";
import { MeshError } from "../../src/lib/errors.js";
import { silentLogger } from "../../src/lib/logger.js";
import { openEmbeddedLog } from "../../src/log/embedded.js";
import { openKeySpaceWriter } from "../../src/log/key-space-writer.js";
import { cloudControllerSource } from "../../src/sources/cloud-controller/cloud-controller.js";
import { exchange, openAgent } from "../../src/sources/http.js";
import { eventually } from "../support/eventually.js";
import { mutated, pieces, runs, RUNS_TIMEOUT_MS } from "../support/random-runs.js";

const PAGE = {
  pagination: { total_results: 1, total_pages: 1, next: null },
  resources: [{ guid: "route-1", host: "shop", destinations: [{ guid: "d", weight: 1, app: { guid: "a" } }] }],
};
const PROBLEM = { errors: [{ title: "CF-InvalidAuthToken", detail: "Invalid Auth Token", code: 1000 }] };

const http = (status: number, body: string, headers = "") =>
  `HTTP/1.1 ${status} Said\r\nContent-Type: application/json\r\nDate: Sun, 01 Mar 2026 12:00:00 GMT\r\n${headers}` +
  `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
const chunked = (body: string) =>
  `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`;
const examples = [
  http(200, JSON.stringify(PAGE)),
  chunked(JSON.stringify(PAGE)),
  http(401, JSON.stringify(PROBLEM)),
  http(429, JSON.stringify(PROBLEM), "Retry-After: 3\r\nX-RateLimit-Limit: 100\r\nX-RateLimit-Remaining: 0\r\n"),
  http(503, JSON.stringify(PROBLEM)),
];

/** What is asked for first, and what is answered to each connection's request. */
type Answer = (requestLine: string) => readonly Buffer[];

let server: Server;
let answer: Answer = () => [];
let url: string;
const sockets = new Set<Socket>();

beforeAll(async () => {
  server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined).on("close", () => sockets.delete(socket));
    socket.once("data", (request: Buffer) => {
      for (const piece of answer(request.toString("latin1").split("\r\n", 1)[0] ?? "")) socket.write(piece);
      socket.end();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterAll(async () => {
  for (const socket of sockets) socket.destroy();
  server.close();
  await once(server, "close");
});

const { signal } = new AbortController();
const OPTIONS = { requestTimeoutMs: 2_000, maxAnswerBytes: 16 * 1024 * 1024, credentials: () => ({}) };
const REST = { headers: {}, remedies: { refused: "", rateLimited: "" } };

describe("an answer of the Cloud Controller or the UAA", () => {
  const ask = () => {
    const agent = openAgent(OPTIONS);
    return exchange(agent, { server: "Cloud Controller", url: new URL(`${url}/v3/routes`), ...REST }, signal)
      .catch((thrown: unknown) => thrown)
      .finally(() => agent.destroy());
  };

  it(
    "is read, or a fault is told, whatever its bytes",
    async () => {
      await fc.assert(
        fc.asyncProperty(pieces(mutated(...examples)), async (received) => {
          answer = () => received;
          const answered = await ask();
          if (answered instanceof Error) expect(answered).toBeInstanceOf(MeshError);
        }),
        runs(150),
      );
    },
    RUNS_TIMEOUT_MS,
  );

  it.each([
    ["ends before its Content-Length", http(200, "{}").replace("Length: 2", "Length: 2000"), "MESH_SOURCE_UNREACHABLE"],
    [
      "says a Content-Length below its own",
      http(200, "[1]").replace("Length: 3", "Length: 2"),
      "MESH_SOURCE_MALFORMED",
    ],
    ["says two lengths", http(200, "{}", "Content-Length: 1\r\n"), "MESH_SOURCE_UNREACHABLE"],
    ["is no HTTP", "SSH-2.0-OpenSSH_9.6\r\n", "MESH_SOURCE_UNREACHABLE"],
    ["has a head of 1 MB", `HTTP/1.1 200 OK\r\nX: ${"x".repeat(2 ** 20)}\r\n\r\n`, "MESH_SOURCE_UNREACHABLE"],
    ["is a problem nested 100,000 times", http(503, "[".repeat(100_000)), "MESH_SOURCE_UNREACHABLE"],
  ])("is a fault when it %s", async (_, text, code) => {
    answer = () => [Buffer.from(text)];
    expect(await ask()).toMatchObject({ code });
  });
});

describe("a rate limit", () => {
  it.each([["Retry-After: 99999999999\r\n"], ["X-RateLimit-Reset: 99999999999\r\n"]])(
    "never makes the source wait for more than an hour: %j",
    async (header) => {
      const agent = openAgent(OPTIONS);
      answer = () => [Buffer.from(http(429, "{}", header))];
      const asked = exchange(agent, { server: "Cloud Controller", url: new URL(url), ...REST }, signal);
      const fault = (await asked.catch((thrown: unknown) => thrown)) as { readonly retryAfterMs: number };
      await agent.destroy();
      expect(fault.retryAfterMs).toBeGreaterThan(0);
      expect(fault.retryAfterMs).toBeLessThanOrEqual(3_600_000);
    },
  );
});

describe("the route-syncer", () => {
  it(
    "neither ends nor writes anything while a Cloud Controller answers with nonsense",
    async () => {
      const directory = await mkdtemp(join(tmpdir(), "cf-mesh-"));
      const log = await openEmbeddedLog({ directory });
      const root = http(200, JSON.stringify({ links: { uaa: { href: url } } }));
      const token = http(200, JSON.stringify({ access_token: "t", expires_in: 600 }));
      const nonsense = fc.sample(
        mutated(http(200, JSON.stringify({ ...PAGE, resources: [null, 7, {}, { guid: 1 }] }))),
        {
          ...runs(300),
          numRuns: 300,
        },
      );
      let asked = 0;
      answer = (requestLine) => {
        if (requestLine.startsWith("GET / ")) return [Buffer.from(root)];
        if (requestLine.startsWith("POST ")) return [Buffer.from(token)];
        return [nonsense[asked++ % nonsense.length] ?? Buffer.alloc(0)];
      };
      const source = cloudControllerSource({
        apiUrls: [url],
        clientId: "c",
        credentials: () => ({ clientSecret: "s" }),
        requestTimeoutMs: 2_000,
        clock: { now: () => Date.now(), sleep: () => new Promise((resolve) => setImmediate(resolve)) },
        logger: silentLogger,
      });
      const ending = new AbortController();
      const writer = await openKeySpaceWriter(log, KEY_SPACES.cloudControllerRoutes);
      const running = source.run(writer, ending.signal);
      await eventually(() => asked >= 200, RUNS_TIMEOUT_MS - 5_000);
      ending.abort();
      await running;
      let written = 0;
      for await (const entries of log.read(KEY_SPACES.cloudControllerRoutes)) written += entries.length;
      expect(written).toBe(0);
      await log.close();
      await rm(directory, { recursive: true, force: true });
    },
    RUNS_TIMEOUT_MS,
  );
});
