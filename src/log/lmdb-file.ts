import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { logForeign } from "./faults.js";

/** What LMDB writes into a new environment, and some more. */
const NEW_FILE_BYTES = 65_536;

/** Of the first page of a data file: the header of the page, then MDB_meta. Source: mdb.c of lmdb 3.5 (LMDB 1.0). */
const HEADER_BYTES = 52;
const PAGE_FLAGS_OFFSET = 18;
const META_PAGE_FLAG = 0x08;
const MAGIC_OFFSET = 24;
const MAGIC = 0xbeefc0de;
const VERSION_OFFSET = 28;
const VERSION = 2;
const PAGE_SIZE_OFFSET = 48;

/**
 * Makes the directory, and sees that LMDB will be able to open or make its files in it: the binding does not report
 * what fails there, it takes the process down (lmdb 3.5.6 uses what it freed).
 *
 * Throws   MESH_LOG_UNAVAILABLE for a file that is no LMDB data; else the system's error.
 */
export function prepareDirectory(directory: string): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  accessSync(directory, constants.R_OK | constants.W_OK | constants.X_OK);
  const dataFile = join(directory, "data.mdb");
  for (const file of [dataFile, join(directory, "lock.mdb")]) {
    if (existsSync(file)) accessSync(file, constants.R_OK | constants.W_OK);
  }
  const isNew = existsSync(dataFile) ? checkData(directory, dataFile) : true;
  if (isNew) checkRoom(directory);
}

/** Returns whether the file is empty: LMDB then begins it. */
function checkData(directory: string, file: string): boolean {
  const descriptor = openSync(file, "r");
  try {
    const header = Buffer.alloc(HEADER_BYTES);
    const length = readSync(descriptor, header, 0, HEADER_BYTES, 0);
    if (length === 0) return true;
    const isMeta = (header.readUInt16LE(PAGE_FLAGS_OFFSET) & META_PAGE_FLAG) !== 0;
    // A file that ends in its first page lacks the second meta page.
    const secondPage = readSync(
      descriptor,
      Buffer.alloc(HEADER_BYTES),
      0,
      HEADER_BYTES,
      header.readUInt32LE(PAGE_SIZE_OFFSET),
    );
    if (!isMeta || header.readUInt32LE(MAGIC_OFFSET) !== MAGIC || secondPage < HEADER_BYTES) {
      throw logForeign(directory, "its data.mdb was not written by LMDB, or is cut off");
    }
    const version = header.readUInt16LE(VERSION_OFFSET);
    if (version !== VERSION) {
      throw logForeign(directory, `its data.mdb has LMDB's format ${version}, and cf-mesh reads ${VERSION}`);
    }
    return false;
  } finally {
    closeSync(descriptor);
  }
}

function checkRoom(directory: string): void {
  const probe = join(directory, `probe-${process.pid}.tmp`);
  try {
    writeFileSync(probe, Buffer.alloc(NEW_FILE_BYTES), { flush: true });
  } finally {
    rmSync(probe, { force: true });
  }
}
