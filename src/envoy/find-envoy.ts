import { execFile } from "node:child_process";
import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { asError, MeshError, systemCode } from "../lib/errors.js";
import { PACKAGE_ROOT } from "../lib/package-root.js";

/** The releases whose behaviour this mesh was tried on; scripts/setup installs the same. */
export const SUPPORTED_ENVOY = "1.40";

export interface EnvoyBinary {
  readonly path: string;
  /** As in "1.40.0". */
  readonly version: string;
}

export interface FindEnvoyOptions {
  /** The configured binary. It wins, and must be of a supported version. */
  readonly path?: string;
  /** What the operator sets that path with; left out: router.envoyPath. */
  readonly setting?: string;
  /** ENVOY_PATH and PATH count; left out: this process's own. */
  readonly environment?: NodeJS.ProcessEnv;
  /** The folder that scripts/setup installs into; left out: the package's own. */
  readonly toolsDirectory?: string;
}

const VERSION_TIMEOUT_MS = 10_000;

/**
 * Finds an Envoy to run: the configured path, else that in ENVOY_PATH, else an `envoy` of a supported version on PATH,
 * else the one that scripts/setup installed. Each is asked for its version.
 *
 * Throws  MESH_ENVOY_MISSING when the configured one can't be used, or when there is none; says what was looked at.
 */
export async function findEnvoy(options: FindEnvoyOptions = {}): Promise<EnvoyBinary> {
  const { path, setting = "router.envoyPath", environment = process.env } = options;
  const { toolsDirectory = join(PACKAGE_ROOT, ".tools") } = options;
  if (path !== undefined) return demand(path, setting);
  const given = environment["ENVOY_PATH"] ?? "";
  if (given !== "") return demand(given, "ENVOY_PATH");

  const folders = (environment["PATH"] ?? "").split(delimiter).filter((folder) => folder !== "");
  const candidates = [...folders.map((folder) => join(folder, "envoy")), join(toolsDirectory, "envoy/_bin/envoy")];
  const unfit: string[] = [];
  for (const candidate of candidates) {
    const found = await inspect(candidate);
    if ("binary" in found) return found.binary;
    if (found.exists) unfit.push(`; ${found.refusal}`);
  }
  throw new MeshError(
    "MESH_ENVOY_MISSING",
    `no Envoy ${SUPPORTED_ENVOY} on PATH, nor in ${toolsDirectory}${unfit.join("")}`,
    `run scripts/setup, which installs one; or put an envoy ${SUPPORTED_ENVOY} on PATH, or name it with ${setting}`,
  );
}

async function demand(path: string, setting: string): Promise<EnvoyBinary> {
  const found = await inspect(path);
  if ("binary" in found) return found.binary;
  throw new MeshError(
    "MESH_ENVOY_MISSING",
    `${setting} names no Envoy that can be used: ${found.refusal}`,
    `point ${setting} at an Envoy ${SUPPORTED_ENVOY}, or leave it out to use the one on PATH or of scripts/setup`,
  );
}

type Inspected = { readonly binary: EnvoyBinary } | { readonly refusal: string; readonly exists: boolean };

async function inspect(path: string): Promise<Inspected> {
  try {
    await access(path, constants.X_OK);
  } catch (error) {
    const exists = !["ENOENT", "ENOTDIR"].includes(systemCode(error) ?? "");
    return { refusal: `${path} ${exists ? "may not be executed" : "does not exist"}`, exists };
  }
  const refuse = (reason: string) => ({ refusal: `${path} ${reason}`, exists: true });
  try {
    const { stdout } = await promisify(execFile)(path, ["--version"], { timeout: VERSION_TIMEOUT_MS });
    const version = /version: [^/\s]*\/(\d+\.\d+\.\d+)[^/\s]*\//.exec(stdout)?.[1];
    if (version === undefined) return refuse("did not tell its version");
    if (!version.startsWith(`${SUPPORTED_ENVOY}.`)) return refuse(`is version ${version}`);
    return { binary: { path, version } };
  } catch (error) {
    return refuse(`does not run here: ${asError(error).message.trim()}`);
  }
}
