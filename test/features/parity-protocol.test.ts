import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { eventually } from "../support/eventually.js";
import { RawConnection, rawRequest } from "../support/raw.js";
import { startTestRouter, type TestRouter } from "../support/router.js";
import { TestApps } from "../support/test-apps.js";

describe("the protocol", () => {
  let router: TestRouter;
  let apps: TestApps;
  let host: string;
  let echoing: string;
  /** Requests' heads, as the app "plain" got them. */
  const heads: string[] = [];
  /** With short times. */
  let hasty: TestRouter;
  let hastyApps: TestApps;

  beforeAll(async () => {
    [router, hasty] = await Promise.all([
      startTestRouter(),
      startTestRouter({
        config: () => ({
          http: {
            requestTimeoutMs: 300,
            requestHeadersTimeoutMs: 300,
            idleTimeoutMs: 300,
            upgradeTypes: ["websocket", "chatter"],
            backends: { keepAlive: false },
          },
        }),
      }),
    ]);
    [apps, hastyApps] = [new TestApps(router), new TestApps(hasty)];
    host = await apps.http("app", (request, response) => {
      response.end(JSON.stringify({ version: request.httpVersion, url: request.url }));
    });
    echoing = await upgrading(apps);
  });
  afterAll(async () => {
    await Promise.all([apps.close(), hastyApps.close()]);
    await Promise.all([router.stop(), hasty.stop()]);
  });

  /** Agrees to each upgrade, and gives back what it gets. */
  const upgrading = (where: TestApps, name = "upgrading") =>
    where.tcp(name, (socket) => {
      socket.once("data", (bytes: Buffer) => {
        const head = bytes.toString("latin1");
        heads.push(head);
        const [, protocol] = /\r\nupgrade: ([^\r]+)/i.exec(head) ?? [];
        if (protocol === undefined) {
          socket.end("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
          return;
        }
        socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`);
        socket.pipe(socket);
      });
    });

  async function open(port = router.port): Promise<RawConnection> {
    const connection = await RawConnection.open(port);
    onTestFinished(() => connection.close());
    return connection;
  }

  it("is WebSocket where the client and the app want it, for as long as they like", async () => {
    const connection = await open(hasty.port);
    const target = await upgrading(hastyApps);
    const head = ["GET /chat HTTP/1.1", `Host: ${target}`, "Connection: Upgrade", "Upgrade: websocket"];
    connection.send(
      ...head,
      `Sec-WebSocket-Key: ${randomBytes(16).toString("base64")}`,
      "Sec-WebSocket-Version: 13",
      "",
    );
    expect(await connection.until(/\r\n\r\n/)).toMatch(/^HTTP\/1\.1 101 Switching Protocols\r\n/);
    connection.socket.write("hello");
    await connection.until(/hello/);
    // Longer than requests and idle connections may take here.
    await delay(700);
    connection.socket.write("again");
    await connection.until(/again/);
  });

  it("is WebSocket over HTTP/2, too", async () => {
    const session = connectHttp2(`http://127.0.0.1:${router.port}`);
    onTestFinished(() => session.destroy());
    await once(session, "remoteSettings");
    const stream = session.request(
      { ":method": "CONNECT", ":protocol": "websocket", ":scheme": "http", ":path": "/chat", ":authority": echoing },
      { endStream: false },
    );
    const [headers] = (await once(stream, "response")) as [Record<string, unknown>];
    expect(headers[":status"]).toBe(200);
    stream.write("hello");
    const [bytes] = (await once(stream, "data")) as [Buffer];
    expect(bytes.toString()).toBe("hello");
    expect(heads.at(-1)).toMatch(/^GET \/chat HTTP\/1\.1\r\n/);
  });

  it("is another one that is set, no other, and HTTP/1.1 for those who offer HTTP/2", async () => {
    const upgrade = (protocol: string, target: string) => [
      ...["GET / HTTP/1.1", `Host: ${target}`, "Connection: Upgrade, HTTP2-Settings", `Upgrade: ${protocol}`],
      ...["HTTP2-Settings: AAMAAABkAAQAAP__", ""],
    ];
    const chatter = await open(hasty.port);
    chatter.send(...upgrade("chatter", await upgrading(hastyApps, "chatting")));
    await chatter.until(/^HTTP\/1\.1 101 /);
    const refused = await open();
    refused.send(...upgrade("chatter", echoing));
    await refused.until(/^HTTP\/1\.1 403 /);
    const offered = await open();
    offered.send(...upgrade("h2c", host));
    expect(await offered.until(/\}$/m)).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
  });

  it("lets the app say whether it wants the body that a client asks about", async () => {
    const bodies: string[] = [];
    const asked = await apps.tcp("careful", (socket) => {
      socket.on("data", (bytes: Buffer) => {
        bodies.push(bytes.toString("latin1"));
        if (/expect: 100-continue/i.test(bodies.join("")))
          socket.write("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n");
        else socket.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
      });
    });
    const connection = await open();
    connection.send("PUT / HTTP/1.1", `Host: ${asked}`, "Content-Length: 5", "Expect: 100-continue", "");
    expect(await connection.until(/\r\n\r\n/)).toMatch(/^HTTP\/1\.1 417 /);
    expect(bodies.join("")).not.toContain("hello");
  });

  it("may be HTTP/1.0 with a host, and HTTP/2 without TLS", async () => {
    const old = await rawRequest(router.port, "GET /old HTTP/1.0", `Host: ${host}`);
    expect(old).toMatch(/^HTTP\/1\.[01] 200 OK\r\n/);
    expect(old).toContain('"url":"/old"');
    const session: ClientHttp2Session = connectHttp2(`http://127.0.0.1:${router.port}`);
    onTestFinished(() => session.destroy());
    const stream = session.request({ ":path": "/new", ":authority": host });
    const [headers] = (await once(stream, "response")) as [Record<string, unknown>];
    expect(headers[":status"]).toBe(200);
  });

  it("is served as HTTP/1.0 where it names versions that there are not", async () => {
    for (const version of ["HTTP/1.2", "HTTP/2.0"]) {
      expect(await rawRequest(router.port, `GET /odd ${version}`, `Host: ${host}`)).toMatch(/^HTTP\/1\.0 200 OK\r\n/);
    }
    const asterisk = await open();
    asterisk.send("OPTIONS * HTTP/1.1", `Host: ${host}`, "");
    await asterisk.until(/^HTTP\/1\.1 404 /);
  });

  it("may have trailers, and so may its answer", async () => {
    const trailing = await apps.tcp("trailing", (socket) => {
      let got = "";
      socket.on("data", (bytes: Buffer) => {
        got += bytes.toString("latin1");
        // The first request is without.
        if (got.startsWith("GET")) socket.end("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        if (!got.endsWith("\r\n0\r\nx-sum: 7\r\n\r\n")) return;
        socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Total\r\n\r\n");
        socket.end("2\r\nok\r\n0\r\nX-Total: 8\r\n\r\n");
      });
    });
    const connection = await open();
    const head = ["POST / HTTP/1.1", `Host: ${trailing}`, "Transfer-Encoding: chunked", "Trailer: X-Sum", ""];
    connection.send(...head, "2", "hi", "0", "X-Sum: 7", "");
    expect(await connection.until(/\r\n0\r\n[^]*\r\n\r\n$/)).toMatch(/\r\n0\r\nx-total: 8\r\n\r\n$/);
  });

  it("is a health check where its User-Agent is a load balancer's, and reaches no app", async () => {
    const checked = await startTestRouter({
      config: () => ({ http: { healthCheckUserAgent: "HTTP-Monitor/1.1" }, drainWaitMs: 1_000 }),
    });
    onTestFinished(() => checked.stop());
    const check = () =>
      checked.client.get("any.example.com", "/any", { headers: { "user-agent": "HTTP-Monitor/1.1" } });
    const { status, headers, body } = await check();
    expect([status, body.toString(), headers["cache-control"], headers["expires"], headers["content-type"]]).toEqual([
      200,
      "ok\n",
      "private, max-age=0",
      "0",
      "text/plain; charset=utf-8",
    ]);
    expect(Object.keys(headers).filter((name) => name.startsWith("x-envoy"))).toEqual([]);
    expect((await checked.client.get("any.example.com")).status).toBe(404);
    const draining = checked.router.envoy.drain();
    await eventually(async () => (await check()).status === 503);
    await draining;
  });

  it("goes on with the next request after what the app answers early", async () => {
    const connection = await open();
    connection.send("GET /1 HTTP/1.1", `Host: ${host}`, "", "GET /2 HTTP/1.1", `Host: ${host}`, "");
    const answers = await connection.until(/"url":"\/2"/);
    expect(answers.indexOf('"url":"/1"')).toBeLessThan(answers.indexOf('"url":"/2"'));
  });

  it("has an end for apps that do not answer: 502, with the cause", async () => {
    const silent = await hastyApps.http("silent", () => undefined);
    const answer = await hasty.client.get(silent);
    expect(answer.status).toBe(502);
    expect(answer.headers["x-cf-routererror"]).toBe("endpoint_failure (context deadline exceeded)");
    expect(answer.body.toString()).toBe("502 Bad Gateway: Registered endpoint failed to handle the request.\n");
  });

  it("has an end for clients that do not finish their headers, and for idle connections", async () => {
    const slow = await open(hasty.port);
    slow.send("GET / HTTP/1.1", "Host: x");
    expect(await slow.untilClosed()).toMatch(/^HTTP\/1\.1 408 /);
    const idle = await open(hasty.port);
    expect(await idle.untilClosed()).toBe("");
  });

  it("keeps connections to apps for the next request, unless that is off", async () => {
    const count = async (where: TestApps, to: TestRouter) => {
      const ports = new Set<number | undefined>();
      const target = await where.http("counted", (request, response) => {
        ports.add(request.socket.remotePort);
        response.end("{}");
      });
      ports.clear();
      for (let asked = 0; asked < 5; asked += 1) await to.client.get(target);
      return ports.size;
    };
    expect(await count(apps, router)).toBe(1);
    expect(await count(hastyApps, hasty)).toBe(5);
  });

  it("keeps idle connections to apps for a time that is set", async () => {
    const brief = await startTestRouter({ config: () => ({ http: { backends: { idleTimeoutMs: 200 } } }) });
    const briefApps = new TestApps(brief);
    let open = 0;
    const target = await briefApps.tcp("brief", (socket) => {
      open += 1;
      socket.once("close", () => (open -= 1));
      socket.on("data", () => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    });
    expect((await brief.client.get(target)).status).toBe(200);
    await eventually(() => open === 0);
    await briefApps.close();
    await brief.stop();
  });

  it("refuses an answer whose headers are more than is set", async () => {
    const wordy = await apps.http("wordy", (_request, response) => {
      for (let index = 0; index < 1_200; index += 1) response.setHeader(`x-${index}`, "y");
      response.end();
    });
    const answer = await router.client.get(wordy);
    expect(answer.status).toBe(502);
    expect(answer.headers["x-cf-routererror"]).toMatch(/^endpoint_failure/);
    const rich = await apps.http("rich", (_request, response) => {
      for (let index = 0; index < 500; index += 1) response.setHeader(`x-${index}`, "y");
      response.setHeader("x-large", "y".repeat(10_000));
      response.end();
    });
    expect((await router.client.get(rich)).status).toBe(200);
  });
});
