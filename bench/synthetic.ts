/** Entries of a foundation that does not exist, as the sources would write them. */
import { randomUUID } from "node:crypto";
import { encodeProcess, encodeRoute } from "../src/entries/entries.js";
import { KEY_SPACES } from "../src/entries/keys.js";
import type { Write } from "../src/log/log.js";

const CONTAINER_PORT = 8_080;

export const hostAt = (index: number): string => `app-${index}.apps.example.com`;

/** What identifies a route or a process over its changes. */
export interface RouteIdentity {
  readonly guid: string;
  readonly host: string;
}

export interface Share {
  readonly processGuid: string;
  /** 0 for a route without weights. */
  readonly weight: number;
}

export function routeWrite({ guid, host }: RouteIdentity, shares: readonly Share[]): Write {
  return {
    key: KEY_SPACES.cloudControllerRoutes + guid,
    value: encodeRoute({
      guid,
      host,
      protocol: "http",
      destinations: shares.map(({ processGuid, weight }) => ({
        processGuid,
        // The web process of an app has the app's guid.
        appGuid: processGuid,
        appName: host.slice(0, host.indexOf(".")),
        weight,
        port: CONTAINER_PORT,
        protocol: "http1",
      })),
      sourceRevision: "2026-01-01T00:00:00Z",
      labels: { organizationName: "org-1", spaceName: "space-1" },
    }),
  };
}

/** As long as Diego's are. */
export const instanceGuid = (processGuid: string, index: number): string =>
  `${processGuid.slice(0, -4)}${String(index).padStart(4, "0")}`;

/** A process with an instance at each of these ports of this machine. */
export function processWrite(processGuid: string, ports: readonly number[]): Write {
  return {
    key: KEY_SPACES.diegoProcesses + processGuid,
    value: encodeProcess({
      processGuid,
      appGuid: processGuid,
      instances: ports.map((port, index) => ({
        guid: instanceGuid(processGuid, index),
        index,
        version: "7e61b3a4-58f1-4b1c-9d6b-0a3f5c2d1e00",
        address: "127.0.0.1",
        instanceAddress: "10.255.0.1",
        availabilityZone: "z1",
        cellId: "cell-1",
        ports: [{ containerPort: CONTAINER_PORT, hostPort: port }],
      })),
    }),
  };
}

/** A route to a process of its own, which has one instance: of all ways to fill a table, the one that costs most. */
export function appWrites(host: string, port: number): readonly Write[] {
  const processGuid = randomUUID();
  return [processWrite(processGuid, [port]), routeWrite({ guid: randomUUID(), host }, [{ processGuid, weight: 0 }])];
}
