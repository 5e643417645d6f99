import type { Destination } from "../entries/entries.js";
import { distinct, type Endpoint } from "./endpoints.js";

export const UPSTREAM_PROTOCOLS = ["http1", "http2"] as const;
export type UpstreamProtocol = (typeof UPSTREAM_PROTOCOLS)[number];

/** Endpoints that get one part of a place's requests between them; each of them takes as many as the others. */
export interface Share {
  /** Unique among the shares of its protocol. */
  readonly name: string;
  readonly protocol: UpstreamProtocol;
  /** Relative to the other shares of the place that have an endpoint, whatever their protocol. */
  readonly weight: number;
  /** Empty when nothing runs. No address and port is in two shares of a protocol. */
  readonly endpoints: readonly Endpoint[];
}

/** A share of an app alone. */
export interface AppShare extends Share {
  readonly appGuid: string;
}

/** A destination of a route with what runs of it. */
export interface Member {
  readonly destination: Destination;
  readonly endpoints: readonly Endpoint[];
}

/**
 * The shares of a route: one for each weighted destination; without weights as in equalShares. Beside weighted ones a
 * destination without a weight gets nothing: no share of Envoy's has the weight 0.
 */
export function routeShares(members: readonly Member[]): readonly Share[] {
  const weighted = members.filter(({ destination }) => destination.weight > 0);
  const parts = (weighted.length > 0 ? weighted : members).map(({ destination, endpoints }) => ({
    protocol: protocolOf(destination),
    destination,
    endpoints,
  }));
  if (weighted.length === 0) return equalShares(parts);
  return joined(
    parts.map(({ destination, ...part }) => ({ ...part, name: shareName(destination), weight: destination.weight })),
  );
}

/**
 * The shares of a route whose apps are told apart: one for each app, type of process and port. Without weights every
 * endpoint has an equal part; beside weighted ones a destination without a weight gets what is sent to it by name.
 */
export function appShares(members: readonly Member[]): readonly AppShare[] {
  const isWeighted = members.some(({ destination }) => destination.weight > 0);
  const apps = [...new Set(members.map(({ destination }) => destination.appGuid))];
  return apps.flatMap((appGuid) => {
    const parts = members.filter(({ destination }) => destination.appGuid === appGuid);
    const shares = joined(
      parts.map(({ destination, endpoints }) => ({
        protocol: protocolOf(destination),
        name: shareName(destination),
        weight: destination.weight,
        endpoints,
      })),
    );
    return shares.map((share) => ({ ...share, appGuid, weight: isWeighted ? share.weight : share.endpoints.length }));
  });
}

/** Every endpoint has an equal part, as on Gorouter: one share for each protocol. */
export function equalShares(parts: readonly Pick<Share, "protocol" | "endpoints">[]): readonly Share[] {
  const shares = joined(parts.map(({ protocol, endpoints }) => ({ name: "all", protocol, weight: 0, endpoints })));
  return shares.map((share) => ({ ...share, weight: share.endpoints.length }));
}

/** "http1" for all that is not "http2". */
export function protocolOf({ protocol }: { readonly protocol: string }): UpstreamProtocol {
  return protocol === "http2" ? "http2" : "http1";
}

/** The processes that a rolling deployment has of one type get one share between them. */
function shareName({ appGuid, processGuid, processType, port }: Destination): string {
  return processType === "" ? `${processGuid}:${port}` : `${appGuid}:${processType}:${port}`;
}

/** Shares of one name and protocol as one, with the weight of the first. */
function joined(shares: readonly Share[]): readonly Share[] {
  return UPSTREAM_PROTOCOLS.flatMap((protocol) => {
    const byName = new Map<string, { weight: number; endpoints: Endpoint[] }>();
    const taken = new Set<string>();
    for (const { name, weight, endpoints } of shares.filter((share) => share.protocol === protocol)) {
      const share = byName.get(name) ?? { weight, endpoints: [] };
      byName.set(name, share);
      share.endpoints.push(...distinct(endpoints, taken));
    }
    return [...byName].map(([name, share]) => ({ name, protocol, ...share }));
  });
}
