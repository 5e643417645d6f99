import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer as createTcpServer, type Server } from "node:net";
import { createServer as createTlsServer, type TlsOptions } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type CertificateRequest, type Certificates, createCertificates } from "../../src/emulator/certificates.js";
import { encodeProcess, encodeRoute } from "../../src/entries/entries.js";
import { eventually } from "../support/eventually.js";
import { startTestRouter, type TestRouter } from "../support/router.js";
import { startSteadyLoad } from "../support/steady-load.js";

/** A record of TLS 1.2 with the alert that Go's servers send to clients without a certificate. */
const FATAL_BAD_CERTIFICATE = Buffer.from([21, 3, 3, 0, 2, 2, 42]);

describe("apps whose TLS is not as it should be", () => {
  let certificates: Certificates;
  let strangers: Certificates;
  let router: TestRouter;
  const servers: Server[] = [];

  beforeAll(async () => {
    [certificates, strangers] = await Promise.all([createCertificates(), createCertificates()]);
    const own = await certificates.issue({ commonName: "the router", usages: ["client"] });
    router = await startTestRouter({
      files: { "ca.crt": certificates.ca, "router.crt": own.certificate, "router.key": own.key },
      config: (path) => ({
        backends: { caFile: path("ca.crt"), certificateFile: path("router.crt"), keyFile: path("router.key") },
      }),
    });
  });
  afterAll(async () => {
    await router.stop();
    for (const server of servers) server.close();
  });

  /** An app of that name with these instances. Returns its host, and the answer to the first request that found the route. */
  async function served(name: string, ...instances: readonly Server[]) {
    const ports: number[] = [];
    for (const server of instances) {
      servers.push(server);
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
      ports.push((server.address() as AddressInfo).port);
    }
    await router.log.append([
      {
        key: `process.bbs.${name}`,
        value: encodeProcess({
          processGuid: name,
          instances: ports.map((hostTlsPort, index) => ({
            guid: `${name}-${index}`,
            index,
            address: "127.0.0.1",
            certSan: name,
            ports: [{ containerPort: 8080, hostPort: 0, hostTlsPort }],
          })),
        }),
      },
      {
        key: `route.cc.${name}`,
        value: encodeRoute({
          guid: name,
          host: `${name}.example.com`,
          destinations: [{ processGuid: name, port: 8080, protocol: "http1" }],
        }),
      },
    ]);
    const host = `${name}.example.com`;
    const first = await eventually(async () => {
      const answer = await router.client.get(host);
      return answer.headers["x-cf-routererror"] === "unknown_route" ? undefined : answer;
    });
    return { host, first };
  }
  async function answerOf(name: string, instance: Server) {
    const { status, headers, body } = (await served(name, instance)).first;
    return { status, error: String(headers["x-cf-routererror"]), body: body.toString() };
  }

  /** An instance of that name with a certificate as told; it answers with its own name and that of the router. */
  async function speaking(
    name: string,
    { by = certificates, ...more }: Partial<CertificateRequest> & { readonly by?: Certificates } = {},
    options: TlsOptions = {},
  ): Promise<Server> {
    const { certificate, key } = await by.issue({ commonName: name, dnsNames: [name], ...more });
    return createTlsServer(
      { cert: certificate, key, requestCert: true, rejectUnauthorized: false, ...options },
      (socket) => {
        socket.on("error", () => undefined);
        const body = JSON.stringify({ app: name, router: socket.getPeerCertificate().subject.CN });
        socket.on("data", () =>
          socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`),
        );
      },
    );
  }
  /** Speaks no TLS. */
  const plain = () =>
    createTcpServer((socket) => {
      socket.on("error", () => undefined);
      socket.once("data", () => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
    });
  /** Wants a certificate other than the one that it gets. */
  const alerting = () =>
    createTcpServer((socket) => {
      socket.on("error", () => undefined);
      socket.once("data", () => socket.end(FATAL_BAD_CERTIFICATE));
    });

  it("503 for the certificate of another instance", async () => {
    const answer = await answerOf("mixed-up", await speaking("another"));
    expect(answer).toMatchObject({ status: 503, body: "503 Service Unavailable\n" });
    expect(answer.error).toMatch(/^endpoint_failure/);
  });

  it("526 for a certificate that is not trusted, or has ended", async () => {
    const expected = { status: 526, body: "526 Invalid SSL Certificate\n" };
    expect(await answerOf("strange", await speaking("strange", { by: strangers }))).toMatchObject(expected);
    expect(await answerOf("ended", await speaking("ended", { validMs: -1_000 }))).toMatchObject(expected);
  });

  it("525 for an app that speaks no TLS", async () => {
    expect(await answerOf("no-tls", plain())).toMatchObject({ status: 525, body: "525 SSL Handshake Failed\n" });
  });

  it("496 for an app whose alert says that it wants another certificate; 502 where TLS 1.3 hides the alert", async () => {
    const expected = { status: 496, body: "496 SSL Certificate Required\n" };
    expect(await answerOf("alerting", alerting())).toMatchObject(expected);
    const options = { rejectUnauthorized: true, ca: strangers.ca, minVersion: "TLSv1.3" } as const;
    const answer = await answerOf("wants-one", await speaking("wants-one", {}, options));
    expect(answer).toMatchObject({ status: 502, error: expect.stringMatching(/^endpoint_failure/) as string });
  });

  it("are passed over for an instance that is as it should be, whatever the method", async () => {
    const faults = [
      async () => speaking("another"),
      async (name: string) => speaking(name, { by: strangers }),
      plain,
      alerting,
    ];
    for (const [index, fault] of faults.entries()) {
      const name = `half-${index}`;
      const faulty = await fault(name);
      let tried = 0;
      faulty.on("connection", () => (tried += 1));
      const { host, first } = await served(name, await speaking(name), faulty);
      const statuses = [first.status];
      for (let sent = 0; sent < 8; sent += 1) {
        const method = sent % 2 === 0 ? "POST" : "GET";
        statuses.push((await router.client.get(host, "/", { method })).status);
      }
      expect(statuses).toEqual(statuses.map(() => 200));
      expect(tried).toBeGreaterThan(0);
    }
  });

  it("take the router's new certificate, and it their new CA, with no request failed", async () => {
    const { path, credentials } = router;
    const { host } = await served("rotating", await speaking("rotating"));
    const seen = async () => {
      const { body } = await router.client.get(host, "/", { headers: { connection: "close" } });
      return (JSON.parse(body.toString()) as { router?: string }).router;
    };
    expect(await seen()).toBe("the router");
    const load = startSteadyLoad({ port: router.port, host });
    await load.more(50);
    const next = await certificates.issue({ commonName: "the router, rotated", usages: ["client"] });
    await writeFile(path("router.crt"), next.certificate);
    await writeFile(path("router.key"), next.key);
    const caFile = path("ca.crt");
    await writeFile(caFile, `${await readFile(caFile, "utf8")}\n${strangers.ca}`);
    const { host: later } = await served("later", await speaking("later", { by: strangers }));
    await eventually(async () => {
      const answer = await router.client.get(later);
      return answer.status === 200 && answer.body.toString().includes("the router, rotated");
    });
    await writeFile(caFile, "no certificate");
    await eventually(() => credentials.status.refused.includes("router.backends.caFile"));
    await load.more(50);
    const { total, failures } = await load.stop();
    expect(failures).toEqual([]);
    expect(total).toBeGreaterThan(100);
    expect(await seen()).toBeDefined();
  });
});
