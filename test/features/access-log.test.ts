import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rename, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { createReadStream } from "node:fs";
import { text } from "node:stream/consumers";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeProcess, encodeRoute } from "../../src/entries/entries.js";
import { Client } from "../support/client.js";
import { eventually } from "../support/eventually.js";
import { startTestRouter, type TestRouter } from "../support/router.js";

const HOST = "logged.example.com";
const APP = "4b0ba04e-cd4b-4a2c-8f4c-3f6b2f8ba2d6";
const INSTANCE = "f65a2d3e-7d52-4d07-5b61-5f7a";
const START = `${HOST.replaceAll(".", "\\.")} - \\[\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{9}Z\\]`;

describe("the access log", () => {
  let mesh: TestRouter;
  let directory: string;
  let file: string;
  let app: Server;
  let appPort: number;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "cf-mesh-"));
    file = join(directory, "access.log");
    app = createServer((request, response) => {
      request.resume();
      request.on("end", () => {
        if (request.url !== "/held") response.end("four");
      });
    });
    app.listen(0, "127.0.0.1");
    await once(app, "listening");
    appPort = (app.address() as AddressInfo).port;
    mesh = await startTestRouter({
      config: () => ({ accessLog: { file, extraHeaders: ["X-Extra"], extraFields: ["failed_attempts", "dial_time"] } }),
    });
    await serve(mesh);
  });
  afterAll(async () => {
    await mesh.stop();
    app.close();
    app.closeAllConnections();
    await rm(directory, { recursive: true, force: true });
  });

  async function serve(router: TestRouter): Promise<void> {
    await router.log.append([
      {
        key: "route.cc.logged",
        value: encodeRoute({
          guid: "logged",
          host: HOST,
          destinations: [{ processGuid: "web", appGuid: APP, port: 8080, protocol: "http1" }],
        }),
      },
      {
        key: "process.bbs.web",
        value: encodeProcess({
          processGuid: "web",
          appGuid: APP,
          instances: [
            { guid: INSTANCE, index: 3, address: "127.0.0.1", ports: [{ containerPort: 8080, hostPort: appPort }] },
          ],
        }),
      },
    ]);
    await eventually(async () => (await router.client.get(HOST)).status === 200);
  }

  /** A request on a connection of a load balancer's, which says whose it is. */
  async function proxied(port: number, header: string): Promise<void> {
    const socket = connect(port, "127.0.0.1");
    const request = `GET /proxied HTTP/1.1\r\nhost: ${HOST}\r\n${header}connection: close\r\n\r\n`;
    socket.write(`PROXY TCP4 203.0.113.7 127.0.0.1 4711 8080\r\n${request}`);
    expect(await text(socket)).toContain(" 200 OK");
  }

  const linesOf = async (path: string) => (await readFile(path, "utf8").catch(() => "")).split("\n");
  /** The line of the request that has this in it. */
  const lineOf = (mark: string, path = file) =>
    eventually(async () => (await linesOf(path)).find((line) => line.includes(mark)));

  it("has Gorouter's line of a request, byte for byte", async () => {
    const { headers } = await mesh.client.get(HOST, "/orders?id=7", {
      method: "POST",
      body: "sixteen letters!",
      headers: {
        "user-agent": 'a "browser"',
        referer: "http://there/",
        "x-forwarded-for": "203.0.113.9",
        "x-extra": "more",
      },
    });
    expect(await lineOf("/orders")).toMatch(
      new RegExp(
        [
          `^${START} "POST /orders\\?id=7 HTTP/1\\.1" 200 16 4`,
          `"http://there/" "a \\\\"browser\\\\"" "127\\.0\\.0\\.1:\\d+" "127\\.0\\.0\\.1:${appPort}"`,
          `x_forwarded_for:"203\\.0\\.113\\.9, ?[0-9.]+" x_forwarded_proto:"http" vcap_request_id:"${String(headers["x-vcap-request-id"])}"`,
          `response_time:0\\.\\d{6} gorouter_time:0\\.\\d{6} app_id:"${APP}" app_index:"3" instance_id:"${INSTANCE}"`,
          `failed_attempts:0 dial_time:"-" x_cf_routererror:"-" x_extra:"more"$`,
        ].join(" "),
      ),
    );
  });

  it("ends with the headers of traces, where requests carry some", async () => {
    const traced = await startTestRouter({
      config: (path) => ({
        http: { traceHeaders: { b3: true, w3c: true } },
        accessLog: { file: path("access.log"), extraHeaders: ["X-Extra", "b3"] },
      }),
    });
    try {
      await serve(traced);
      const trace = "463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312";
      await traced.client.get(HOST, "/traced", { headers: { b3: trace } });
      expect(await lineOf("/traced", traced.path("access.log"))).toMatch(
        new RegExp(
          `x_cf_routererror:"-" x_extra:"-" b3:"${trace}" x_b3_traceid:"-" x_b3_spanid:"-" x_b3_parentspanid:"-" ` +
            `traceparent:"00-${trace}-01" tracestate:"gorouter=a2fb4a1d1a96d312"$`,
        ),
      );
    } finally {
      await traced.stop();
    }
  });

  it("tells why the router answered itself", async () => {
    const stranger = "no-such-host.example.com";
    await mesh.client.get(stranger, "/nothing");
    const line = await lineOf("/nothing");
    expect(line).toMatch(new RegExp(`^${stranger} - \\[[^\\]]+\\] "GET /nothing HTTP/1\\.1" 404 0 \\d+ "-" "-" `));
    expect(line).toMatch(/" "-" x_forwarded_for:/);
    expect(line).toContain('gorouter_time:"-" app_id:"-" app_index:"-" instance_id:"-"');
    expect(line).toContain('x_cf_routererror:"unknown_route"');
  });

  it("says 499 of a client that left before its answer, and HTTP/2.0 of one that speaks it", async () => {
    const socket = connect(mesh.port, "127.0.0.1");
    socket.write(`GET /held HTTP/1.1\r\nhost: ${HOST}\r\n\r\n`);
    await once(app, "request");
    socket.destroy();
    expect(await lineOf("/held")).toContain('"GET /held HTTP/1.1" 499 0 0');

    const session = connectHttp2(`http://127.0.0.1:${mesh.port}`);
    const stream = session.request({ ":path": "/second", ":authority": HOST });
    expect(await text(stream)).toBe("four");
    session.close();
    expect(await lineOf("/second")).toContain('"GET /second HTTP/2.0" 200 0 4');
  });

  it("keeps bytes that are no text, and no header breaks its line", async () => {
    const socket = connect(mesh.port, "127.0.0.1");
    const request = `GET /bytes HTTP/1.1\r\nhost: ${HOST}\r\nuser-agent: a\xff\tb "\\" \xc3\xbc\r\nconnection: close\r\n\r\n`;
    socket.write(Buffer.from(request, "latin1"));
    await text(socket);
    expect(await lineOf("/bytes")).toContain('200 0 4 "-" "a\\xff\\tb \\"\\\\\\" ü" "127.0.0.1:');
    expect(mesh.router.status.requestLog?.malformedCount).toBe(0);
  });

  it("goes on in a new file when the one before was renamed", async () => {
    await mesh.client.get(HOST, "/before-rotation");
    await lineOf("/before-rotation");
    await rename(file, `${file}.1`);
    mesh.router.reopenAccessLog();
    await mesh.client.get(HOST, "/after-rotation");
    await lineOf("/after-rotation");
    expect(await lineOf("/before-rotation", `${file}.1`)).not.toBe("");
  });

  it("has the requests that were served while no agent ran", async () => {
    const restarted = mesh.restartAgent();
    const client = new Client(mesh.port);
    let sent = 0;
    for (let isRunning = true; isRunning; sent += 1) {
      isRunning = await Promise.race([
        restarted.then(() => false),
        client.get(HOST, `/orphan-${sent}-`).then(() => true),
      ]);
    }
    client.close();
    expect(sent).toBeGreaterThan(10);
    for (let number = 0; number < sent - 1; number += 1) await lineOf(`/orphan-${number}-`);
  });

  it("slows no request when nobody reads it: lines are dropped and counted, and it goes on when somebody does", async () => {
    const pipe = join(directory, "pipe");
    await promisify(execFile)("mkfifo", [pipe]);
    const stuck = await startTestRouter({
      config: () => ({
        http: { proxyProtocol: true },
        accessLog: { file: pipe, format: "json", redactQueryParameters: "hash", bufferBytes: 65_536 },
      }),
    });
    const lost = () => stuck.router.status.requestLog?.lines?.lostCount ?? 0;
    try {
      await serve(stuck);
      const long = "x".repeat(4_000);
      for (let sent = 0; sent < 100; sent += 1) {
        expect((await stuck.client.get(HOST, `/stuck?${long}`)).status).toBe(200);
      }
      await eventually(() => lost() > 50);
      expect(stuck.router.status.requestLog?.lines?.lastError).toContain("ENXIO");
      const reader = createReadStream(pipe);
      try {
        const lines = createInterface({ input: reader });
        await eventually(async () => {
          await stuck.client.get(HOST, "/read?secret");
          return stuck.router.status.requestLog?.lines?.lastError === undefined;
        });
        for (const forwarded of ["", "x-forwarded-for: 1.1.1.1\r\n"]) await proxied(stuck.port, forwarded);
        await stuck.client.get(HOST, "/read?secret");
        const clients: unknown[] = [];
        for await (const written of lines) {
          const line = JSON.parse(written) as Record<string, unknown>;
          expect(line).toMatchObject({ host: HOST, app_id: APP, status: 200 });
          if (line["uri"] === "/proxied") clients.push(line["client"]);
          if (!String(line["uri"]).startsWith("/read")) continue;
          expect(line["uri"]).toBe("/read?hash=e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4");
          if (clients.length < 2) continue;
          expect(clients).toEqual(["203.0.113.7:4711", "203.0.113.7:0"]);
          break;
        }
        const metrics = await stuck.router.metrics();
        expect(metrics).toContain(`cf_mesh_access_log_lost_total{where="file"} ${lost()}`);
        expect(metrics).toContain('cf_mesh_access_log_lost_total{where="envoy"} 0');
      } finally {
        reader.destroy();
      }
    } finally {
      await stuck.stop();
    }
  });
});
