import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { connect, type Msg, type NatsConnection } from "@nats-io/transport-node";
import { beforeAll, beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { eventually } from "../../../test/support/eventually.js";
import { systemClock } from "../../lib/clock.js";
import { silentLogger } from "../../lib/logger.js";
import { type Certificates, createCertificates } from "../certificates.js";
import type { DesiredProcess } from "../diego/diego.js";
import { type EmulatedDiego, startDiego } from "../diego/emulated-diego.js";
import type { SyntheticProcess } from "../diego/synthetic.js";
import { type NatsServer, startNatsServer } from "../nats/nats-server.js";
import { TcpRoutes } from "../routing-api/tcp-routes.js";
import { type EmitterFaults, type RouteEmitter, type RouteEmitterOptions, startRouteEmitter } from "./route-emitter.js";

const LRP = "11111111-1111-4111-8111-111111111111-22222222-2222-4222-8222-222222222222";

const SYSTEM = { systemDomain: "sys.test", host: "127.0.0.1", port: 8081 };

interface Heard {
  readonly subject: string;
  readonly text: string;
  readonly body: {
    readonly host: string;
    readonly port: number;
    readonly uris: readonly string[];
    readonly private_instance_id: string;
    readonly private_instance_index: string;
  };
}

/** What a router would hear, in order. */
class Ear {
  readonly heard: Heard[] = [];
  readonly connection: NatsConnection;
  #seconds: number | undefined;

  private constructor(connection: NatsConnection) {
    this.connection = connection;
    const hear = (_error: unknown, message: Msg) => {
      const text = message.string();
      this.heard.push({ subject: message.subject, text, body: JSON.parse(text) as Heard["body"] });
    };
    for (const subject of ["*.register", "*.unregister"]) connection.subscribe(subject, { callback: hear });
  }

  static async open(port: number): Promise<Ear> {
    const connection = await connect({ servers: `127.0.0.1:${port}`, maxReconnectAttempts: -1, reconnectTimeWait: 20 });
    const ear = new Ear(connection);
    await connection.flush();
    return ear;
  }

  greeting(intervalSeconds: number): string {
    return JSON.stringify({ id: "r", minimumRegisterIntervalInSeconds: intervalSeconds, pruneThresholdInSeconds: 120 });
  }

  /** Answers greetings from now on. */
  answerGreetings(intervalSeconds = 60): void {
    this.#seconds = intervalSeconds;
    for (const registry of ["router", "service-discovery"]) {
      this.connection.subscribe(`${registry}.greet`, {
        callback: (_error, message) => void message.respond(this.greeting(this.#seconds ?? 0)),
      });
    }
  }

  /** "register shop.example.com 0", in order. */
  words(): readonly string[] {
    return this.heard.map(({ subject, body }) =>
      [subject.replace(/^router\./, ""), body.uris[0], body.private_instance_index].join(" "),
    );
  }

  clear(): void {
    this.heard.length = 0;
  }

  async until(...wanted: string[]): Promise<void> {
    await eventually(() => wanted.every((words) => this.words().includes(words)));
  }
}

function synthetic(changes: Partial<SyntheticProcess> = {}): SyntheticProcess {
  return {
    ...{ lrpProcessGuid: LRP, appGuid: "app-guid", instances: 2, hostPort: 61_001, address: "10.0.0.7" },
    routes: { "cf-router": [{ hostnames: ["shop.example.com"], port: 8080, protocol: "http1" }] },
    metricTags: { app_name: "shop" },
    ...changes,
  };
}

const LISTEN = 'require("net").createServer().listen(process.env.PORT, "127.0.0.1")';
function real(instances: number): DesiredProcess {
  return {
    ...{ lrpProcessGuid: LRP, appGuid: "app-guid", instances, ports: [8080], workingDirectory: tmpdir() },
    ...{ command: [process.execPath, "-e", LISTEN], environment: {}, vcapApplication: {}, metricTags: {} },
    routes: { "cf-router": [{ hostnames: ["shop.example.com"], port: 8080 }] },
    ...{ annotation: "", placementTags: [] },
  };
}

describe("route-emitter", () => {
  let certificates: Certificates;
  let nats: NatsServer;
  let diego: EmulatedDiego;
  let ear: Ear;
  beforeAll(async () => {
    certificates = await createCertificates();
  });
  beforeEach(async () => {
    nats = await startNatsServer();
    onTestFinished(() => nats.close());
    diego = await startDiego({
      ...{ host: "127.0.0.1", bbsPort: 0, certificates, logger: silentLogger },
      ...{ cellPollMs: 50, stopGraceMs: 500 },
    });
    onTestFinished(() => diego.close());
    ear = await Ear.open(nats.port);
    onTestFinished(() => ear.connection.close());
  });

  function emit(options: Partial<RouteEmitterOptions> = {}): RouteEmitter & { readonly faults: EmitterFaults } {
    const emitter = startRouteEmitter({
      nats: { servers: [`127.0.0.1:${nats.port}`] },
      lrps: diego.lrps,
      tcpRoutes: new TcpRoutes(systemClock),
      logger: silentLogger,
      ...options,
    });
    onTestFinished(() => emitter.close());
    const { faults } = emitter;
    if (faults === undefined) throw new Error("no NATS");
    return { ...emitter, faults };
  }
  const add = (changes: Partial<SyntheticProcess> = {}) => diego.addSyntheticProcesses([synthetic(changes)]);

  it("registers what runs, in route-emitter's words", async () => {
    await add({
      instances: 1,
      routes: {
        "cf-router": [
          {
            hostnames: ["shop.example.com/cart"],
            port: 8080,
            protocol: "http2",
            options: { loadbalancing: "least-connection" },
          },
          { hostnames: ["other.example.com"], port: 9090 },
        ],
      },
    });
    emit();
    await ear.until("register shop.example.com/cart 0");
    const [lrp] = diego.lrps.actuals(LRP);
    const instanceGuid = lrp?.instanceKey?.instanceGuid;
    expect(ear.heard).toHaveLength(1);
    expect(ear.heard[0]?.body).toMatchObject({
      ...{ host: "10.0.0.7", port: 61_001, uris: ["shop.example.com/cart"], protocol: "http2", app: "app-guid" },
      ...{ private_instance_id: instanceGuid, private_instance_index: "0", server_cert_domain_san: instanceGuid },
      tags: { component: "route-emitter", app_name: "shop", instance_id: "0", process_instance_id: instanceGuid },
      ...{ availability_zone: "z1", options: { loadbalancing: "least-connection" } },
    });
    expect(ear.heard[0]?.text).toContain(`"endpoint_updated_at_ns":${lrp?.since}}`);
  });

  it("says what changes when it changes: instances, routes, readiness, removal", async () => {
    emit();
    await add();
    await ear.until("register shop.example.com 0", "register shop.example.com 1");
    ear.clear();
    await add({ instances: 1 });
    await ear.until("unregister shop.example.com 1");
    diego.faults.setRoutable(LRP, 0, false);
    await ear.until("unregister shop.example.com 0");
    diego.faults.setRoutable(LRP, 0, true);
    await ear.until("register shop.example.com 0");
    await add({ instances: 1, routes: { "cf-router": [{ hostnames: ["new.example.com"], port: 8080 }] } });
    await ear.until("register new.example.com 0");
    await diego.remove(LRP);
    await ear.until("unregister new.example.com 0");
    expect(ear.words()).toEqual([
      "unregister shop.example.com 1",
      "unregister shop.example.com 0",
      "register shop.example.com 0",
      "register new.example.com 0",
      "unregister shop.example.com 0",
      "unregister new.example.com 0",
    ]);
  });

  it("keeps an evacuating instance registered until its replacement runs", async () => {
    emit();
    await diego.desire(real(1));
    await ear.until("register shop.example.com 0");
    const old = ear.heard[0]?.body;
    ear.clear();
    diego.faults.evacuate(LRP, 0);
    await ear.until("register shop.example.com 0", "unregister shop.example.com 0");
    const [first, last] = [ear.heard[0], ear.heard.at(-1)];
    expect([first?.subject, last?.subject]).toEqual(["router.register", "router.unregister"]);
    expect(last?.body.port).toBe(old?.port);
    expect(first?.body.port).not.toBe(old?.port);
  });

  it("tells service discovery of internal routes, by instance too", async () => {
    await add({ instances: 1, routes: { "internal-router": [{ hostname: "db.apps.internal" }] } });
    emit();
    const message = await eventually(() => ear.heard[0]);
    expect(message.subject).toBe("service-discovery.register");
    expect(message.body).toMatchObject({
      ...{ host: "10.0.0.7", port: 0, uris: ["db.apps.internal", "0.db.apps.internal"] },
      ...{ app: "app-guid", private_instance_index: "0", tags: { component: "route-emitter" } },
    });
  });

  it("tells the routing API of TCP routes", async () => {
    const tcpRoutes = new TcpRoutes(systemClock);
    emit({ tcpRoutes });
    const routes = { "tcp-router": [{ router_group_guid: "group", external_port: 1030, container_port: 8080 }] };
    await add({ instances: 1, routes });
    expect(tcpRoutes.all()).toMatchObject([{ port: 1030, backend_ip: "10.0.0.7", backend_port: 61_001, ttl: 120 }]);
    await diego.remove(LRP);
    expect(tcpRoutes.all()).toEqual([]);
  });

  it("greets until a router answers, then says everything as often as that asks for", async () => {
    await add({ instances: 1 });
    emit();
    await ear.until("register shop.example.com 0");
    ear.clear();
    ear.answerGreetings(0.05);
    await eventually(() => ear.heard.length >= 3);
  });

  it("tells a router that starts everything at once, of apps and of the platform itself", async () => {
    await add({ instances: 1 });
    emit({ systemRoutes: SYSTEM });
    await ear.until("register shop.example.com 0");
    ear.clear();
    ear.connection.publish("router.start", ear.greeting(60));
    await ear.until("register api.sys.test ", "register uaa.sys.test ", "register shop.example.com 0");
    const [api, uaa] = ["api.sys.test", "uaa.sys.test"].map((uri) =>
      ear.heard.find(({ body }) => body.uris.includes(uri)),
    );
    expect(api?.body).toMatchObject({ host: "127.0.0.1", port: 8081, tags: { component: "CloudController" } });
    expect(uaa?.body.uris).toEqual(["uaa.sys.test", "login.sys.test"]);
  });

  it("takes its registrations back when it ends", async () => {
    await add({ instances: 1 });
    const emitter = emit({ systemRoutes: SYSTEM });
    await ear.until("register shop.example.com 0");
    ear.clear();
    await emitter.close();
    await ear.until("unregister shop.example.com 0", "unregister api.sys.test ", "unregister uaa.sys.test ");
  });

  it("waits for a NATS that is not there yet, and says everything again after it was away", async () => {
    ear.answerGreetings();
    await nats.stop();
    await add({ instances: 1 });
    emit();
    await nats.start();
    await ear.until("register shop.example.com 0");
    ear.clear();
    await nats.stop("SIGKILL");
    await add({ instances: 2 });
    await nats.start();
    await ear.until("register shop.example.com 0", "register shop.example.com 1");
  });

  it("logs in with user and password, over TLS", async () => {
    const secure = await startNatsServer({
      settings: { authorization: { user: "nats", password: "secret" }, tls: await serverTls(certificates) },
    });
    onTestFinished(() => secure.close());
    await add({ instances: 1 });
    const tcpRoutes = new TcpRoutes(systemClock);
    emit({
      tcpRoutes,
      nats: {
        ...{ servers: [`tls://localhost:${secure.port}`], user: "nats", password: "secret" },
        tls: { ca: certificates.ca },
      },
    });
    const listener = await connect({
      ...{ servers: `tls://localhost:${secure.port}`, user: "nats", pass: "secret", tls: { ca: certificates.ca } },
    });
    onTestFinished(() => listener.close());
    const subscription = listener.subscribe("router.register", { max: 1 });
    await listener.flush();
    await add({ instances: 2 });
    for await (const message of subscription) expect(message.string()).toContain("shop.example.com");
  });

  describe("with faults", () => {
    it("is silent while told to, then says what is true", async () => {
      const { faults } = emit();
      ear.answerGreetings(0.05);
      await add({ instances: 1 });
      await ear.until("register shop.example.com 0");
      faults.silence(true);
      await ear.connection.flush();
      ear.clear();
      await add({ instances: 2 });
      await ear.connection.flush();
      expect(ear.heard).toEqual([]);
      faults.silence(false);
      await ear.until("register shop.example.com 1");
    });

    it("sends messages twice", async () => {
      const { faults } = emit({ systemRoutes: SYSTEM });
      await connected();
      faults.duplicateNext(1);
      await add({ instances: 2 });
      await ear.until("register shop.example.com 1");
      expect(ear.words()).toEqual([
        "register shop.example.com 0",
        "register shop.example.com 0",
        "register shop.example.com 1",
      ]);
    });

    it("sends messages in reverse", async () => {
      const { faults } = emit({ systemRoutes: SYSTEM });
      await connected();
      faults.reverseNext(3);
      await add({ instances: 2 });
      await add({ instances: 1 });
      await ear.until("register shop.example.com 0");
      expect(ear.words()).toEqual([
        "unregister shop.example.com 1",
        "register shop.example.com 1",
        "register shop.example.com 0",
      ]);
    });

    it("loses its connection, and says everything when it has it back", async () => {
      const { faults } = emit({ systemRoutes: SYSTEM });
      await connected();
      await faults.cut();
      await add({ instances: 1 });
      faults.mend();
      await ear.until("register shop.example.com 0");
    });
  });

  /** Until the emitter has had an answer to its greeting, and said everything: from then on it says changes only. */
  async function connected(): Promise<void> {
    ear.answerGreetings();
    await eventually(() => ear.words().filter((words) => words === "register api.sys.test ").length >= 2);
    await eventually(() => ear.words().filter((words) => words === "register log-cache.sys.test ").length >= 2);
    ear.clear();
  }
});

async function serverTls(certificates: Certificates): Promise<object> {
  const directory = await mkdtemp(`${tmpdir()}/cf-mesh-tls-`);
  onTestFinished(() => rm(directory, { recursive: true }));
  const { certificate, key } = await certificates.issue({ commonName: "nats", dnsNames: ["localhost"] });
  await writeFile(`${directory}/nats.crt`, certificate);
  await writeFile(`${directory}/nats.key`, key);
  return { cert_file: `${directory}/nats.crt`, key_file: `${directory}/nats.key` };
}
