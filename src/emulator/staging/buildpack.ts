/** What a buildpack is here: it knows its apps by their files, runs what builds them, and says how they start. */
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { systemCode } from "../../lib/errors.js";
import type { RunStep } from "./run-step.js";

/** An app's folder, as it was pushed. */
export class AppFiles {
  readonly directory: string;

  constructor(directory: string) {
    this.directory = directory;
  }

  async has(name: string): Promise<boolean> {
    return (await stat(join(this.directory, name)).catch(() => undefined)) !== undefined;
  }

  /** The text of a file; undefined when there is none of that name. */
  async read(name: string): Promise<string | undefined> {
    try {
      return await readFile(join(this.directory, name), "utf8");
    } catch (error) {
      if (["ENOENT", "EISDIR", "ENOTDIR"].includes(systemCode(error) ?? "")) return undefined;
      throw error;
    }
  }
}

export interface BuildContext {
  readonly files: AppFiles;
  /** For what the app needs beside its own files; not there yet. */
  readonly dependencies: string;
  /** What the build's programs see. */
  readonly environment: Readonly<Record<string, string>>;
  /** Tells the user, in the app's log. */
  readonly say: (text: string) => void;
  /** Runs a program in the app's folder; what it writes goes to the app's log. Throws a StagingError when it fails. */
  readonly run: RunStep;
}

export interface Built {
  readonly detectOutput: string;
  /** Shell lines by process type; a Procfile's win over them. */
  readonly processTypes: Readonly<Record<string, string>>;
  /** Folders that come first in the PATH of the app's processes. */
  readonly path: readonly string[];
}

export interface Buildpack {
  readonly name: string;
  detect(files: AppFiles): Promise<boolean>;
  /** Throws a StagingError that says what the user can do. */
  build(context: BuildContext): Promise<Built>;
}
