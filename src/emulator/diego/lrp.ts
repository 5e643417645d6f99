/** What stands in the records about a process and its instances. */
import { clone, create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type ActualLRP,
  type ActualLRPInstanceKey,
  ActualLRPInstanceKeySchema,
  type ActualLRPInternalRoute,
  ActualLRPInternalRouteSchema,
  ActualLRPNetInfoSchema,
  ActualLRPSchema,
  type DesiredLRPSchema,
  MetricTagValue_DynamicValue,
  type MetricTagValueSchema,
  type PortMappingSchema,
  PreferredAddress,
} from "../../gen/bbs/v1/bbs_pb.js";
import { DOMAIN } from "./bbs-records.js";
import type { DesiredProcess } from "./diego.js";

/** The parts of a desired process that others hear of. */
export type ProcessDescription = Pick<
  DesiredProcess,
  "lrpProcessGuid" | "appGuid" | "instances" | "ports" | "routes" | "metricTags" | "annotation" | "placementTags"
>;

export interface Cell {
  readonly id: string;
  readonly zone: string;
}

/** Where an instance runs, and at which addresses. */
export interface Location {
  readonly guid: string;
  readonly cell: Cell;
  readonly address: string;
  readonly ports: readonly MessageInitShape<typeof PortMappingSchema>[];
}

/** Instances of a process alternate between them, and an evacuation goes from one to the other. */
export const CELLS: readonly [Cell, Cell] = [
  { id: "cell-1", zone: "z1" },
  { id: "cell-2", zone: "z2" },
];

export function cellFor(index: number): Cell {
  return index % 2 === 0 ? CELLS[0] : CELLS[1];
}

export function otherCell(cell: Cell): Cell {
  return cell === CELLS[0] ? CELLS[1] : CELLS[0];
}

export function desiredLrp(
  description: ProcessDescription,
): MessageInitShape<typeof DesiredLRPSchema> & { processGuid: string } {
  const { lrpProcessGuid, appGuid, instances, ports, routes, annotation, placementTags } = description;
  const tags: [string, MessageInitShape<typeof MetricTagValueSchema>][] = [
    ...Object.entries(description.metricTags).map(([name, value]): [string, { static: string }] => [
      name,
      { static: value },
    ]),
    ["instance_id", { dynamic: MetricTagValue_DynamicValue.INDEX }],
    ["process_instance_id", { dynamic: MetricTagValue_DynamicValue.INSTANCE_GUID }],
  ];
  return {
    processGuid: lrpProcessGuid,
    instances,
    ports: [...ports],
    routes: {
      routes: Object.fromEntries(Object.entries(routes).map(([router, value]) => [router, jsonBytes(value)])),
    },
    logGuid: appGuid,
    metricsGuid: appGuid,
    annotation,
    placementTags: [...placementTags],
    metricTags: Object.fromEntries(tags),
  };
}

/** An instance that no cell has yet. */
export function unclaimedLrp(processGuid: string, index: number): ActualLRP {
  return create(ActualLRPSchema, {
    key: { processGuid, index, domain: DOMAIN },
    instanceKey: {},
    netInfo: {},
    state: "UNCLAIMED",
    since: nowNs(),
    routable: false,
  });
}

export function claimedLrp(before: ActualLRP, location: Pick<Location, "guid" | "cell">): ActualLRP {
  return changed(before, { instanceKey: keyOf(location), state: "CLAIMED", since: nowNs() });
}

export function runningLrp(before: ActualLRP, description: ProcessDescription, location: Location): ActualLRP {
  const { guid, cell, address, ports } = location;
  return changed(before, {
    instanceKey: keyOf(location),
    netInfo: create(ActualLRPNetInfoSchema, {
      address,
      instanceAddress: address,
      preferredAddress: PreferredAddress.HOST,
      ports: [...ports],
    }),
    state: "RUNNING",
    since: nowNs(),
    internalRoutes: internalRoutes(description),
    metricTags: {
      ...description.metricTags,
      instance_id: String(before.key?.index ?? 0),
      process_instance_id: guid,
    },
    routable: true,
    availabilityZone: cell.zone,
  });
}

/** After a crash, or before a new start: in no cell. */
export function homelessLrp(
  before: ActualLRP,
  state: "UNCLAIMED" | "CRASHED",
  crash: { readonly crashCount: number; readonly crashReason: string },
): ActualLRP {
  return changed(before, {
    state,
    instanceKey: create(ActualLRPInstanceKeySchema),
    netInfo: create(ActualLRPNetInfoSchema),
    since: nowNs(),
    ...crash,
  });
}

function changed(before: ActualLRP, changes: Partial<ActualLRP>): ActualLRP {
  return Object.assign(clone(ActualLRPSchema, before), changes);
}

function keyOf({ guid, cell }: Pick<Location, "guid" | "cell">): ActualLRPInstanceKey {
  return create(ActualLRPInstanceKeySchema, { instanceGuid: guid, cellId: cell.id });
}

/** Unix time in nanoseconds. */
export function nowNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n;
}

function internalRoutes({ routes }: ProcessDescription): ActualLRPInternalRoute[] {
  const entries: unknown = routes["internal-router"];
  if (!Array.isArray(entries)) return [];
  return entries.map(({ hostname = "" }: { hostname?: string }) => create(ActualLRPInternalRouteSchema, { hostname }));
}

function jsonBytes(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}
