import { mkdtemp, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { eventually } from "../../test/support/eventually.js";
import { type Certificates, createCertificates, type KeyPair } from "../emulator/certificates.js";
import { createLogger } from "../lib/logger.js";
import { Credentials } from "./credentials.js";

const LOOK_MS = 20;
const NEVER_MS = 3_600_000;

let certificates: Certificates;
let other: KeyPair;
let directory: string;
let lines: { readonly level: string; readonly msg: string; readonly files?: readonly string[] }[];
let credentials: Credentials;

const path = (file: string) => join(directory, file);

beforeAll(async () => {
  certificates = await createCertificates();
  other = await certificates.issue({ commonName: "other", validMs: 60_000 });
});
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "cf-mesh-credentials-"));
  lines = [];
  await write(certificates.client);
  await writeFile(path("ca"), certificates.ca);
  await writeFile(path("password"), "first\n");
});
afterEach(async () => {
  await credentials.close();
  await rm(directory, { recursive: true });
});

async function write({ certificate, key }: KeyPair): Promise<void> {
  await writeFile(path("certificate"), certificate);
  await writeFile(path("key"), key);
}

/** Follows all of them; a set is what its texts are. */
async function follow(lookMs: number) {
  credentials = new Credentials(
    createLogger("info", { write: (line: string) => void lines.push(JSON.parse(line) as (typeof lines)[number]) }),
    lookMs,
  );
  return credentials.follow({
    section: "diego",
    files: {
      caFile: path("ca"),
      certificateFile: path("certificate"),
      keyFile: path("key"),
      passwordFile: path("password"),
      tokenFile: undefined,
    },
    make: (texts) => texts,
  });
}

const errors = () => lines.filter(({ level }) => level === "error").map(({ msg }) => msg);

describe("credentials in files", () => {
  it("are replaced while the process runs, and named in the log, without what they hold", async () => {
    const current = await follow(LOOK_MS);
    const first = current();
    expect(first).toMatchObject({ passwordFile: "first", certificateFile: certificates.client.certificate });
    await write(other);
    await eventually(() => current() !== first);
    expect(current()).toMatchObject({ certificateFile: other.certificate, keyFile: other.key });
    expect(credentials.status).toMatchObject({ replacedCount: 1, refused: [] });
    expect(lines.flatMap(({ files }) => files ?? [])).toEqual([path("certificate"), path("key")]);
    expect(JSON.stringify(lines)).not.toContain("BEGIN");
  });

  it("are replaced through a link that is moved, as mounted secrets are", async () => {
    await rm(path("password"));
    await writeFile(path("password-1"), "first");
    await writeFile(path("password-2"), "second");
    await symlink(path("password-1"), path("password"));
    const current = await follow(LOOK_MS);
    await symlink(path("password-2"), path("next"));
    await rename(path("next"), path("password"));
    await eventually(() => current().passwordFile === "second");
  });

  it("stay one object for as long as nothing changes", async () => {
    const current = await follow(NEVER_MS);
    const first = current();
    await credentials.reload();
    expect(current()).toBe(first);
    expect(lines).toEqual([]);
  });

  it.each([
    ["a key that belongs to another certificate", "key", () => other.key, "diego.keyFile"],
    ["a certificate that is none", "certificate", () => "garbage", "diego.certificateFile"],
    ["a CA that is cut off", "ca", () => certificates.ca.slice(0, 200), "diego.caFile"],
    ["an empty password", "password", () => "\n", "diego.passwordFile"],
  ])("are refused with %s: those of before stay, and one line says so", async (_, file, content, key) => {
    const current = await follow(NEVER_MS);
    const first = current();
    await writeFile(path(file), content());
    await credentials.reload();
    await credentials.reload();
    expect(current()).toBe(first);
    expect(errors()).toEqual([expect.stringMatching(/MESH_CONFIG_INVALID.*what was read before is used/s)]);
    expect(errors()[0]).toContain(`${key}: ${path(file)}`);
    expect(credentials.status).toMatchObject({ replacedCount: 0, refused: [key] });
    expect(JSON.stringify(lines)).not.toContain(other.key.split("\n")[1]);
  });

  it("stay when a file is gone, and are taken when it is back with something else", async () => {
    const current = await follow(LOOK_MS);
    await rm(path("password"));
    await eventually(() => credentials.status.refused.length > 0);
    expect(errors()).toEqual([expect.stringContaining(`${path("password")} can't be read (ENOENT)`)]);
    expect(current().passwordFile).toBe("first");
    await writeFile(path("password"), "second");
    await eventually(() => current().passwordFile === "second");
    expect(credentials.status.refused).toEqual([]);
  });

  it("are refused at the start with what can never work", async () => {
    await writeFile(path("key"), other.key);
    await expect(follow(NEVER_MS)).rejects.toThrow("diego.keyFile");
  });

  it("tell when their certificates end", async () => {
    await write(other);
    await follow(NEVER_MS);
    const { certificateEndsMs } = credentials.status;
    expect(Object.keys(certificateEndsMs)).toEqual(["diego.caFile", "diego.certificateFile"]);
    expect(certificateEndsMs["diego.certificateFile"]).toBeLessThan(Date.now() + 61_000);
  });

  it("tell of a bundle of CAs when the last of them ends: others may have ended long ago", async () => {
    await writeFile(path("ca"), `${other.certificate}${certificates.ca}`);
    await follow(NEVER_MS);
    expect(credentials.status.certificateEndsMs["diego.caFile"]).toBeGreaterThan(Date.now() + 61_000);
  });
});
