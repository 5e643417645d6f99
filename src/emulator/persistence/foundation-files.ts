import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { CONTROL_FILE, type ControlFile } from "../control/control-api.js";
import { type FoundationState, foundationStateSchema } from "./foundation-state.js";
import { type Secrets, secretsSchema } from "./secrets.js";
import { StateFile } from "./state-file.js";

/** A foundation's files in its data directory, each for its owner alone: state.json, secrets.json, control.json. */
export class FoundationFiles {
  /** As they were at the start; undefined when there was none. */
  readonly state: FoundationState | undefined;
  readonly secrets: Secrets | undefined;
  readonly #stateFile: StateFile<typeof foundationStateSchema>;
  readonly #secretsFile: StateFile<typeof secretsSchema>;
  readonly #controlFile: string;

  private constructor(
    directory: string,
    stateFile: StateFile<typeof foundationStateSchema>,
    secretsFile: StateFile<typeof secretsSchema>,
    found: { readonly state: FoundationState | undefined; readonly secrets: Secrets | undefined },
  ) {
    this.#stateFile = stateFile;
    this.#secretsFile = secretsFile;
    this.#controlFile = join(directory, CONTROL_FILE);
    this.state = found.state;
    this.secrets = found.secrets;
  }

  /** Makes the directory when it is missing. Throws MESH_STATE_CORRUPT. */
  static async open(directory: string): Promise<FoundationFiles> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const stateFile = new StateFile(join(directory, "state.json"), foundationStateSchema);
    const secretsFile = new StateFile(join(directory, "secrets.json"), secretsSchema);
    const found = { state: await stateFile.read(), secrets: await secretsFile.read() };
    return new FoundationFiles(directory, stateFile, secretsFile, found);
  }

  async save(state: FoundationState, secrets: Secrets): Promise<void> {
    await this.#stateFile.write(state);
    await this.#secretsFile.write(secrets);
  }

  async writeControl(control: ControlFile): Promise<void> {
    // An older one, of a foundation that was killed, may have other rights.
    await rm(this.#controlFile, { force: true });
    await writeFile(this.#controlFile, JSON.stringify(control), { mode: 0o600 });
  }

  async removeControl(): Promise<void> {
    await rm(this.#controlFile, { force: true });
  }
}
