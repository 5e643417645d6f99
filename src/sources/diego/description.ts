/** An actual LRP of the BBS in the mesh's own words, and small: a foundation may have 250,000. */
import { type Instance, InstanceState } from "../../entries/entries.js";
import { type ActualLRPNetInfo, PreferredAddress, Presence } from "../../gen/bbs/v1/bbs_pb.js";
import type { Sighting } from "./bbs-events.js";

/** The domain of Cloud Controller's apps. */
export const APPS_DOMAIN = "cf-apps";

/** Cloud Controller's process guid, as long as a UUID and fit for a key, then a dash and the version. */
const LRP_PROCESS_GUID = /^[\w-]{36}-./;
export const PROCESS_GUID_LENGTH = 36;
const SSH_PORT = 2222;

/** The isolation segment of a cell; "" for none. */
export type SegmentOf = (cellId: string) => string;

/** The BBS's modification tag. */
export interface Tag {
  readonly epoch: string;
  readonly index: number;
}

interface ServedPort {
  readonly containerPort: number;
  readonly hostPort: number;
  readonly containerTlsPort: number;
  readonly hostTlsPort: number;
}

/** How an instance is reached. */
export interface Served {
  readonly address: string;
  readonly instanceAddress: string;
  /** At least one. */
  readonly ports: readonly ServedPort[];
  readonly availabilityZone: string;
  readonly cellId: string;
  /** "" for none. */
  readonly isolationSegment: string;
  readonly state: InstanceState;
  readonly sinceNs: bigint;
}

export interface Description extends Tag {
  /** "" while it has no instance. */
  readonly guid: string;
  readonly processGuid: string;
  readonly version: string;
  /** "" where it was not said. */
  readonly appGuid: string;
  readonly lrpIndex: number;
  /** undefined: it takes no requests. */
  readonly served: Served | undefined;
}

/** Whether a process guid of Diego's has the form that Cloud Controller gives to its own. */
export function isLrpProcessGuid(guid: string): boolean {
  return LRP_PROCESS_GUID.test(guid);
}

/**
 * Reads an actual LRP.
 *
 * RUNNING ones take requests, also while they are evacuated or suspect, unless marked unroutable. Port 2222 (ssh) is left
 * out, and an instance without any other port, such as a worker's, is reached by nobody. With preferred address INSTANCE,
 * routers dial the container side.
 *
 * Returns  undefined for what is none of an app's: another domain, or a process guid without Cloud Controller's form.
 */
export function describe(sighting: Sighting, segmentOf: SegmentOf): Description | undefined {
  const { key, instanceKey, metricTags, modificationTag } = sighting;
  if (key?.domain !== APPS_DOMAIN || !isLrpProcessGuid(key.processGuid) || key.index < 0) return undefined;
  return {
    guid: instanceKey?.instanceGuid ?? "",
    processGuid: key.processGuid.slice(0, PROCESS_GUID_LENGTH),
    version: key.processGuid.slice(PROCESS_GUID_LENGTH + 1),
    appGuid: metricTags["app_id"] ?? metricTags["source_id"] ?? "",
    lrpIndex: key.index,
    epoch: modificationTag?.epoch ?? "",
    index: modificationTag?.index ?? 0,
    served: servedOf(sighting, segmentOf),
  };
}

function servedOf(sighting: Sighting, segmentOf: SegmentOf): Served | undefined {
  const { availabilityZone, instanceKey, netInfo, presence, routable, since, state } = sighting;
  if (state !== "RUNNING" || routable === false || netInfo === undefined) return undefined;
  const ports = portsOf(netInfo);
  if (ports.length === 0) return undefined;
  const { address, instanceAddress } = netInfo;
  const { cellId = "" } = instanceKey ?? {};
  return {
    address: isContainerDialed(netInfo) ? instanceAddress : address,
    instanceAddress,
    ports,
    availabilityZone,
    cellId,
    isolationSegment: segmentOf(cellId),
    state: stateOf(presence),
    sinceNs: since,
  };
}

function stateOf(presence: Presence): InstanceState {
  if (presence === Presence.EVACUATING) return InstanceState.EVACUATING;
  return presence === Presence.SUSPECT ? InstanceState.SUSPECT : InstanceState.RUNNING;
}

function portsOf(netInfo: ActualLRPNetInfo): readonly ServedPort[] {
  const ports = netInfo.ports.map(({ containerPort, hostPort, containerTlsProxyPort, hostTlsProxyPort }) => ({
    containerPort,
    hostPort: isContainerDialed(netInfo) ? containerPort : hostPort,
    containerTlsPort: containerTlsProxyPort,
    hostTlsPort: isContainerDialed(netInfo) ? containerTlsProxyPort : hostTlsProxyPort,
  }));
  const dialed = ports.filter(
    ({ containerPort, hostPort, hostTlsPort }) => containerPort !== SSH_PORT && (hostPort !== 0 || hostTlsPort !== 0),
  );
  // What filter returns has room for 17; a copy has room for what it holds.
  return [...dialed];
}

function isContainerDialed({ preferredAddress }: ActualLRPNetInfo): boolean {
  return preferredAddress === PreferredAddress.INSTANCE;
}

export function isSameServing(a: Served | undefined, b: Served | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return (
    a.address === b.address &&
    a.instanceAddress === b.instanceAddress &&
    a.availabilityZone === b.availabilityZone &&
    a.cellId === b.cellId &&
    a.isolationSegment === b.isolationSegment &&
    a.state === b.state &&
    a.sinceNs === b.sinceNs &&
    a.ports.length === b.ports.length &&
    a.ports.every((port, position) => isSamePort(port, b.ports[position]))
  );
}

function isSamePort(a: ServedPort, b: ServedPort | undefined): boolean {
  return (
    a.containerPort === b?.containerPort &&
    a.hostPort === b.hostPort &&
    a.containerTlsPort === b.containerTlsPort &&
    a.hostTlsPort === b.hostTlsPort
  );
}

/** As the mesh log has it. With a TLS proxy before it, its certificate is made out to its guid. */
export function toInstance(
  { guid, lrpIndex, version }: Pick<Description, "guid" | "lrpIndex" | "version">,
  served: Served,
) {
  const hasTls = served.ports.some(({ containerTlsPort, hostTlsPort }) => containerTlsPort !== 0 || hostTlsPort !== 0);
  return { guid, index: lrpIndex, version, ...served, ports: [...served.ports], certSan: hasTls ? guid : "" };
}

/** How an instance was reached that the mesh log holds. */
export function servedBy({
  address,
  availabilityZone,
  cellId,
  instanceAddress,
  isolationSegment,
  ports,
  sinceNs,
  state,
}: Instance): Served {
  return { address, instanceAddress, ports, availabilityZone, cellId, isolationSegment, state, sinceNs };
}
