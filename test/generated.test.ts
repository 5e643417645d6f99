import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, it, onTestFinished } from "vitest";
import { PACKAGE_ROOT } from "../src/lib/package-root.js";

it("src/gen is what proto/ gives: npm run generate makes it anew", async () => {
  const directory = await mkdtemp(join(tmpdir(), "cf-mesh-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const buf = join(PACKAGE_ROOT, "node_modules/.bin/buf");
  for (const [input, ...more] of [
    ["proto"],
    ["proto/envoy/envoy.binpb", "--exclude-path", "google/protobuf"],
  ] as const) {
    await promisify(execFile)(
      buf,
      ["generate", input, "--template", "proto/buf.gen.yaml", "--output", directory, ...more],
      { cwd: PACKAGE_ROOT },
    );
  }
  const read = async (root: string) => {
    const names = (await readdir(root, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
    const files = names.map(async (entry) => {
      const path = join(entry.parentPath, entry.name);
      return [path.slice(root.length), await readFile(path, "utf8")] as const;
    });
    return new Map(await Promise.all(files));
  };
  const [fresh, checkedIn] = await Promise.all([read(join(directory, "src/gen")), read(join(PACKAGE_ROOT, "src/gen"))]);
  expect([...fresh.keys()].sort()).toEqual([...checkedIn.keys()].sort());
  for (const [name, content] of fresh) expect(checkedIn.get(name) === content, name).toBe(true);
}, 60_000);
