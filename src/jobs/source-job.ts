import { openKeySpaceWriter } from "../log/key-space-writer.js";
import type { MeshLog } from "../log/log.js";
import type { Source, SourceStatus } from "../sources/source.js";

/** A running source, and the writer of its key space. */
export interface SourceJob {
  readonly name: string;
  readonly status: SourceStatus;
  stop(): Promise<void>;
}

/** Starts a source as the writer of a key space. */
export async function startSource(source: Source, keySpace: string, log: MeshLog): Promise<SourceJob> {
  const writer = await openKeySpaceWriter(log, keySpace);
  const ending = new AbortController();
  const running = source.run(writer, ending.signal);
  return {
    name: source.name,
    get status() {
      return source.status;
    },
    async stop() {
      ending.abort();
      await running;
    },
  };
}
