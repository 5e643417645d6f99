/** Unpacks what a user uploaded, with nothing of it outside the folder that it is for. */
import { createWriteStream } from "node:fs";
import { chmod, mkdir, realpath, rm, symlink } from "node:fs/promises";
import { dirname, isAbsolute, join, relative, resolve, sep } from "node:path";
import { pipeline } from "node:stream/promises";
import { type Entry, openPromise, type ZipFile } from "yauzl";
import { asError, systemCode } from "../../lib/errors.js";

export interface UnpackLimits {
  readonly entryCount: number;
  /** Of all files together, unpacked. */
  readonly byteCount: number;
}

export const DEFAULT_LIMITS: UnpackLimits = { entryCount: 500_000, byteCount: 4 * 1024 ** 3 };

/** Why a zip file is refused. */
export class UnpackError extends Error {
  override readonly name = "UnpackError";
}

const MAX_LINK_BYTES = 4096;
const FILE_TYPE = 0o170000;
const DIRECTORY = 0o040000;
const REGULAR = 0o100000;
const SYMBOLIC_LINK = 0o120000;

interface Link {
  readonly name: string;
  readonly target: string;
}

/**
 * Unpacks a zip file into a folder that is empty or not there yet. Permissions stay as they are, but for the owner, who
 * may always read and write, and without setuid; files of a zip that knows none get 644, folders 755.
 *
 * Returns  the symbolic links that lead nowhere, which are left out.
 * Throws   UnpackError for what is no zip, exceeds the limits, or would leave the folder; part of it may be there then.
 */
export async function unpack(
  zipFile: string,
  directory: string,
  limits: UnpackLimits = DEFAULT_LIMITS,
): Promise<readonly string[]> {
  await mkdir(directory, { recursive: true });
  // Paths are compared with what links lead to, so none of the folder's own parents may be a link.
  const root = await realpath(directory);
  const zip = await open(zipFile);
  const links: Link[] = [];
  try {
    if (zip.entryCount > limits.entryCount) {
      throw new UnpackError(`it has ${zip.entryCount} entries, more than ${limits.entryCount}`);
    }
    let byteCount = 0;
    for await (const entry of zip.eachEntry()) {
      byteCount += entry.uncompressedSize;
      if (byteCount > limits.byteCount) throw new UnpackError(`it has more than ${limits.byteCount} bytes unpacked`);
      await unpackEntry(zip, entry, root, links);
    }
  } catch (error) {
    throw asUnpackError(error);
  } finally {
    zip.close();
  }
  return await makeLinks(root, links);
}

async function open(zipFile: string): Promise<ZipFile> {
  try {
    return await openPromise(zipFile, { lazyEntries: true, autoClose: false, strictFileNames: true });
  } catch (error) {
    throw asUnpackError(error);
  }
}

function asUnpackError(thrown: unknown): Error {
  if (thrown instanceof UnpackError) return thrown;
  const error = asError(thrown);
  const code = systemCode(error);
  if (code === "EEXIST") return new UnpackError("it has two entries of one name", { cause: error });
  // Of the system, as a full disk is; yauzl's own errors, and zlib's, are about the file.
  if (code !== undefined && !code.startsWith("Z_")) return error;
  return new UnpackError(error.message, { cause: error });
}

async function unpackEntry(zip: ZipFile, entry: Entry, root: string, links: Link[]): Promise<void> {
  const path = within(root, entry.fileName);
  // The upper half is Unix's mode; zips from elsewhere leave it empty.
  const mode = entry.externalFileAttributes >>> 16;
  const type = mode & FILE_TYPE;
  if (entry.isEncrypted()) throw new UnpackError(`"${entry.fileName}" is encrypted`);
  if (entry.fileName.endsWith("/") || type === DIRECTORY) {
    await mkdir(path, { recursive: true });
    await chmod(path, mode === 0 ? 0o755 : (mode & 0o777) | 0o700);
    return;
  }
  await mkdir(dirname(path), { recursive: true });
  if (type === SYMBOLIC_LINK) {
    links.push({ name: entry.fileName, target: await readLink(zip, entry) });
    return;
  }
  if (type !== 0 && type !== REGULAR) throw new UnpackError(`"${entry.fileName}" is neither file, folder nor link`);
  const content = await zip.openReadStreamPromise(entry);
  await pipeline(content, createWriteStream(path, { flags: "wx" }));
  await chmod(path, mode === 0 ? 0o644 : (mode & 0o777) | 0o600);
}

/** Links come last, so that no file is written through one. */
async function makeLinks(root: string, links: readonly Link[]): Promise<readonly string[]> {
  for (const { name, target } of links) {
    const path = within(root, name);
    if (isAbsolute(target) || !isWithin(root, resolve(dirname(path), target))) throw leavesFolder(name, target);
    try {
      await symlink(target, path);
    } catch (error) {
      throw asUnpackError(error);
    }
  }
  const dangling: string[] = [];
  for (const { name, target } of links) {
    const path = within(root, name);
    // Over other links, "a/.." may be elsewhere than its text says.
    const end = await realpath(path).catch(() => undefined);
    if (end === undefined) {
      await rm(path);
      dangling.push(name);
    } else if (!isWithin(root, end)) {
      throw leavesFolder(name, target);
    }
  }
  return dangling;
}

async function readLink(zip: ZipFile, entry: Entry): Promise<string> {
  if (entry.uncompressedSize > MAX_LINK_BYTES) throw new UnpackError(`the link "${entry.fileName}" is too long`);
  const parts: Buffer[] = [];
  for await (const part of await zip.openReadStreamPromise(entry)) parts.push(part as Buffer);
  return Buffer.concat(parts).toString("utf8");
}

function within(root: string, name: string): string {
  const path = join(root, name);
  if (isAbsolute(name) || !isWithin(root, path)) throw new UnpackError(`"${name}" would leave the app's folder`);
  return path;
}

function isWithin(root: string, path: string): boolean {
  const way = relative(root, path);
  return way !== ".." && !way.startsWith(`..${sep}`) && !isAbsolute(way);
}

function leavesFolder(name: string, target: string): UnpackError {
  return new UnpackError(`the link "${name}" leads out of the app's folder, to "${target}"`);
}
