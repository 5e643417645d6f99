/** Diego's cells, which know what an actual LRP doesn't: the isolation segment. */
import { MeshError } from "../../lib/errors.js";
import type { Logger } from "../../lib/logger.js";
import type { BbsClient } from "./bbs-client.js";

/**
 * The isolation segments of cells. A desired LRP is placed by its placement tag, which is its isolation segment, and a cell
 * with a tag takes nothing else: so where an instance runs says which segment it is in.
 */
export class Cells {
  readonly #logger: Logger;
  /** By cell id, those included that no list had: they were asked for. */
  readonly #segments = new Map<string, string>();
  #isRefused = false;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** "" for cells of no segment, and for unknown ones. */
  isolationSegmentOf(cellId: string): string {
    return this.#segments.get(cellId) ?? "";
  }

  /** Reads all cells if one of these is not known. Returns and throws as `read`. */
  async learn(cellIds: Iterable<string>, client: BbsClient, signal: AbortSignal): Promise<boolean> {
    const unknown = [...cellIds].filter((id) => id !== "" && !this.#segments.has(id));
    if (unknown.length === 0) return false;
    const hasMoved = await this.read(client, signal);
    for (const id of unknown) if (!this.#segments.has(id)) this.#segments.set(id, "");
    return hasMoved;
  }

  /**
   * Reads all cells. Those that the list lacks keep their segment: instances that a dead cell left behind are in it still.
   *
   * Returns whether a cell is in another segment than was known.
   * Throws  MESH_SOURCE_UNREACHABLE. What a BBS refuses or garbles is logged once; segments stay as they are known then.
   */
  async read(client: BbsClient, signal: AbortSignal): Promise<boolean> {
    let hasMoved = false;
    try {
      for (const { cellId, placementTags } of await client.cells(signal)) {
        const segment = placementTags[0] ?? "";
        hasMoved ||= segment !== this.isolationSegmentOf(cellId);
        this.#segments.set(cellId, segment);
      }
      this.#isRefused = false;
    } catch (thrown) {
      if (!(thrown instanceof MeshError) || thrown.code === "MESH_SOURCE_UNREACHABLE") throw thrown;
      if (!this.#isRefused) {
        this.#logger.warn(
          { code: thrown.code },
          `instances are taken to be in no isolation segment: ${thrown.message}`,
        );
      }
      this.#isRefused = true;
    }
    return hasMoved;
  }
}
