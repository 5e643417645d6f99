import { MeshError, systemCode } from "../lib/errors.js";

export const logConflict = (key: string, expectedSequence: number, sequence: number) =>
  new MeshError(
    "MESH_LOG_CONFLICT",
    `${key}: its last write is ${sequence === 0 ? "none" : `number ${sequence}`}, expected ` +
      `${expectedSequence === 0 ? "none" : `number ${expectedSequence}`}; nothing of the batch was written`,
    "read the key again and decide anew; when this goes on, see that only one process writes this key space",
  );

export const logClosed = (directory: string) =>
  new MeshError("MESH_LOG_UNAVAILABLE", `mesh log in ${directory}: it is closed`, "open the log again");

export const logUnopened = (directory: string, cause: Error) =>
  new MeshError(
    "MESH_LOG_UNAVAILABLE",
    `mesh log in ${directory}: it can't be opened (${cause.message})`,
    remedy(directory, cause),
    { cause },
  );

export const logForeign = (directory: string, reason: string) =>
  new MeshError(
    "MESH_LOG_UNAVAILABLE",
    `mesh log in ${directory}: ${reason}; it was left as it is`,
    "name a directory of its own for the log, or move that one away: an empty log is filled anew by its sources",
  );

export const logUnreadable = (directory: string, cause: Error) =>
  new MeshError(
    "MESH_LOG_UNAVAILABLE",
    `mesh log in ${directory}: it can't be read (${cause.message})`,
    remedy(directory, cause),
    { cause },
  );

export const logUnwritable = (directory: string, cause: Error) =>
  new MeshError(
    "MESH_LOG_UNAVAILABLE",
    `mesh log in ${directory}: nothing was appended (${cause.message}); reads go on, and later appends are tried`,
    remedy(directory, cause),
    { cause },
  );

/** LMDB's own codes, and the system's as it passes them on. Source: lmdb.h; errno(3) of Linux, macOS where it differs. */
const MDB_MAP_FULL = -30_792;
const MDB_INVALID = [-30_793, -30_794, -30_796, -30_797];
/** EIO among them: LMDB says so when the disk took a part of a write, as a disk does that is just full. */
const NO_ROOM = [5 /* EIO */, MDB_MAP_FULL, 27 /* EFBIG */, 28 /* ENOSPC */, 69 /* EDQUOT, macOS */, 122 /* EDQUOT */];
const NO_ACCESS = [1 /* EPERM */, 13 /* EACCES */, 30 /* EROFS */];

function remedy(directory: string, cause: Error): string {
  const code: unknown = "code" in cause ? cause.code : undefined;
  const isOneOf = (codes: readonly number[]) => typeof code === "number" && codes.includes(code);
  if (isOneOf(NO_ROOM) || ["EDQUOT", "EFBIG", "ENOSPC"].includes(systemCode(cause) ?? "")) {
    return (
      `free space on the disk of ${directory}, or raise the limits on the size of files, no restart is needed; ` +
      "with room enough, see whether the disk is failing"
    );
  }
  if (isOneOf(NO_ACCESS) || ["EACCES", "EPERM", "EROFS"].includes(systemCode(cause) ?? "")) {
    return `let this process read and write ${directory} and the files in it`;
  }
  if (isOneOf(MDB_INVALID)) {
    return `see that nothing else wrote to ${directory}; move it away, and the log is filled anew by its sources`;
  }
  return `see that ${directory} is a directory on a healthy local disk, then restart`;
}
