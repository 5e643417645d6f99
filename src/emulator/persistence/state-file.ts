import { open, readFile, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import type { z } from "zod";
import { MeshError, systemCode } from "../../lib/errors.js";

/** A JSON file that only its owner may read, and that is whole at any time: written beside, synced, then renamed. */
export class StateFile<Schema extends z.ZodType> {
  readonly path: string;
  readonly #schema: Schema;
  #written: string | undefined;

  constructor(path: string, schema: Schema) {
    this.path = path;
    this.#schema = schema;
  }

  /** undefined when there is no file. Throws MESH_STATE_CORRUPT when it holds anything but what the schema says. */
  async read(): Promise<z.output<Schema> | undefined> {
    const text = await readFile(this.path, "utf8").catch((error: unknown) => {
      if (systemCode(error) === "ENOENT") return undefined;
      throw error;
    });
    if (text === undefined) return undefined;
    const parsed = this.#schema.safeParse(parseJson(text, this.path));
    if (parsed.success) return parsed.data;
    const { path = [], message = "" } = parsed.error.issues[0] ?? {};
    throw corrupt(this.path, `${path.length === 0 ? "top level" : path.join(".")}: ${message}`);
  }

  /** Resolves when it is on the disk. What is there already is not written again. */
  async write(state: z.input<Schema>): Promise<void> {
    const text = JSON.stringify(state);
    if (text === this.#written) return;
    const temporary = `${this.path}.new`;
    await rm(temporary, { force: true });
    const file = await open(temporary, "wx", 0o600);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, this.path);
    const directory = await open(dirname(this.path), "r");
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
    this.#written = text;
  }
}

function parseJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The parser's own message quotes the text, which may be a secret.
    throw corrupt(path, "it is no JSON");
  }
}

function corrupt(path: string, problem: string): MeshError {
  return new MeshError(
    "MESH_STATE_CORRUPT",
    `the foundation's state in ${path} can't be used: ${problem}; nothing was started, and the file is as it was`,
    "put back a copy of the file, or start with --fresh, which begins with an empty foundation",
  );
}
