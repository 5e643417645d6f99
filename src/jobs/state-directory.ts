/** The directory of a laptop: what is ours in it, and what the next start finds again. */
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { type JobView, serveApiOnSocket } from "../api/job-api.js";
import { keeperSocketPath, MAX_SOCKET_PATH_BYTES } from "../envoy/keeper-protocol.js";
import { asError, MeshError } from "../lib/errors.js";

export interface StateDirectory {
  /** Sockets, and the logs of Envoy and NATS; of no use after the end. */
  readonly runDirectory: string;
  /** The mesh log. */
  readonly logDirectory: string;
  /** What the foundation keeps: its state, and the droplets of apps. */
  readonly dataDirectory: string;
  readonly natsDirectory: string;
  /** Certificates and secrets, readable by their owner alone. */
  readonly secretsDirectory: string;
  /** For a mesh that runs beside a foundation alone: its configuration, and its directory. */
  readonly meshConfigFile: string;
  readonly meshDirectory: string;
  readonly logFile: string;
  /** Nothing was kept here: what is there from the start has to be made. */
  readonly isFresh: boolean;
  /** From now on a start finds what was made: without this it begins anew. */
  keep(): Promise<void>;
  /** Lets others have the directory; all that is in it stays. */
  close(): Promise<void>;
}

export interface StateDirectoryOptions {
  /** Absolute. */
  readonly path: string;
  /** Begin anew: all that is ours in it is removed first. */
  readonly fresh: boolean;
  /** What the job tells of itself on run/api.sock. */
  readonly view: JobView;
}

/** Says that a directory is ours, and holds what Marker says. */
const MARKER = "cf-mesh-dev.json";
const MarkerSchema = z.looseObject({ version: z.literal(1), isKept: z.boolean() });
const OWN = {
  runDirectory: "run",
  logDirectory: "log",
  dataDirectory: "foundation",
  natsDirectory: "nats",
  secretsDirectory: "secrets",
  meshConfigFile: "mesh.yml",
  meshDirectory: "mesh",
  logFile: "cf-mesh.log",
} as const;

/** How many foreign files a refusal names. */
const NAMED_FILE_COUNT = 3;

/**
 * Takes the directory for this process, and makes it when it is missing. What is not ours is never touched.
 *
 * Throws  MESH_CONFIG_INVALID when it can't be made or holds something else, MESH_STATE_IN_USE when another process
 *         has it.
 */
export async function openStateDirectory(options: StateDirectoryOptions): Promise<StateDirectory> {
  const { path, fresh, view } = options;
  checkLength(path);
  const marker = await claim(path, fresh);
  const paths = stateFiles(path);
  await mkdir(paths.runDirectory, { recursive: true, mode: 0o700 });
  // Another process that has it shows before anything is removed.
  const server = await serveApiOnSocket(join(paths.runDirectory, "api.sock"), view);
  const isFresh = !marker.isKept;
  if (isFresh) {
    await writeMarker(path, { version: 1, isKept: false });
    // The run directory holds the socket that marks it as taken.
    const removed = Object.values(paths).filter((entry) => entry !== paths.runDirectory);
    for (const entry of removed) await rm(entry, { recursive: true, force: true });
  }
  await mkdir(paths.secretsDirectory, { recursive: true, mode: 0o700 });
  return {
    ...paths,
    isFresh,
    keep: () => writeMarker(path, { version: 1, isKept: true }),
    close: () => server.close(),
  };
}

/** Where each part of a state directory lies. */
export function stateFiles(path: string): Readonly<Record<keyof typeof OWN, string>> {
  const paths: Record<keyof typeof OWN, string> = { ...OWN };
  for (const name of Object.keys(OWN) as (keyof typeof OWN)[]) paths[name] = join(path, OWN[name]);
  return paths;
}

type Marker = z.infer<typeof MarkerSchema>;

async function claim(path: string, fresh: boolean): Promise<Marker> {
  const unkept: Marker = { version: 1, isKept: false };
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    const entries = await readdir(path);
    if (entries.includes(MARKER)) {
      const text = await readFile(join(path, MARKER), "utf8");
      return fresh ? unkept : parseMarker(text, path);
    }
    if (entries.length > 0) throw foreign(path, entries);
    await writeMarker(path, unkept);
    return unkept;
  } catch (error) {
    if (error instanceof MeshError) throw error;
    throw new MeshError(
      "MESH_CONFIG_INVALID",
      `the state directory ${path} can't be used: ${asError(error).message}; nothing was started`,
      "name a directory that this user can make and write to with --state",
      { cause: error },
    );
  }
}

function parseMarker(text: string, path: string): Marker {
  try {
    return MarkerSchema.parse(JSON.parse(text));
  } catch (error) {
    throw new MeshError(
      "MESH_CONFIG_INVALID",
      `the state directory ${path} is of another version of cf-mesh; nothing in it was touched, nothing was started`,
      "begin anew with --fresh, or name another directory with --state",
      { cause: error },
    );
  }
}

async function writeMarker(path: string, marker: Marker): Promise<void> {
  const temporary = join(path, `${MARKER}.new`);
  await writeFile(temporary, `${JSON.stringify(marker)}\n`, { mode: 0o600 });
  await rename(temporary, join(path, MARKER));
}

function foreign(path: string, entries: readonly string[]): MeshError {
  const named = entries.slice(0, NAMED_FILE_COUNT).join(", ") + (entries.length > NAMED_FILE_COUNT ? ", …" : "");
  return new MeshError(
    "MESH_CONFIG_INVALID",
    `the state directory ${path} holds something else (${named}); nothing in it was touched, nothing was started`,
    "name a new or an empty directory with --state",
  );
}

function checkLength(path: string): void {
  const excess = Buffer.byteLength(keeperSocketPath(join(path, OWN.runDirectory))) - MAX_SOCKET_PATH_BYTES;
  if (excess <= 0) return;
  throw new MeshError(
    "MESH_CONFIG_INVALID",
    `the state directory ${path} has too long a name for the unix sockets in it; nothing was started`,
    `name one that is ${excess} bytes shorter with --state`,
  );
}
