import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { jobView } from "./job-view.js";
import { openStateDirectory, type StateDirectory } from "./state-directory.js";

const VIEW = jobView("0.0.0", () => undefined);

let parent: string;
let path: string;
beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), "cf-mesh-state-"));
  path = join(parent, "dev");
});
afterEach(() => rm(parent, { recursive: true }));

async function open(fresh = false): Promise<StateDirectory> {
  const state = await openStateDirectory({ path, fresh, view: VIEW });
  onTestFinished(() => state.close());
  return state;
}

/** What a start leaves behind. */
async function fill(state: StateDirectory): Promise<string> {
  const file = join(state.dataDirectory, "state.json");
  await mkdir(state.dataDirectory, { recursive: true });
  await writeFile(file, "kept");
  return file;
}

describe("the state directory of a laptop", () => {
  it("is made, for its owner alone", async () => {
    const state = await open();
    expect(state.isFresh).toBe(true);
    for (const directory of [path, state.secretsDirectory]) expect((await stat(directory)).mode & 0o777).toBe(0o700);
  });

  it("is found again once it was to be kept, and begun anew when it was not", async () => {
    const first = await open();
    const file = await fill(first);
    await first.close();
    const second = await open();
    expect(second.isFresh).toBe(true);
    await expect(readFile(file)).rejects.toThrow("ENOENT");

    await fill(second);
    await second.keep();
    await second.close();
    const third = await open();
    expect(third.isFresh).toBe(false);
    expect(await readFile(file, "utf8")).toBe("kept");
  });

  it("is begun anew when that is asked for, without a look at what is not ours", async () => {
    const first = await open();
    const file = await fill(first);
    await writeFile(join(path, "notes.txt"), "mine");
    await first.keep();
    await first.close();
    expect((await open(true)).isFresh).toBe(true);
    await expect(readFile(file)).rejects.toThrow("ENOENT");
    expect(await readFile(join(path, "notes.txt"), "utf8")).toBe("mine");
  });

  it("is one process's at a time: another start takes and removes nothing", async () => {
    const state = await open();
    const file = await fill(state);
    await expect(open(true)).rejects.toMatchObject({ code: "MESH_STATE_IN_USE" });
    expect(await readFile(file, "utf8")).toBe("kept");
  });

  it("is no directory that holds something else: nothing in it is touched", async () => {
    await mkdir(join(path, "log"), { recursive: true });
    await writeFile(join(path, "log/precious"), "");
    for (const fresh of [false, true]) {
      await expect(open(fresh)).rejects.toThrow(/MESH_CONFIG_INVALID.*holds something else \(log\).*\n.*--state/);
    }
    expect(await readdir(path)).toEqual(["log"]);
    expect(await readdir(join(path, "log"))).toEqual(["precious"]);
  });

  it("is refused when it is another version's, until it is to be begun anew", async () => {
    await mkdir(path);
    await writeFile(join(path, "cf-mesh-dev.json"), JSON.stringify({ version: 2, isKept: true }));
    await expect(open()).rejects.toThrow(/another version.*\n.*--fresh/);
    expect((await open(true)).isFresh).toBe(true);
  });

  it.each([
    ["a path below a file", "/dev/null/x", /can't be used: ENOTDIR.*\n.*--state/],
    ["too long a name for sockets", `/tmp/${"x".repeat(100)}`, /too long a name.*\n.*\d+ bytes shorter with --state/],
  ])("is refused with words for %s", async (_, unfit, words) => {
    const opening = openStateDirectory({ path: unfit, fresh: false, view: VIEW });
    await expect(opening).rejects.toThrow(words);
    await expect(opening).rejects.toMatchObject({ code: "MESH_CONFIG_INVALID" });
  });
});
