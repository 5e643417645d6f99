import type { ActualLRP, DesiredLRP } from "../../gen/bbs/v1/bbs_pb.js";

/** What Diego desires and runs, for the other parts of the foundation that follow it: without the BBS's network. */
export interface LrpFeed {
  /** Of all processes that are desired or actual. */
  processGuids(): readonly string[];
  desired(processGuid: string): DesiredLRP | undefined;
  actuals(processGuid: string): readonly ActualLRP[];
  /** Calls `onChange` after each change of a process, with its guid, until the returned function is called. */
  follow(onChange: (processGuid: string) => void): () => void;
}
