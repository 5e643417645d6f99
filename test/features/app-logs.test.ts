import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { type Certificates, createCertificates, type KeyPair } from "../../src/emulator/certificates.js";
import { encodeProcess, encodeRegistration, encodeRoute } from "../../src/entries/entries.js";
import { Log_Type } from "../../src/gen/loggregator/v2/loggregator_pb.js";
import { createLogger, type Logger, silentLogger } from "../../src/lib/logger.js";
import { eventually } from "../support/eventually.js";
import { freePort } from "../support/free-port.js";
import { goLoggregatorAgent, GoLoggregatorAgent } from "../support/go-loggregator-agent.js";
import { lineOf, type LoggregatorAgent, startLoggregatorAgent } from "../support/loggregator-agent.js";
import { startTestRouter, type TestRouter } from "../support/router.js";

const HOST = "logged.example.com";
const REGISTERED = "registered.example.com";
const APP = "4b0ba04e-cd4b-4a2c-8f4c-3f6b2f8ba2d6";
const INSTANCE = "f65a2d3e-7d52-4d07-5b61-5f7a";
const INDEX = 2;

/** Keys beyond those that every test has. */
interface AccessLog {
  readonly loggregator?: object;
  readonly isWrittenToFile?: boolean;
  readonly [key: string]: unknown;
}

