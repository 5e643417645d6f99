/** Servers that stand in for each other: it stays with one for as long as that answers. */
import { MeshError } from "../lib/errors.js";

export class Servers {
  readonly #urls: readonly string[];
  #current = 0;

  /** At least one URL. */
  constructor(urls: readonly string[]) {
    if (urls.length === 0) throw new Error("no server to ask");
    this.#urls = urls.map((url) => (url.endsWith("/") ? url.slice(0, -1) : url));
  }

  /**
   * Asks the server that answered last, and, where that fails, each of the others once. A refusal is an answer: another
   * server would refuse too.
   *
   * Throws  what the last one threw.
   */
  async call<T>(ask: (url: string) => Promise<T>, signal: AbortSignal): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      const place = this.#current;
      try {
        return await ask(this.#urls[place] ?? "");
      } catch (error) {
        if (signal.aborted || !isFailure(error)) throw error;
        // Of several that failed at once with one server, the first moves on.
        if (this.#current === place) this.#current = (place + 1) % this.#urls.length;
        if (attempt >= this.#urls.length) throw error;
      }
    }
  }
}

function isFailure(error: unknown): boolean {
  return (
    error instanceof MeshError && (error.code === "MESH_SOURCE_UNREACHABLE" || error.code === "MESH_SOURCE_MALFORMED")
  );
}
