/** Makes droplets of packages: what runs as a container on a foundation runs as child processes here. */
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { asError } from "../../lib/errors.js";
import { Reaper } from "../../lib/reaper.js";
import { binaryBuildpack } from "./binary-buildpack.js";
import { AppFiles, type Buildpack } from "./buildpack.js";
import { StagingError } from "./staging-error.js";
import { buildEnvironment } from "./environment.js";
import { goBuildpack } from "./go-buildpack.js";
import { nodejsBuildpack } from "./nodejs-buildpack.js";
import { parseProcfile } from "./procfile.js";
import { pythonBuildpack } from "./python-buildpack.js";
import { runStep } from "./run-step.js";
import { staticfileBuildpack } from "./staticfile-buildpack.js";
import { unpack, UnpackError } from "./unpack.js";

/** In the order in which they are asked, which is that of cf-deployment. */
const BUILDPACKS: readonly Buildpack[] = [
  staticfileBuildpack,
  nodejsBuildpack,
  goBuildpack,
  pythonBuildpack,
  binaryBuildpack,
];
export const BUILDPACK_NAMES: readonly string[] = BUILDPACKS.map(({ name }) => name);

export interface StagingRequest {
  /** A zip file. */
  readonly packageFile: string;
  /** Not there yet; the app's files go to "app" in it, what it needs beside them to "deps". */
  readonly directory: string;
  /** Names of those that are to be used; empty: the first that knows the app. */
  readonly buildpacks: readonly string[];
  /** What the user wants the web process to run; undefined leaves it to the app's files. */
  readonly startCommand: string | undefined;
  /** The user's environment variables. */
  readonly variables: Readonly<Record<string, string>>;
  /** Gets what staging has to tell the user. */
  readonly onLine: (stream: "stdout" | "stderr", text: string) => void;
}

export interface Staged {
  readonly buildpack: string;
  readonly detectOutput: string;
  /** Shell lines by process type. */
  readonly processTypes: Readonly<Record<string, string>>;
  readonly workingDirectory: string;
  /** Folders that come first in the PATH of the app's processes. */
  readonly path: readonly string[];
}

/** As long as Cloud Controller waits. */
const TIMEOUT_MS = 15 * 60_000;

export class Stager {
  #reaper: Reaper | undefined;
  readonly #closing = new AbortController();
  readonly #running = new Set<Promise<Staged>>();

  /**
   * Throws   a StagingError that tells the user what is wrong; nothing is left in the directory then. The signal's reason
   *          when it aborts.
   */
  async stage(request: StagingRequest, signal: AbortSignal): Promise<Staged> {
    const timeout = AbortSignal.timeout(TIMEOUT_MS);
    const work = this.#stage(request, AbortSignal.any([signal, this.#closing.signal, timeout]));
    this.#running.add(work);
    try {
      return await work;
    } catch (error) {
      await rm(request.directory, { recursive: true, force: true });
      if (!timeout.aborted) throw error;
      throw new StagingError("StagingTimeExpired", "Staging time expired: it took more than 15 minutes");
    } finally {
      this.#running.delete(work);
    }
  }

  /** Ends what is being staged. */
  async close(): Promise<void> {
    this.#closing.abort(new Error("the foundation is closing"));
    await Promise.allSettled(this.#running);
    await this.#reaper?.close();
  }

  async #stage(request: StagingRequest, signal: AbortSignal): Promise<Staged> {
    const { directory, startCommand, onLine } = request;
    const files = new AppFiles(join(directory, "app"));
    const dependencies = join(directory, "deps");
    const environment = buildEnvironment(request.variables);
    const say = (text: string) => onLine("stdout", text);
    await mkdir(dependencies, { recursive: true });
    await unpackApp(request, files);
    signal.throwIfAborted();
    const buildpack = await choose(request, files);
    say(`-----> ${buildpack.name}`);
    const reaper = (this.#reaper ??= new Reaper());
    const built = await buildpack.build({
      files,
      dependencies,
      environment,
      say: (text) => say(`       ${text}`),
      run: (step) => runStep(step, { directory: files.directory, environment, reaper, onLine, signal }),
    });
    const procfile = await files.read("Procfile");
    const processTypes = { ...built.processTypes, ...(procfile === undefined ? {} : parseProcfile(procfile)) };
    if (startCommand === undefined && Object.keys(processTypes).length === 0) throw noCommand(buildpack);
    return {
      buildpack: buildpack.name,
      detectOutput: built.detectOutput,
      processTypes,
      workingDirectory: files.directory,
      path: built.path,
    };
  }
}

async function unpackApp({ packageFile, onLine }: StagingRequest, { directory }: AppFiles): Promise<void> {
  try {
    for (const link of await unpack(packageFile, directory)) {
      onLine("stderr", `the symbolic link "${link}" leads nowhere, and was left out`);
    }
  } catch (error) {
    if (!(error instanceof UnpackError)) throw error;
    throw new StagingError("StagingError", `Staging error: the package can't be unpacked: ${asError(error).message}`, {
      cause: error,
    });
  }
}

async function choose({ buildpacks, startCommand }: StagingRequest, files: AppFiles): Promise<Buildpack> {
  // The last of several decides how an app starts, on a foundation as here.
  const wanted = buildpacks.at(-1);
  if (wanted !== undefined) return named(wanted);
  for (const buildpack of BUILDPACKS) if (await buildpack.detect(files)) return buildpack;
  if (startCommand !== undefined) return binaryBuildpack;
  // A page alone is an app as well; beside anything else it is that app's.
  if (await files.has("index.html")) return staticfileBuildpack;
  throw new StagingError(
    "NoAppDetectedError",
    "An app was not successfully detected by any available buildpack: there is no Procfile, package.json, " +
      "requirements.txt, go.mod, Staticfile or index.html. Add one, or push with -c COMMAND",
  );
}

function named(name: string): Buildpack {
  const found = BUILDPACKS.find((buildpack) => buildpack.name === name);
  if (found !== undefined) return found;
  throw new StagingError(
    "BuildpackCompileFailed",
    `App staging failed in the buildpack compile phase: there is no buildpack "${name}" here, and none is downloaded. ` +
      `Use one of ${BUILDPACK_NAMES.join(", ")}`,
  );
}

function noCommand({ name }: Buildpack): StagingError {
  return new StagingError(
    "BuildpackReleaseFailed",
    `App staging failed in the buildpack release phase: ${name} found no start command. ` +
      'Add a Procfile with a line like "web: COMMAND", or push with -c COMMAND',
  );
}
