import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { zip } from "../../../test/support/zip.js";
import { isInstalled, systemPath } from "./environment.js";
import { Stager, type StagingRequest } from "./stager.js";

const NEVER = new AbortController().signal;

describe("staging", () => {
  let root: string;
  let stager: Stager;
  let lines: string[];
  let dropletCount: number;
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), "cf-mesh-staging-"));
    stager = new Stager();
    lines = [];
    dropletCount = 0;
  });
  afterEach(async () => {
    await stager.close();
    await rm(root, { recursive: true, force: true });
  });

  async function stage(
    files: Readonly<Record<string, string>>,
    options: Partial<StagingRequest> = {},
    signal: AbortSignal = NEVER,
  ) {
    const packageFile = join(root, "package.zip");
    await writeFile(packageFile, zip(Object.entries(files).map(([name, content]) => ({ name, content }))));
    return await stager.stage(
      {
        packageFile,
        directory: join(root, `droplet-${++dropletCount}`),
        buildpacks: [],
        startCommand: undefined,
        variables: {},
        onLine: (_stream, text) => lines.push(text),
        ...options,
      },
      signal,
    );
  }
  const refusal = async (...args: Parameters<typeof stage>) =>
    await stage(...args).then(
      () => "staged",
      (error: unknown) => (error instanceof Error ? error.message : ""),
    );

  it("takes every process type of a Procfile", async () => {
    const staged = await stage({ Procfile: "# comment\nweb: ./serve --port $PORT\r\nworker: ./work\n", serve: "" });
    expect(staged).toMatchObject({
      buildpack: "binary_buildpack",
      processTypes: { web: "./serve --port $PORT", worker: "./work" },
      workingDirectory: join(root, "droplet-1", "app"),
    });
    expect(await readdir(staged.workingDirectory)).toEqual(["Procfile", "serve"]);
  });

  it("starts a Node.js app with its start script, or its server.js, and a Procfile wins over both", async () => {
    const manifest = JSON.stringify({ scripts: { start: "node app.js" } });
    const start = await stage({ "package.json": manifest, "app.js": "" });
    expect(start).toMatchObject({ buildpack: "nodejs_buildpack", processTypes: { web: "npm start" } });
    expect((await stage({ "package.json": "{}", "server.js": "" })).processTypes).toEqual({ web: "node server.js" });
    const procfile = { "package.json": manifest, Procfile: "web: node other.js" };
    expect((await stage(procfile)).processTypes).toEqual({ web: "node other.js" });
  });

  it("uses the node_modules that an app brings", async () => {
    const staged = await stage({
      "package.json": JSON.stringify({ dependencies: { left: "1.0.0" } }),
      "server.js": "",
      "node_modules/left/index.js": "",
    });
    expect(lines).toContain("       Using the node_modules that were pushed");
    expect(staged.path).toEqual([join(staged.workingDirectory, "node_modules", ".bin")]);
  });

  it.skipIf(!isInstalled("npm", systemPath()))("says what to do when npm can't install", async () => {
    const files = { "package.json": JSON.stringify({ dependencies: { left: "file:./missing.tgz" } }), "server.js": "" };
    expect(await refusal(files)).toMatch(/"npm install .*" ended with \d+.*push with the folder node_modules/);
    expect(await readdir(root)).toEqual(["package.zip"]);
  });

  it("serves static files with the emulator's own server", async () => {
    const page = await stage({ "index.html": "" });
    expect(page.buildpack).toBe("staticfile_buildpack");
    expect(page.processTypes["web"]).toMatch(/static-server\/main\.js \.$/);
    const site = await stage({ Staticfile: "root: site\npushstate: enabled\nssi: enabled\n", "site/index.html": "" });
    expect(site.processTypes["web"]).toMatch(/main\.js site --pushstate$/);
    expect(lines.join("\n")).toContain("passed over: ssi");
    expect(await refusal({ Staticfile: "root: ../..\n" })).toContain('the root "../.." is no folder of the app');
  });

  it("names what is not installed, and where to get it", async () => {
    const variables = { PATH: root };
    expect(await refusal({ "go.mod": "module m" }, { variables })).toContain(
      "go is not installed. Install Go: https://go.dev",
    );
    expect(await refusal({ "requirements.txt": "" }, { variables })).toContain(
      "python3 is not installed. Install Python 3",
    );
    const scripted = { "package.json": '{"scripts":{"start":"x"}}' };
    expect(await refusal(scripted, { variables })).toContain("npm is not installed. Install Node.js");
  });

  it.skipIf(!isInstalled("go", systemPath()))(
    "builds a Go app, which is then in the PATH",
    { timeout: 120_000 },
    async () => {
      const files = { "go.mod": "module example.com/hey/v2\n\ngo 1.20\n", "main.go": "package main\nfunc main() {}\n" };
      const staged = await stage(files);
      expect(staged).toMatchObject({ buildpack: "go_buildpack", processTypes: { web: "hey" } });
      expect(await readdir(staged.path[0] ?? "")).toEqual(["hey"]);
    },
  );

  it("lets a start command stand for everything that files could say", async () => {
    const staged = await stage({ "readme.md": "" }, { startCommand: "./anything" });
    expect(staged).toMatchObject({ buildpack: "binary_buildpack", processTypes: {} });
  });

  it("says which files it looked for when it knows nothing of an app", async () => {
    await expect(stage({ "readme.md": "" })).rejects.toMatchObject({ id: "NoAppDetectedError" });
    expect(await refusal({ "readme.md": "" })).toContain("Procfile, package.json");
  });

  it.skipIf(!isInstalled("python3", systemPath()))("asks for a Procfile where no start command is found", async () => {
    await expect(stage({ "requirements.txt": "" })).rejects.toMatchObject({ id: "BuildpackReleaseFailed" });
    expect(await refusal({ "requirements.txt": "" })).toContain('Add a Procfile with a line like "web: COMMAND"');
  });

  it("uses the buildpack that is asked for, and refuses those that it has not", async () => {
    const files = { "package.json": "{}", "index.html": "" };
    expect((await stage(files, { buildpacks: ["staticfile_buildpack"] })).buildpack).toBe("staticfile_buildpack");
    const remote = "https://example.com/pack.git";
    expect(await refusal(files, { buildpacks: [remote] })).toContain(`there is no buildpack "${remote}" here`);
  });

  it("ends what it runs when it is told to, and leaves nothing behind", async () => {
    const abort = new AbortController();
    const files = {
      "package.json": JSON.stringify({ dependencies: { a: "1" }, scripts: { preinstall: "sleep 600" } }),
    };
    const staging = stage(
      files,
      { onLine: (_stream, text) => text.includes("npm") && abort.abort(new Error("enough")) },
      abort.signal,
    );
    await expect(staging).rejects.toThrow("enough");
    expect(await readdir(root)).toEqual(["package.zip"]);
  });
});
