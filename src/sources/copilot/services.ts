/** The two services of copilot: what each call checks, does and answers. */
import type { Server } from "@grpc/grpc-js";
import { CloudControllerCopilot } from "../../gen/copilot/cloud_controller_pb.js";
import { VIPResolverCopilot } from "../../gen/copilot/vip_resolver_pb.js";
import type { Logger } from "../../lib/logger.js";
import { decodeBulk } from "./bulk.js";
import {
  checkedAssociation,
  checkedMapping,
  checkedProcessGuid,
  checkedRoute,
  checkedRouteGuid,
  checkedUnmapping,
} from "./edge.js";
import { bulkTooLarge, unknownName } from "./faults.js";
import { serveClientStream, serveReflection, serveUnary } from "./grpc.js";
import type { CopilotStore } from "./store.js";

export interface ServiceOptions {
  readonly store: CopilotStore;
  /** Bytes of all BulkSync calls under way, together. */
  readonly maxBulkBytes: number;
  /** Hears of a BulkSync that is durable. */
  readonly onBulk: () => void;
  readonly logger: Logger;
}

/** What a chunk takes in memory at least: beside its bytes there is an object for each. */
const MIN_CHUNK_COST_BYTES = 256;

/** CloudControllerCopilot: clients push routes, mappings and associations. */
export function serveCloudController(server: Server, { store, maxBulkBytes, onBulk, logger }: ServiceOptions): void {
  const { method } = CloudControllerCopilot;
  const room = { bytes: maxBulkBytes };

  serveUnary(server, method.health, logger, () => ({ healthy: true }));
  serveUnary(server, method.listCfRoutes, logger, () => {
    const routes: Record<string, string> = {};
    for (const { guid, host } of store.picture.routes.values()) if (host !== "") routes[guid] = host;
    return { routes };
  });
  serveUnary(server, method.listCfRouteMappings, logger, () => {
    const routeMappings: Record<string, { routeGuid: string; capiProcessGuid: string; routeWeight: number }> = {};
    for (const { guid: routeGuid, weights } of store.picture.routes.values()) {
      for (const [capiProcessGuid, routeWeight] of weights) {
        routeMappings[`${routeGuid}-${capiProcessGuid}`] = { routeGuid, capiProcessGuid, routeWeight };
      }
    }
    return { routeMappings };
  });
  serveUnary(server, method.listCapiDiegoProcessAssociations, logger, () => {
    const capiDiegoProcessAssociations: Record<string, { diegoProcessGuids: string[] }> = {};
    for (const [processGuid, lrpProcessGuids] of store.picture.associations) {
      capiDiegoProcessAssociations[processGuid] = { diegoProcessGuids: [...lrpProcessGuids] };
    }
    return { capiDiegoProcessAssociations };
  });

  serveUnary(server, method.upsertRoute, logger, async ({ route }) => {
    await store.upsertRoute(checkedRoute(route));
    return {};
  });
  serveUnary(server, method.deleteRoute, logger, async ({ guid }) => {
    await store.deleteRoute(checkedRouteGuid(guid));
    return {};
  });
  serveUnary(server, method.mapRoute, logger, async ({ routeMapping }) => {
    await store.map(checkedMapping(routeMapping));
    return {};
  });
  serveUnary(server, method.unmapRoute, logger, async ({ routeMapping }) => {
    await store.unmap(checkedUnmapping(routeMapping));
    return {};
  });
  serveUnary(
    server,
    method.upsertCapiDiegoProcessAssociation,
    logger,
    async ({ capiDiegoProcessAssociation: association }) => {
      await store.associate(checkedAssociation(association));
      return {};
    },
  );
  serveUnary(server, method.deleteCapiDiegoProcessAssociation, logger, async ({ capiProcessGuid }) => {
    await store.dissociate(checkedProcessGuid(capiProcessGuid));
    return {};
  });

  serveClientStream(server, method.bulkSync, logger, async (chunks) => {
    const startedMs = performance.now();
    const pieces: Uint8Array[] = [];
    let totalBytesReceived = 0;
    let takenBytes = 0;
    try {
      for await (const { chunk } of chunks) {
        if (chunk.length === 0) continue;
        totalBytesReceived += chunk.length;
        const cost = Math.max(chunk.length, MIN_CHUNK_COST_BYTES);
        takenBytes += cost;
        room.bytes -= cost;
        if (room.bytes < 0) throw bulkTooLarge(maxBulkBytes);
        pieces.push(chunk);
      }
      const told = await decodeBulk(Buffer.concat(pieces.splice(0)));
      const { routes, associations, displaced } = await store.replaceAll(told);
      onBulk();
      const durationMs = Math.round(performance.now() - startedMs);
      logger.info({ routes, associations, bytes: totalBytesReceived, durationMs }, "BulkSync is in the log");
      if (displaced.length > 0) {
        logger.warn(
          { count: displaced.length, routes: displaced.slice(0, 5) },
          "BulkSync names one vip for several routes: the first has it, the others keep or get another",
        );
      }
      if (told.leftOut.count > 0)
        logger.warn(told.leftOut, "items of BulkSync can't be used: they were left out alone");
    } finally {
      room.bytes += takenBytes;
    }
    return { totalBytesReceived };
  });
  serveReflection(server, CloudControllerCopilot);
}

/** VIPResolverCopilot: DNS asks for the address of a host. */
export function serveVipResolver(server: Server, { store, logger }: Pick<ServiceOptions, "store" | "logger">): void {
  const { method } = VIPResolverCopilot;
  serveUnary(server, method.health, logger, () => ({ healthy: true }));
  serveUnary(server, method.getVIPByName, logger, ({ fqdn }) => {
    // Names of DNS are the same in any case; copilot knew the lower one alone.
    const ip = store.picture.vipOf(fqdn.replace(/\.+$/, "").toLowerCase());
    if (ip === undefined) throw unknownName(fqdn);
    return { ip };
  });
  serveReflection(server, VIPResolverCopilot);
}
