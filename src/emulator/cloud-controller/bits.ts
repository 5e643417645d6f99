/** Where uploads and what was made of them lie on disk: packages/GUID.zip, droplets/GUID/. */
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { copyFile, mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { type Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Droplet } from "./records.js";

export class Bits {
  readonly #packages: string;
  readonly #droplets: string;

  constructor(directory: string) {
    this.#packages = join(directory, "packages");
    this.#droplets = join(directory, "droplets");
  }

  packageFile(guid: string): string {
    return join(this.#packages, `${guid}.zip`);
  }

  dropletDirectory(guid: string): string {
    return join(this.#droplets, guid);
  }

  /** Returns the SHA-256 of the content, in hexadecimal. */
  async savePackage(guid: string, content: Readable): Promise<string> {
    await mkdir(this.#packages, { recursive: true, mode: 0o700 });
    const hash = createHash("sha256");
    const hashing = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        hash.update(chunk);
        done(null, chunk);
      },
    });
    await pipeline(content, hashing, createWriteStream(this.packageFile(guid), { mode: 0o600 }));
    return hash.digest("hex");
  }

  async copyPackage(sourceGuid: string, guid: string): Promise<void> {
    await copyFile(this.packageFile(sourceGuid), this.packageFile(guid));
  }

  readPackage(guid: string): Readable {
    return createReadStream(this.packageFile(guid));
  }

  async deletePackage(guid: string): Promise<void> {
    await rm(this.packageFile(guid), { force: true });
  }

  /** Copies of a droplet share its files: they go with the last of them. Samples' files are not ours. */
  async deleteDroplet(droplet: Droplet, left: readonly Droplet[]): Promise<void> {
    const isOurs = droplet.workingDirectory.startsWith(join(this.#droplets, "/"));
    if (!isOurs || left.some((other) => other.workingDirectory === droplet.workingDirectory)) return;
    await rm(join(droplet.workingDirectory, ".."), { recursive: true, force: true });
  }

  /** Drops what no record knows: the rest of an earlier run. */
  async sweep(packageGuids: ReadonlySet<string>, droplets: readonly Droplet[]): Promise<void> {
    const directories = new Set(droplets.map(({ workingDirectory }) => join(workingDirectory, "..")));
    for (const name of await namesIn(this.#packages)) {
      if (!packageGuids.has(name.replace(/\.zip$/, ""))) await rm(join(this.#packages, name), { force: true });
    }
    for (const name of await namesIn(this.#droplets)) {
      const directory = join(this.#droplets, name);
      if (!directories.has(directory)) await rm(directory, { recursive: true, force: true });
    }
  }
}

async function namesIn(directory: string): Promise<readonly string[]> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  return await readdir(directory);
}
