import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { MeshError } from "../lib/errors.js";
import { HttpSchema } from "./router-http.js";
import { parseConfig, readConfig, requireFiles } from "./config.js";

const MINIMAL = { log: { directory: "/var/lib/cf-mesh/log" }, router: { runDirectory: "/run/cf-mesh" } };

function problemsOf(raw: unknown): string {
  try {
    parseConfig(raw, "mesh.yml", ["router"]);
  } catch (error) {
    if (error instanceof MeshError && error.code === "MESH_CONFIG_INVALID") return error.message;
    throw error;
  }
  throw new Error("it was accepted");
}

describe("the configuration", () => {
  it("has a default for all that can have one", () => {
    expect(parseConfig(MINIMAL, "mesh.yml", ["router"])).toEqual({
      logLevel: "info",
      log: { directory: "/var/lib/cf-mesh/log" },
      router: {
        nodeId: "router",
        listenAddress: "0.0.0.0",
        port: 8080,
        runDirectory: "/run/cf-mesh",
        drainWaitMs: 20_000,
        drainTimeMs: 900_000,
        sweepIntervalMs: 30_000,
        orphanTimeoutMs: 60_000,
        staleAfterMs: 60_000,
        http: HttpSchema.parse({}),
        balancing: { algorithm: "round-robin", azPreference: "none", maxAttempts: 3, maxConnectionsPerBackend: 0 },
        stickySessions: { cookieNames: ["JSESSIONID"], secureCookies: false, authNegotiate: false },
        requestMetrics: { enabled: true, apps: 0, routes: 0 },
      },
    });
  });

  it("tells every problem at once, each with its place", () => {
    const message = problemsOf({
      logLevel: "loud",
      log: {},
      diego: { urls: ["http://bbs:8889"], caFile: "a", certificateFile: "b", keyFile: "c", surprise: 1 },
      cloudController: { url: "https://api.example.com", clientId: "syncer" },
    });
    expect(message).toContain("mesh.yml:");
    expect(message).toContain("\n    logLevel: must be one of debug, info, warn, error");
    expect(message).toContain("\n    log: give directory or jetstream, one of them");
    expect(message).toContain("\n    diego.urls.0: must be an https:// URL");
    expect(message).toContain('\n    diego: has no key "surprise"');
    expect(message).toContain("\n    router: this job needs the section");
    expect(message).toContain("see docs/config.md");
  });

  it("wants domains for clients' certificates to be hosts or wildcards, each once, with a CA", () => {
    const tls = (...domains: object[]) => ({
      ...MINIMAL,
      router: {
        ...MINIMAL.router,
        tls: { keypairs: [{ certificateFile: "c", keyFile: "k" }], domains },
      },
    });
    const named = (...names: string[]) => tls(...names.map((name) => ({ name, caFile: "ca" })));
    expect(parseConfig(named("*.Apps.identity", "apps.identity"), "mesh.yml", ["router"]).router?.tls?.domains).toEqual(
      ["*.apps.identity", "apps.identity"].map((name) => ({
        ...{ name, caFile: "ca", forwardedClientCert: "sanitize_set", xfccFormat: "raw" },
      })),
    );
    for (const name of ["*", "*.", "a.*.b", "https://a.b", "a.b:8443", "a..b", ".a", "*a.b"]) {
      expect(problemsOf(named(name)), name).toContain(
        "router.tls.domains.0.name: must be a host, or a wildcard as *.apps.identity",
      );
    }
    expect(problemsOf(named("a.b", "*.a.b", "A.b"))).toContain("router.tls.domains.2.name: a.b is named twice");
    expect(problemsOf(tls({ name: "a.b" }))).toContain("router.tls.domains.0.caFile");
    expect(problemsOf(tls({ name: "a.b", caFile: "ca", xfccFormat: "pem" }))).toContain(
      "router.tls.domains.0.xfccFormat: must be one of raw, envoy",
    );
  });

  it("wants a certificate for apps with its key, and segments where they alone are served", () => {
    const router = (more: object) => ({ ...MINIMAL, router: { ...MINIMAL.router, ...more } });
    const halves = [{ certificateFile: "router.crt" }, { keyFile: "router.key" }];
    for (const half of halves) {
      expect(problemsOf(router({ backends: { caFile: "ca.crt", ...half } }))).toContain(
        "\n    router.backends: give certificateFile and keyFile together, or neither",
      );
    }
    expect(problemsOf(router({ sharding: { mode: "segments" } }))).toContain(
      "\n    router.sharding: name at least one",
    );
    const shared = parseConfig(router({ sharding: { mode: "shared-and-segments" } }), "mesh.yml", ["router"]);
    expect(shared).toMatchObject({ router: { sharding: { isolationSegments: [] } } });
  });

  it("wants somewhere for the lines of an access log to go, and an agent's certificates", () => {
    const problems = (accessLog: object) =>
      problemsOf({ ...MINIMAL, router: { ...MINIMAL.router, accessLog } }).replaceAll("\n", " ");
    const files = { caFile: "/ca", certificateFile: "/certificate", keyFile: "/key" };
    expect(problems({})).toContain("router.accessLog: name a file, set stdout to true, or give loggregator");
    expect(problems({ file: "/log", stdout: true })).toContain("router.accessLog: name a file, or set stdout to true");
    expect(problems({ loggregator: { certificateFile: "/certificate" } })).toMatch(
      /loggregator.caFile: is missing .*keyFile/,
    );
    for (const address of ["127.0.0.1", "https://agent:3458", ":3458", "agent:port"]) {
      expect(problems({ loggregator: { ...files, address } })).toContain("must be a host and a port");
    }
    for (const address of ["agent.service.cf.internal:3458", "[::1]:3458"]) {
      const raw = { ...MINIMAL, router: { ...MINIMAL.router, accessLog: { loggregator: { ...files, address } } } };
      expect(parseConfig(raw, "mesh.yml", ["router"]).router?.accessLog?.loggregator).toMatchObject({
        ...{ address, serverName: "metron", index: 0 },
      });
    }
  });

  it("takes one Cloud Controller or several, and a client certificate with its key", () => {
    const cloudController = (more: object) => ({
      ...MINIMAL,
      cloudController: { url: "https://api.example.com", clientId: "syncer", clientSecret: "a", ...more },
    });
    const urls = ["https://api.example.com", "https://api2.example.com"];
    expect(parseConfig(cloudController({ url: urls, uaaUrl: urls }), "mesh.yml", [])).toMatchObject({
      cloudController: { url: urls, uaaUrl: urls, requestsPerSecond: 2, secondOpinionAfterMs: 5_000 },
    });
    for (const url of [[], "ftp://api", ["https://api.example.com", "none"]]) {
      expect(problemsOf(cloudController({ url }))).toContain("cloudController.url");
    }
    expect(problemsOf(cloudController({ url: undefined }))).toContain("cloudController.url: is missing");
    expect(problemsOf(cloudController({ keyFile: "k" }))).toContain("certificateFile and keyFile together");
  });

  it("wants one secret, from a file or in place", () => {
    const cloudController = { url: "https://api.example.com", clientId: "syncer" };
    expect(problemsOf({ ...MINIMAL, cloudController })).toContain("give clientSecretFile or clientSecret, one of them");
    const routingApi = { ...cloudController, uaaUrl: "https://uaa.example.com" };
    expect(problemsOf({ ...MINIMAL, routingApi })).toContain(
      "routingApi: give clientSecretFile or clientSecret, one of",
    );
    const half = { ...routingApi, clientSecretFile: "a", certificateFile: "b" };
    expect(problemsOf({ ...MINIMAL, routingApi: half })).toContain(
      "routingApi: give certificateFile and keyFile together",
    );
    const homeless = { ...cloudController, clientSecret: "a" };
    expect(problemsOf({ ...MINIMAL, routingApi: homeless })).toContain("routingApi.uaaUrl: is missing");
    const both = { ...cloudController, clientSecret: "a", clientSecretFile: "b" };
    expect(problemsOf({ ...MINIMAL, cloudController: both })).toContain("one of them");
  });

  it("wants one section at least of a job that has several", () => {
    const parse = (sections: object) => parseConfig({ log: MINIMAL.log, ...sections }, "mesh.yml", ["diego", "nats"]);
    expect(() => parse({})).toThrow("top level: this job needs at least one of the sections diego, nats");
    expect(parse({ nats: { servers: ["nats://10.0.0.1:4222"] } }).nats).toEqual({
      servers: ["nats://10.0.0.1:4222"],
      staleThresholdMs: 120_000,
      pruneIntervalMs: 30_000,
      registerIntervalMs: 20_000,
      pingIntervalMs: 10_000,
      maxRegistrations: 1_000_000,
    });
  });

  it("takes NATS servers by URL, without a user in it, and a user with one password", () => {
    const nats = (section: object) => problemsOf({ ...MINIMAL, nats: { servers: ["tls://nats:4224"], ...section } });
    expect(nats({ servers: ["http://nats"] })).toContain("nats.servers.0: must be a nats:// or tls:// URL");
    expect(nats({ servers: ["nats://a:b@nats"] })).toContain("nats.servers.0: must not hold a user");
    expect(nats({ user: "router" })).toContain("nats: give user together with passwordFile or password, one of them");
    expect(nats({ password: "secret" })).toContain("nats: give user together with");
    expect(nats({ user: "router", passwordFile: "a", tokenFile: "b" })).toContain("nats: give user or tokenFile");
    expect(nats({ keyFile: "a" })).toContain("nats: give certificateFile and keyFile together");
  });

  it("says so when the file holds no object, or nothing", () => {
    expect(problemsOf("words")).toContain('\n    top level: must be a section with keys, not "words"');
    expect(problemsOf(null)).toContain("\n    top level: is empty");
  });
});