describe("lines of requests in the log of their app", () => {
  let certificates: Certificates;
  let agentPair: KeyPair;
  let clientPair: KeyPair;
  let app: Server;
  let appPort: number;

  beforeAll(async () => {
    certificates = await createCertificates();
    agentPair = await certificates.issue({ commonName: "metron", dnsNames: ["metron"] });
    clientPair = await certificates.issue({ commonName: "gorouter", usages: ["client"] });
    app = createServer({ maxHeaderSize: 256 * 1024 }, (request, response) => {
      request.resume();
      request.on("end", () => response.end("four"));
    });
    app.listen(0, "127.0.0.1");
    await once(app, "listening");
    appPort = (app.address() as AddressInfo).port;
  });
  afterAll(() => {
    app.close();
    app.closeAllConnections();
  });

  const startAgent = async (options: { port?: number; isHung?: boolean; clientCa?: string } = {}) => {
    const agent = await startLoggregatorAgent({ clientCa: certificates.ca, server: agentPair, ...options });
    onTestFinished(() => agent.close());
    return agent;
  };

  async function startRouter(
    port: number,
    { loggregator = {}, isWrittenToFile = false, ...accessLog }: AccessLog = {},
    section: object = {},
    { shown = clientPair, logger = silentLogger }: { shown?: KeyPair; logger?: Logger } = {},
  ): Promise<TestRouter> {
    const mesh = await startTestRouter({
      files: { ca: certificates.ca, certificate: shown.certificate, key: shown.key },
      logger,
      config: (path) => ({
        accessLog: {
          loggregator: {
            address: `127.0.0.1:${port}`,
            caFile: path("ca"),
            certificateFile: path("certificate"),
            keyFile: path("key"),
            index: INDEX,
            ...loggregator,
          },
          ...(isWrittenToFile && { file: path("access.log") }),
          ...accessLog,
        },
        ...section,
      }),
    });
    await mesh.log.append([
      {
        key: "route.cc.logged",
        value: encodeRoute({
          guid: "logged",
          host: HOST,
          destinations: [
            { processGuid: "web", appGuid: APP, appName: "shop", processType: "web", port: 8080, protocol: "http1" },
          ],
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
    await eventually(async () => (await mesh.client.get(HOST)).status === 200);
    return mesh;
  }

  describe("with an agent", () => {
    let agent: LoggregatorAgent;
    let mesh: TestRouter;
    beforeAll(async () => {
      agent = await startLoggregatorAgent({ clientCa: certificates.ca, server: agentPair });
      mesh = await startRouter(agent.port, { extraHeaders: ["X-Extra"], redactQueryParameters: "hash" });
    });
    afterAll(async () => {
      await mesh.stop();
      agent.close();
    });

    it("is there for each request, with the router's index and what the mesh knows of the instance", async () => {
      const beforeNs = BigInt(Date.now()) * 1_000_000n;
      await mesh.client.get(HOST, "/orders?id=7", { headers: { "x-extra": "more" } });
      const envelope = await agent.envelopeOf("/orders");
      expect(lineOf(envelope)).toMatch(
        new RegExp(
          `^${HOST} - \\[[^\\]]+Z\\] "GET /orders\\?hash=[0-9a-f]{40} HTTP/1\\.1" 200 0 4 "-" "-" ` +
            `"127\\.0\\.0\\.1:\\d+" "127\\.0\\.0\\.1:${appPort}" x_forwarded_for:.* app_id:"${APP}" app_index:"3" ` +
            `instance_id:"${INSTANCE}" x_cf_routererror:"-" x_extra:"more"$`,
        ),
      );
      expect(envelope).toMatchObject({ sourceId: APP, instanceId: "2", log: { type: Log_Type.OUT } });
      expect(envelope.tags).toEqual({
        app_id: APP,
        app_name: "shop",
        component: "route-emitter",
        instance_id: "3",
        origin: "gorouter",
        process_id: "web",
        process_instance_id: INSTANCE,
        source_type: "RTR",
      });
      expect(envelope.timestamp).toBeGreaterThan(beforeNs);
      expect(envelope.timestamp).toBeLessThan(BigInt(Date.now()) * 1_000_000n);
    });

    it("has all tags of an endpoint that NATS tells of", async () => {
      const tags = { app_name: "shop", organization_name: "acme", process_type: "web", space_id: "a-space" };
      await mesh.log.append([
        {
          key: "registration.nats.one",
          value: encodeRegistration({
            ...{ host: REGISTERED, address: "127.0.0.1", port: appPort, appGuid: "registered-app", protocol: "http1" },
            ...{ instanceGuid: "an-instance", instanceIndex: "0" },
            tags: Object.entries(tags).map(([name, value]) => ({ name, value })),
          }),
        },
      ]);
      await eventually(async () => (await mesh.client.get(REGISTERED, "/registered")).status === 200);
      const envelope = await agent.envelopeOf("/registered");
      expect(envelope.sourceId).toBe("registered-app");
      expect(envelope.tags).toEqual({ ...tags, origin: "gorouter", source_type: "RTR" });
    });

    it("has what is said of an instance now, not what was", async () => {
      await mesh.client.get(HOST, "/before");
      expect((await agent.envelopeOf("/before")).tags["app_name"]).toBe("shop");
      await mesh.log.append([
        {
          key: "route.cc.logged",
          value: encodeRoute({
            guid: "logged",
            host: HOST,
            destinations: [
              { processGuid: "web", appGuid: APP, appName: "store", processType: "web", port: 8080, protocol: "http1" },
            ],
          }),
        },
      ]);
      await eventually(async () => {
        await mesh.client.get(HOST, "/after");
        return agent.envelopes.some((each) => lineOf(each).includes("/after") && each.tags["app_name"] === "store");
      });
    });

    it("is there for a request that its instance did not take, too", async () => {
      await mesh.log.append([
        {
          key: "registration.nats.gone",
          value: encodeRegistration({
            ...{ host: "gone.example.com", address: "127.0.0.1", port: await freePort(), protocol: "http1" },
            ...{ appGuid: "gone-app", instanceGuid: "gone-instance", instanceIndex: "5" },
          }),
        },
      ]);
      await eventually(async () => (await mesh.client.get("gone.example.com", "/gone")).status === 502);
      const { sourceId, tags, log } = await agent.envelopeOf("/gone");
      expect([sourceId, tags["source_type"]]).toEqual(["gone-app", "RTR"]);
      const line = Buffer.from(log?.payload ?? []).toString();
      expect(line).toContain('"GET /gone HTTP/1.1" 502 0 ');
      expect(line).toMatch(
        /app_id:"gone-app" app_index:"5" instance_id:"gone-instance" x_cf_routererror:"endpoint_failure/,
      );
    });

    it("is not there for a request that went to no app", async () => {
      await mesh.client.get("no-such-host.example.com", "/nothing");
      await mesh.client.get(HOST, "/something");
      await agent.envelopeOf("/something");
      expect(agent.envelopes.filter((each) => lineOf(each).includes("/nothing"))).toEqual([]);
    });

    it("is whole up to 65,400 bytes, and a longer one is cut in Gorouter's words", async () => {
      const get = (path: string, agentName: string, extra: string) =>
        mesh.client.get(HOST, path, { headers: { "user-agent": agentName, "x-extra": extra } });
      const [small, large] = ["u".repeat(5_000), "e".repeat(40_000)];
      await get("/whole", small, large);
      const whole = lineOf(await agent.envelopeOf("/whole"));
      expect([whole.includes(` "${small}" `), whole.endsWith(` x_extra:"${large}"`)]).toEqual([true, true]);
      await get(`/cut/${"p".repeat(40_000)}`, small, large);
      const cut = lineOf(await agent.envelopeOf("/cut"));
      expect(cut.length).toBeLessThan(25_000);
      // 40,005 bytes are halved twice, the first time to 20,002 and 41 of words.
      const uri = `/cut/${"p".repeat(10_016)}...REQUEST-URI-TOO-LONG-TO-LOG--TRUNCATED`;
      expect(/ "GET (\S+) HTTP\/1\.1" 200 /.exec(cut)?.[1] === uri).toBe(true);
      expect(cut).toMatch(/ "u{100,999}\.\.\.USER-AGENT-TOO-LONG-TO-LOG--TRUNCATED" /);
      expect(cut).toMatch(/ x_cf_routererror:"-" \.\.\.EXTRA-REQUEST-HEADERS-TOO-LONG-TO-LOG--TRUNCATED$/);
    });

    it("comes with others in one batch, of which none is lost", async () => {
      const before = agent.batches.length;
      await Promise.all(Array.from({ length: 400 }, (_, count) => mesh.client.get(HOST, `/many-${count}-`)));
      for (let count = 0; count < 400; count += 1) await agent.envelopeOf(`/many-${count}-`);
      const batches = agent.batches.slice(before);
      expect(Math.max(...batches)).toBeLessThanOrEqual(100);
      expect(Math.max(...batches)).toBeGreaterThan(10);
      expect(agent.streamCount).toBe(1);
      expect(mesh.router.status.requestLog?.appLines).toMatchObject({ lostCount: 0, lastError: undefined });
      expect(mesh.router.status.requestLog?.lines).toBeUndefined();
    });
  });

  const appLines = (mesh: TestRouter) => mesh.router.status.requestLog?.appLines;
  const LONG = "x".repeat(10_000);

  it("slows no request while the agent is hung: what finds no place to wait is lost and counted", async () => {
    const agent = await startAgent({ isHung: true });
    const mesh = await startRouter(agent.port, { loggregator: { bufferBytes: 131_072 } });
    try {
      await eventually(() => agent.streamCount === 1);
      for (let sent = 0; sent < 200; sent += 1) {
        const startedMs = performance.now();
        expect((await mesh.client.get(HOST, `/${LONG}`)).status).toBe(200);
        // The agent has twice as long to take a batch.
        expect(performance.now() - startedMs).toBeLessThan(5_000);
      }
      const count = await eventually(() => appLines(mesh)?.lostCount);
      expect(await mesh.router.metrics()).toContain(`cf_mesh_access_log_lost_total{where="loggregator"} ${count}`);
      expect(agent.envelopes).toEqual([]);
    } finally {
      await mesh.stop();
    }
  });

  it("comes late and in its order when the agent was away, and nobody waits for it: the file has it meanwhile", async () => {
    const first = await startAgent();
    const mesh = await startRouter(first.port, { isWrittenToFile: true });
    try {
      await mesh.client.get(HOST, "/first");
      await first.envelopeOf("/first");
      first.close();
      await eventually(async () => {
        await mesh.client.get(HOST, "/away");
        return appLines(mesh)?.lastError?.includes("ECONNREFUSED");
      });
      await mesh.client.get(HOST, "/waits-1");
      await mesh.client.get(HOST, "/waits-2");
      await eventually(async () => (await readFile(mesh.path("access.log"), "utf8")).includes("/waits-2"));
      const second = await startAgent({ port: first.port });
      await second.envelopeOf("/waits-2");
      const lines = second.envelopes.map(lineOf);
      const place = (mark: string) => lines.findIndex((line) => line.includes(mark));
      expect(place("/waits-1")).toBeGreaterThanOrEqual(0);
      expect(place("/waits-2")).toBeGreaterThan(place("/waits-1"));
      expect(appLines(mesh)).toMatchObject({ lostCount: 0, lastError: undefined });
      expect((await readFile(mesh.path("access.log"), "utf8")).split("\n")).toContain(lines[place("/waits-1")]);
    } finally {
      await mesh.stop();
    }
  });

  it("is sent before the router ends", async () => {
    const agent = await startAgent();
    const mesh = await startRouter(agent.port, {}, { drainTimeMs: 10_000 });
    try {
      for (let sent = 0; sent < 20; sent += 1) await mesh.client.get(HOST, `/last-${sent}-`);
    } finally {
      await mesh.stop();
    }
    const lines = agent.envelopes.map(lineOf);
    for (let sent = 0; sent < 20; sent += 1) expect(lines.some((line) => line.includes(`/last-${sent}-`))).toBe(true);
  });

  const program = goLoggregatorAgent();
  describe.skipIf(program === undefined)("with the server of go-loggregator", () => {
    let directory: string;
    const path = (name: string) => join(directory, name);
    beforeAll(async () => {
      directory = await mkdtemp(join(tmpdir(), "cf-mesh-"));
      await writeFile(path("ca"), certificates.ca);
      await writeFile(path("certificate"), agentPair.certificate);
      await writeFile(path("key"), agentPair.key);
    });
    afterAll(() => rm(directory, { recursive: true, force: true }));

    async function startGoAgent(address?: string): Promise<GoLoggregatorAgent> {
      const files = { clientCa: path("ca"), certificate: path("certificate"), key: path("key") };
      const agent = await GoLoggregatorAgent.start(program ?? "", files, address);
      onTestFinished(() => agent.kill());
      return agent;
    }
    const portOf = ({ address }: GoLoggregatorAgent) => Number(address.split(":")[1]);

    it("is understood, and comes again after the server was killed and started anew", async () => {
      const first = await startGoAgent();
      const mesh = await startRouter(portOf(first));
      try {
        await mesh.client.get(HOST, "/gr%C3%BC%C3%9Fe", { headers: { "user-agent": "a\u00ff" } });
        const { sourceId, instanceId, tags, type, payload, timestamp } = await first.envelopeOf("/gr");
        expect([sourceId, instanceId, type]).toEqual([APP, "2", "OUT"]);
        expect(tags).toMatchObject({ source_type: "RTR", process_instance_id: INSTANCE });
        expect(payload).toContain('"GET /gr%C3%BC%C3%9Fe HTTP/1.1" 200 0 4 "-" "a\\xff" "127.0.0.1:');
        expect(Math.abs(timestamp / 1e6 - Date.now())).toBeLessThan(60_000);
        await first.kill();
        const second = await startGoAgent(first.address);
        await eventually(async () => {
          await mesh.client.get(HOST, "/again");
          return second.envelopes.length > 0;
        });
        expect(appLines(mesh)).toMatchObject({ lastError: undefined, lostCount: 0 });
      } finally {
        await mesh.stop();
      }
    });

    it("waits while the server hangs, and is complete when it goes on in time", async () => {
      const agent = await startGoAgent();
      const mesh = await startRouter(portOf(agent));
      try {
        await mesh.client.get(HOST, "/before");
        await agent.envelopeOf("/before");
        const told = () => mesh.router.status.requestLog?.requestCount ?? 0;
        const toldBefore = told();
        agent.suspend();
        for (let sent = 0; sent < 100; sent += 1) {
          expect((await mesh.client.get(HOST, `/hung-${sent}-${LONG}`)).status).toBe(200);
        }
        await eventually(() => told() >= toldBefore + 100);
        agent.resume();
        for (let sent = 0; sent < 100; sent += 1) await agent.envelopeOf(`/hung-${sent}-`);
        expect(appLines(mesh)).toMatchObject({ lostCount: 0, lastError: undefined });
      } finally {
        await mesh.stop();
      }
    });

    it("is told of once when the server does not trust the router's certificate, and comes with one that it trusts", async () => {
      const agent = await startGoAgent();
      const said: string[] = [];
      const logger = createLogger("info", { write: (line) => said.push(line) });
      const stranger = await (await createCertificates()).issue({ commonName: "gorouter", usages: ["client"] });
      const mesh = await startRouter(
        portOf(agent),
        { loggregator: { bufferBytes: 131_072 } },
        {},
        { shown: stranger, logger },
      );
      try {
        for (let sent = 0; sent < 40; sent += 1) await mesh.client.get(HOST, `/${LONG}`);
        await eventually(() => (appLines(mesh)?.lostCount ?? 0) > 10);
        await eventually(() => appLines(mesh)?.lastError);
        expect(appLines(mesh)?.sentCount).toBe(0);
        await writeFile(mesh.path("certificate"), clientPair.certificate);
        await writeFile(mesh.path("key"), clientPair.key);
        await eventually(() => agent.envelopes.length > 0);
        const complaints = said.filter((line) => line.includes("MESH_ACCESS_LOG_LOST"));
        expect(complaints).toHaveLength(1);
        expect(complaints[0]).toContain(
          `loggregator agent at ${agent.address} (it refuses the router's TLS: unknown ca)`,
        );
        await eventually(() => said.some((line) => line.includes("the loggregator agent takes lines again")));
      } finally {
        await mesh.stop();
      }
    });
  });
});
