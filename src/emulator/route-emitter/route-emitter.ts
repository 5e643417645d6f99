/**
 * The emulated route-emitter and route-registrar: routes of running instances over NATS and to the routing API, and those
 * of the platform's own parts.
 */
import { setImmediate } from "node:timers/promises";
import type { Logger } from "../../lib/logger.js";
import type { LrpFeed } from "../diego/lrp-feed.js";
import type { TcpRoutes } from "../routing-api/tcp-routes.js";
import { NatsLink, type NatsOptions } from "./nats-link.js";
import type { Registration, Registry } from "./registrations.js";
import { Rhythm } from "./rhythm.js";
import { REGISTRATION_INTERVAL_MS, systemRegistrations, type SystemRoutes } from "./route-registrar.js";
import { type RouteChange, RouteTable } from "./route-table.js";

export interface RouteEmitterOptions {
  /** Left out: TCP routes go to the routing API, and nothing goes over NATS. */
  readonly nats?: NatsOptions;
  /** Left out: the platform's own parts have no routes. */
  readonly systemRoutes?: SystemRoutes;
  /** Left out: there are no apps. */
  readonly lrps?: LrpFeed;
  readonly tcpRoutes: TcpRoutes;
  readonly logger: Logger;
}

/** What goes wrong with the foundation's registrations, on demand. */
export interface EmitterFaults {
  /** Publishes nothing, while the connection stays, until it is false again. */
  silence(isSilent: boolean): void;
  /** Sends each of the next `count` messages twice. */
  duplicateNext(count: number): void;
  /** Holds the next `count` messages back, then sends them in reverse; 0 sends at once what is held. */
  reverseNext(count: number): void;
  /** Ends the connection to NATS, until it is mended. */
  cut(): Promise<void>;
  mend(): void;
}

export interface RouteEmitter {
  /** undefined without NATS. */
  readonly faults: EmitterFaults | undefined;
  /** Unregisters everything, as cells do that are evacuated, and ends the connection. */
  close(): Promise<void>;
}

const TCP_REFRESH_INTERVAL_MS = 60_000;
/** Messages between two pauses: for a table of a hundred thousand, others get their turn. */
const BATCH = 1_000;

/** Does not wait for NATS: it is looked for until it is there. */
export function startRouteEmitter(options: RouteEmitterOptions): RouteEmitter {
  const { nats, systemRoutes, lrps, tcpRoutes, logger } = options;
  const system = systemRoutes === undefined ? [] : systemRegistrations(systemRoutes);
  let isClosed = false;

  const registerSystem = () => {
    for (const payload of system) link?.publish("router.register", payload);
  };
  const rhythms = (["router", "service-discovery"] as const).map((registry) => {
    const rhythm = new Rhythm(registry, () => {
      if (registry === "router") registerSystem();
      void emitAll(registry);
    });
    return { registry, rhythm };
  });
  const link =
    nats &&
    new NatsLink(nats, logger, (connection) => {
      // Nobody may have heard of what changed while there was no connection.
      registerSystem();
      for (const { registry, rhythm } of rhythms) {
        void emitAll(registry);
        rhythm.start(connection);
      }
    });
  const table =
    lrps &&
    new RouteTable(lrps, {
      onRegistrations({ added, removed }: RouteChange<Registration>) {
        for (const { registry, payload } of added) link?.publish(`${registry}.register`, payload);
        for (const { registry, payload } of removed) link?.publish(`${registry}.unregister`, payload);
      },
      onTcpMappings({ added, removed }) {
        tcpRoutes.upsert(added);
        tcpRoutes.remove(removed);
      },
    });

  async function emitAll(registry: Registry): Promise<void> {
    let count = 0;
    for (const processGuid of table?.processGuids() ?? []) {
      // Read when its turn comes: what was unregistered meanwhile must not come back.
      for (const registration of table?.registrationsOf(processGuid) ?? []) {
        if (registration.registry !== registry) continue;
        link?.publish(`${registry}.register`, registration.payload);
        count += 1;
      }
      if (count < BATCH) continue;
      count = 0;
      await setImmediate();
      if (isClosed) return;
    }
  }

  const timers = [
    setInterval(() => tcpRoutes.upsert(table?.tcpMappings() ?? []), TCP_REFRESH_INTERVAL_MS),
    setInterval(registerSystem, REGISTRATION_INTERVAL_MS),
  ];

  return {
    faults: link,
    async close() {
      isClosed = true;
      timers.forEach(clearInterval);
      for (const { rhythm } of rhythms) rhythm.stop();
      table?.close();
      for (const processGuid of table?.processGuids() ?? []) {
        for (const { registry, payload } of table?.registrationsOf(processGuid) ?? []) {
          link?.publish(`${registry}.unregister`, payload);
        }
      }
      for (const payload of system) link?.publish("router.unregister", payload);
      await link?.close();
    },
  };
}
