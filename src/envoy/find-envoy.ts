import { execFile } from "node:child_process";
import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { asError, MeshError, systemCode } from "../lib/errors.js";
import { PACKAGE_ROOT } from "./package-root.js";

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
  /** Folders to look into, joined as in PATH; left out: this process's PATH. */
  readonly searchPath?: string;
  /** The folder that scripts/setup installs into; left out: the package's own. */
  readonly toolsDirectory?: string;
}

const VERSION_TIMEOUT_MS = 10_000;

/**
 * Finds an Envoy to run: the configured path, else an `envoy` of a supported version on PATH, else the one that
 * scripts/setup installed. Each is asked for its version.
 *
 * Throws  MESH_ENVOY_MISSING when the configured one can't be used, or when there is none; says what was looked at.
 */
export async function findEnvoy(options: FindEnvoyOptions = {}): Promise<EnvoyBinary> {
  if (options.path !== undefined) {
    const found = await inspect(options.path);
    if ("binary" in found) return found.binary;
    throw new MeshError(
      "MESH_ENVOY_MISSING",
      `the configured Envoy can't be used: ${found.refusal}`,
      `point the setting at an Envoy ${SUPPORTED_ENVOY}, or leave it out to use the one on PATH or of scripts/setup`,
    );
  }
  const refusals: string[] = [];
  for (const candidate of candidates(options)) {
    const found = await inspect(candidate);
    if ("binary" in found) return found.binary;
    refusals.push(found.refusal);
  }
  throw new MeshError(
    "MESH_ENVOY_MISSING",
    `no Envoy ${SUPPORTED_ENVOY} was found (${refusals.join("; ")})`,
    `run scripts/setup, which installs one; or put an envoy ${SUPPORTED_ENVOY} on PATH, or configure its path`,
  );
}

function candidates({ searchPath = process.env["PATH"] ?? "", toolsDirectory }: FindEnvoyOptions): string[] {
  const folders = searchPath.split(delimiter).filter((folder) => folder !== "");
  return [
    ...folders.map((folder) => join(folder, "envoy")),
    join(toolsDirectory ?? join(PACKAGE_ROOT, ".tools"), "envoy", "_bin", "envoy"),
  ];
}

async function inspect(path: string): Promise<{ binary: EnvoyBinary } | { refusal: string }> {
  try {
    await access(path, constants.X_OK);
  } catch (error) {
    const missing = ["ENOENT", "ENOTDIR"].includes(systemCode(error) ?? "");
    return { refusal: missing ? `${path} does not exist` : `${path} may not be executed` };
  }
  try {
    const { stdout } = await promisify(execFile)(path, ["--version"], { timeout: VERSION_TIMEOUT_MS });
    const version = /version: [^/\s]*\/(\d+\.\d+\.\d+)[^/\s]*\//.exec(stdout)?.[1];
    if (version === undefined) return { refusal: `${path} did not tell its version` };
    if (!version.startsWith(`${SUPPORTED_ENVOY}.`)) return { refusal: `${path} is version ${version}` };
    return { binary: { path, version } };
  } catch (error) {
    return { refusal: `${path} does not run here: ${asError(error).message.trim()}` };
  }
}
