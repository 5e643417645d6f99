import { randomUUID } from "node:crypto";
import { Presence } from "../../gen/bbs/v1/bbs_pb.js";
import type { BbsRecords } from "./bbs-records.js";
import { cellFor, desiredLrp, type ProcessDescription, runningLrp, unclaimedLrp } from "./lrp.js";

/** A process whose instances are in the records only: nothing is started. */
export interface SyntheticProcess
  extends
    Pick<ProcessDescription, "lrpProcessGuid" | "appGuid" | "instances" | "routes">,
    Partial<Pick<ProcessDescription, "ports" | "metricTags" | "annotation" | "placementTags">> {
  /** Where every instance seems to be. Default: 127.0.0.1. */
  readonly address?: string;
  /** Its host port for each of `ports`. Default: 1, where nothing listens. */
  readonly hostPort?: number;
}

const DEFAULT_PORTS = [8_080];
const NOTHING_LISTENS = 1;

/** Adds or changes it; its instances run at once. */
export function putSynthetic(records: BbsRecords, synthetic: SyntheticProcess): void {
  const { address = "127.0.0.1", hostPort = NOTHING_LISTENS } = synthetic;
  const defaults = { ports: DEFAULT_PORTS, metricTags: {}, annotation: "", placementTags: [] };
  const description: ProcessDescription = { ...defaults, ...synthetic };
  const { lrpProcessGuid } = description;
  records.desire(desiredLrp(description));
  for (const lrp of records.actuals(lrpProcessGuid)) {
    if ((lrp.key?.index ?? 0) >= description.instances) records.change([{ before: lrp, after: undefined }]);
  }
  const ports = description.ports.map((containerPort) => ({ containerPort, hostPort }));
  for (let index = 0; index < description.instances; index++) {
    const before = records.actual({ processGuid: lrpProcessGuid, index, presence: Presence.ORDINARY });
    if (before !== undefined) continue;
    const location = { guid: randomUUID(), cell: cellFor(index), address, ports };
    const after = runningLrp(unclaimedLrp(lrpProcessGuid, index), description, location);
    records.change([{ before: undefined, after }]);
  }
}

/** Whatever the records have of a process goes: first what is desired, then each instance. */
export function removeSynthetic(records: BbsRecords, lrpProcessGuid: string): void {
  records.removeDesired(lrpProcessGuid);
  for (const before of records.actuals(lrpProcessGuid)) records.change([{ before, after: undefined }]);
}
