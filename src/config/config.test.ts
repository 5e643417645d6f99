import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { MeshError } from "../lib/errors.js";
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
    expect(message).toContain("\n    log.directory: is missing");
    expect(message).toContain("\n    diego.urls.0: must be an https:// URL");
    expect(message).toContain('\n    diego: has no key "surprise"');
    expect(message).toContain("\n    router: this job needs the section");
    expect(message).toContain("see docs/config.md");
  });

  it("wants one secret, from a file or in place", () => {
    const cloudController = { url: "https://api.example.com", clientId: "syncer" };
    expect(problemsOf({ ...MINIMAL, cloudController })).toContain("give clientSecretFile or clientSecret, one of them");
    const both = { ...cloudController, clientSecret: "a", clientSecretFile: "b" };
    expect(problemsOf({ ...MINIMAL, cloudController: both })).toContain("one of them");
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
