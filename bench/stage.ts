/** What all parts of a run share: programs, a directory, a filled log, and the hosts that nobody asked for yet. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openEmbeddedLog } from "../src/log/embedded.js";
import type { MeshLog, Write } from "../src/log/log.js";
import { type Child, Children } from "./child.js";
import { type RouterProcess, startRouterProcess } from "./router-process.js";
import { appWrites, hostAt } from "./synthetic.js";

/** The ports of the two apps, which answer "1" and "2". */
export interface Apps {
  readonly ports: readonly [number, number];
}

/** As the key space writers do. */
export const BATCH_WRITES = 900;
/** Batches that wait for the disk together. */
const BATCHES_AT_ONCE = 10;

/** Programs and a directory that are gone when it is closed. */
export class Workshop {
  readonly children = new Children();
  readonly directory: string;
  readonly apps: Apps;
  readonly #backend: Child;

  private constructor(directory: string, children: Children, backend: Child, apps: Apps) {
    this.directory = directory;
    this.children = children;
    this.#backend = backend;
    this.apps = apps;
  }
}
