import { describe, expect, it } from "vitest";
import { MeshError } from "../lib/errors.js";
import { parseConfig } from "./config.js";

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
        drainTimeMs: 20_000,
        sweepIntervalMs: 30_000,
        orphanTimeoutMs: 60_000,
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
    expect(message).toContain("\n    logLevel: ");
    expect(message).toContain("\n    log.directory: ");
    expect(message).toContain("\n    diego.urls.0: must be an https:// URL");
    expect(message).toContain("surprise");
    expect(message).toContain("\n    router: this job needs the section");
    expect(message).toContain("see docs/config.md");
  });

  it("wants one secret, from a file or in place", () => {
    const cloudController = { url: "https://api.example.com", clientId: "syncer" };
    expect(problemsOf({ ...MINIMAL, cloudController })).toContain("give clientSecretFile or clientSecret, one of them");
    const both = { ...cloudController, clientSecret: "a", clientSecretFile: "b" };
    expect(problemsOf({ ...MINIMAL, cloudController: both })).toContain("one of them");
  });

  it("says so when the file holds no object", () => {
    expect(problemsOf("words")).toContain("top level");
  });
});
