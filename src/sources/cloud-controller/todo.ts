/** Guids that wait for something to be done about them, each once. */
export class Todo {
  readonly #guids = new Set<string>();

  add(guids: Iterable<string>): void {
    for (const guid of guids) this.#guids.add(guid);
  }

  /** Works off all of them in batches. Those of a batch that fails wait on; ones that come meanwhile are done too. */
  async work(batchSize: number, work: (guids: readonly string[]) => Promise<void>): Promise<void> {
    while (this.#guids.size > 0) {
      const batch: string[] = [];
      for (const guid of this.#guids) {
        batch.push(guid);
        this.#guids.delete(guid);
        if (batch.length === batchSize) break;
      }
      try {
        await work(batch);
      } catch (error) {
        this.add(batch);
        throw error;
      }
    }
  }
}
