import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { findEnvoy } from "./find-envoy.js";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "mesh-find-"));
});
afterEach(() => rm(folder, { recursive: true }));

/** A program that tells its version as Envoy does. */
async function envoyAt(place: string, version: string, mode = 0o755): Promise<string> {
  const path = join(folder, place);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, `#!/bin/sh\necho "$0  version: 9e55809/${version}/Clean/RELEASE/BoringSSL"\n`);
  await chmod(path, mode);
  return path;
}

const find = (environment: NodeJS.ProcessEnv = {}, path?: string) =>
  findEnvoy({ environment, toolsDirectory: join(folder, "tools"), ...(path === undefined ? {} : { path }) });

const TOOLS = "tools/envoy/_bin/envoy";

describe("the Envoy to run", () => {
  it("is the configured one before ENVOY_PATH, PATH and what scripts/setup installed", async () => {
    const [configured, given, onPath, installed] = [
      await envoyAt("configured", "1.40.0"),
      await envoyAt("given", "1.40.1"),
      await envoyAt("bin/envoy", "1.40.2"),
      await envoyAt(TOOLS, "1.40.3"),
    ];
    const environment = { ENVOY_PATH: given, PATH: dirname(onPath) };
    expect(await find(environment, configured)).toEqual({ path: configured, version: "1.40.0" });
    expect(await find(environment)).toEqual({ path: given, version: "1.40.1" });
    expect(await find({ PATH: dirname(onPath) })).toEqual({ path: onPath, version: "1.40.2" });
    expect(await find()).toEqual({ path: installed, version: "1.40.3" });
  });

  it("is the first on PATH of a supported version", async () => {
    const [old, good] = [await envoyAt("old/envoy", "1.39.2"), await envoyAt("good/envoy", "1.40.2")];
    const path = [old, good].map(dirname).join(delimiter);
    expect((await find({ PATH: path })).path).toBe(good);
  });

  it.each([
    ["does not exist", () => Promise.resolve(join(folder, "nowhere"))],
    ["may not be executed", () => envoyAt("plain", "1.40.0", 0o644)],
    ["is version 1.39.2", () => envoyAt("old", "1.39.2")],
  ])("is never another than the configured one, which %s", async (reason, make) => {
    await envoyAt(TOOLS, "1.40.0");
    await expect(find({}, await make())).rejects.toMatchObject({
      code: "MESH_ENVOY_MISSING",
      message: expect.stringContaining(reason) as string,
    });
  });

  it("is missed with one message that names the unfit ones and the remedy", async () => {
    const old = await envoyAt("old/envoy", "1.39.2");
    await expect(find({ PATH: dirname(old) })).rejects.toMatchObject({
      code: "MESH_ENVOY_MISSING",
      message: expect.stringMatching(/old\/envoy is version 1\.39\.2.*run scripts\/setup/s) as string,
    });
  });
});
