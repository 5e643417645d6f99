import type { Role } from "../log/writer-lease.js";
import type { Source, SourceStatus } from "../sources/source.js";
import type { JobWriters } from "./open-log.js";

/** A running source, and the writer of its key space. */
export interface SourceJob {
  readonly name: string;
  readonly status: SourceStatus;
  /** leader: it writes. standby: it reads all the same, and takes over when the process that writes is gone. */
  readonly role: Role;
  stop(): Promise<void>;
}

/** The sources of a job, with the writers that they share. */
export interface SourceJobs {
  readonly jobs: readonly SourceJob[];
  /** Sources first; then the lease is given back. */
  stop(): Promise<void>;
}

/** Starts a source as the writer of a key space. */
export function startSource(source: Source, keySpace: string, writers: JobWriters): SourceJob {
  const ending = new AbortController();
  const running = source.run(writers.writer(keySpace), ending.signal);
  return {
    name: source.name,
    get status() {
      return source.status;
    },
    get role() {
      return writers.role;
    },
    async stop() {
      ending.abort();
      await running;
    },
  };
}
