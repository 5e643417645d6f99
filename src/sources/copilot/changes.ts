/** What has to be written so that the log holds another picture, and in which order. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { encodeAssociation, encodeRoute } from "../../entries/entries.js";
import { KEY_SPACES } from "../../entries/keys.js";
import type { Want } from "../../log/key-space-writer.js";
import type { Told } from "./bulk.js";
import { type MappedRoute, NO_WEIGHTS, Picture, untold } from "./picture.js";

/** After so many routes, other calls get their turn. */
const ROUTES_PER_TURN = 5_000;

/** What a BulkSync told, with the addresses of its routes by their guids. */
export async function pictureOf(told: Told, vips: ReadonlyMap<string, string>): Promise<Picture> {
  const picture = new Picture();
  for (const { guid, host, path, internal } of told.routes.values()) {
    const weights = told.weights.get(guid) ?? NO_WEIGHTS;
    picture.putRoute({ guid, host, path, internal, vip: vips.get(guid) ?? "", weights });
    if (picture.routes.size % ROUTES_PER_TURN === 0) await nextTurn();
  }
  for (const [guid, weights] of told.weights) if (!told.routes.has(guid)) picture.putRoute(untold(guid, weights));
  for (const [guid, lrpProcessGuids] of told.associations) picture.putAssociation(guid, lrpProcessGuids);
  return picture;
}

/** New routes, then those that gain, then those that lose something (another one may have it by then), then those that go. */
export function* routeChanges(before: Picture, next: Picture): Generator<Want> {
  const gaining: MappedRoute[] = [];
  const losing: MappedRoute[] = [];
  for (const route of next.routes.values()) {
    const old = before.routes.get(route.guid) ?? untold(route.guid);
    if (isEqual(old, route)) continue;
    if (old.host === "") yield routeWant(route.guid, route);
    else (loses(old, route) ? losing : gaining).push(route);
  }
  for (const route of gaining) yield routeWant(route.guid, route);
  for (const route of losing) yield routeWant(route.guid, route);
  for (const guid of before.routes.keys()) if (!next.routes.has(guid)) yield routeWant(guid, undefined);
}

/** New and changed ones. */
export function* associationPuts(before: Picture, next: Picture): Generator<Want> {
  for (const [processGuid, lrpProcessGuids] of next.associations) {
    const old = before.associations.get(processGuid);
    const isSame =
      old?.length === lrpProcessGuids.length && old.every((guid, index) => guid === lrpProcessGuids[index]);
    if (!isSame) yield associationWant(processGuid, lrpProcessGuids);
  }
}

export function* associationDeletes(before: Picture, next: Picture): Generator<Want> {
  for (const processGuid of before.associations.keys()) {
    if (!next.associations.has(processGuid)) yield associationWant(processGuid, undefined);
  }
}

/** undefined wants it gone. */
export function routeWant(guid: string, route: MappedRoute | undefined): Want {
  return { key: `${KEY_SPACES.copilotRoutes}${guid}`, value: route && encode(route) };
}

/** undefined wants it gone. */
export function associationWant(processGuid: string, lrpProcessGuids: readonly string[] | undefined): Want {
  return {
    key: `${KEY_SPACES.copilotAssociations}${processGuid}`,
    value: lrpProcessGuids && encodeAssociation({ processGuid, lrpProcessGuids: [...lrpProcessGuids] }),
  };
}

/** Equal routes give equal bytes, whatever the order in which they were mapped. */
function encode({ guid, host, path, internal, vip, weights }: MappedRoute): Uint8Array {
  const destinations = [...weights.keys()]
    .sort()
    .map((processGuid) => ({ processGuid, weight: weights.get(processGuid) ?? 0, protocol: "http1" }));
  return encodeRoute({ guid, host, path, internal, vip, protocol: "http", destinations });
}

function isEqual(a: MappedRoute, b: MappedRoute): boolean {
  const isSame = a.host === b.host && a.path === b.path && a.internal === b.internal && a.vip === b.vip;
  if (!isSame || a.weights.size !== b.weights.size) return false;
  for (const [processGuid, weight] of a.weights) if (b.weights.get(processGuid) !== weight) return false;
  return true;
}

function loses(old: MappedRoute, route: MappedRoute): boolean {
  if (old.host !== route.host || old.path !== route.path || old.internal !== route.internal) return true;
  for (const processGuid of old.weights.keys()) if (!route.weights.has(processGuid)) return true;
  return false;
}