describe("the configuration's file", () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "cf-mesh-config-"));
  });
  afterEach(() => rm(directory, { recursive: true }));

  const read = async (text: string) => {
    const file = join(directory, "mesh.yml");
    await writeFile(file, text);
    return readConfig(file, ["router"]);
  };

  it("is refused with the place of what is no YAML, in a few lines", async () => {
    const error: unknown = await read("log: [\nrouter: }\n").catch((thrown: unknown) => thrown);
    const lines = (error as MeshError).message.split("\n");
    expect(lines[0]).toMatch(/^\[MESH_CONFIG_INVALID\] .*mesh\.yml: .* at line \d+, column \d+/);
    expect(lines.every((line) => line.trim() !== "")).toBe(true);
    await expect(read("")).rejects.toThrow("top level: is empty");
  });

  it("is refused with the key and the path of every file that it names and that can't be read", async () => {
    const there = join(directory, "client.crt");
    await writeFile(there, "");
    const diego = {
      urls: ["https://bbs:8889"],
      caFile: join(directory, "nope"),
      certificateFile: there,
      keyFile: directory,
    };
    const config = parseConfig({ ...MINIMAL, diego }, "mesh.yml", []);
    const error: unknown = await requireFiles(config, "mesh.yml").catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "MESH_CONFIG_INVALID" });
    const { message } = error as MeshError;
    expect(message).toContain(`\n    diego.caFile: ${diego.caFile} can't be read (ENOENT)`);
    expect(message).toContain(`\n    diego.keyFile: ${directory} is a directory`);
    expect(message).not.toContain("certificateFile");
  });
});
