import { lstat, mkdtemp, readdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { zip, type ZipEntry } from "../../../test/support/zip.js";
import { unpack, type UnpackLimits } from "./unpack.js";

const LINK = 0o120777;

describe("unpacking what a user uploads", () => {
  let root: string;
  let target: string;
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), "cf-mesh-unpack-"));
    target = join(root, "inside", "app");
  });
  afterEach(() => rm(root, { recursive: true, force: true }));

  async function unpacked(entries: readonly ZipEntry[], limits?: UnpackLimits) {
    const file = join(root, "package.zip");
    await writeFile(file, zip(entries));
    return await unpack(file, target, limits);
  }
  const modeOf = async (name: string) => (await lstat(join(target, name))).mode & 0o7777;

  it("keeps contents, folders, permissions and links", async () => {
    const left = await unpacked([
      { name: "bin/", mode: 0o040750 },
      { name: "bin/start", content: "#!/bin/sh\n", mode: 0o100755 },
      { name: "deep/er/file.txt", content: "hello", mode: 0o100640 },
      { name: "run", content: "bin/start", mode: LINK },
    ]);
    expect(left).toEqual([]);
    expect(await readFile(join(target, "deep/er/file.txt"), "utf8")).toBe("hello");
    expect(await readlink(join(target, "run"))).toBe("bin/start");
    expect([await modeOf("bin"), await modeOf("bin/start"), await modeOf("deep/er/file.txt")]).toEqual([
      0o750, 0o755, 0o640,
    ]);
  });

  it("gives usual permissions where the zip has none, takes setuid away, and lets the owner write", async () => {
    await unpacked([
      { name: "plain", content: "" },
      { name: "setuid", content: "", mode: 0o104755 },
      { name: "locked", content: "", mode: 0o100400 },
    ]);
    expect([await modeOf("plain"), await modeOf("setuid"), await modeOf("locked")]).toEqual([0o644, 0o755, 0o600]);
  });

  it("leaves out links that lead nowhere, and names them", async () => {
    expect(await unpacked([{ name: "lost", content: "nowhere", mode: LINK }])).toEqual(["lost"]);
    expect(await readdir(target)).toEqual([]);
  });

  it.each<[string, readonly ZipEntry[]]>([
    ["a name with ..", [{ name: "../evil", content: "x" }]],
    ["an absolute name", [{ name: "/tmp/evil", content: "x" }]],
    ["a name with a backslash", [{ name: "..\\evil", content: "x" }]],
    ["a link to a parent", [{ name: "out", content: "../..", mode: LINK }]],
    ["an absolute link", [{ name: "out", content: "/etc/passwd", mode: LINK }]],
    [
      "a link that leaves the folder over another link",
      [
        { name: "p/q/here", content: "../..", mode: LINK },
        { name: "out", content: "p/q/here/../..", mode: LINK },
      ],
    ],
    [
      "a file below a link",
      [
        { name: "folder", content: ".", mode: LINK },
        { name: "folder/file", content: "x" },
      ],
    ],
    [
      "two entries of one name",
      [
        { name: "twice", content: "1" },
        { name: "twice", content: "2" },
      ],
    ],
    ["a device", [{ name: "null", mode: 0o020666 }]],
    ["a size that is not true", [{ name: "big", content: "x", claimedSize: 1_000 }]],
  ])("refuses %s, and writes nothing outside", async (_what, entries) => {
    await expect(unpacked(entries)).rejects.toMatchObject({ name: "UnpackError" });
    expect((await readdir(root)).sort()).toEqual(["inside", "package.zip"]);
    expect(await readdir(join(root, "inside"))).toEqual(["app"]);
  });

  it("refuses too many entries, and too many bytes", async () => {
    const entries = [
      { name: "a", content: "12345" },
      { name: "b", content: "12345" },
    ];
    await expect(unpacked(entries, { entryCount: 1, byteCount: 100 })).rejects.toThrow("it has 2 entries");
    await expect(unpacked(entries, { entryCount: 2, byteCount: 9 })).rejects.toThrow("more than 9 bytes");
  });

  it("refuses what is no zip", async () => {
    const file = join(root, "package.zip");
    await writeFile(file, "not a zip at all, but long enough to be looked at");
    await expect(unpack(file, target)).rejects.toMatchObject({ name: "UnpackError" });
  });
});
