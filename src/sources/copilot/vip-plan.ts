/** Who gets which virtual address when a whole picture is told at once. Pure. */
import type { Picture, ToldRoute } from "./picture.js";
import { chooseVip, type VipRange } from "./vips.js";

export interface VipPlan {
  /** By route guid; routes without one are left out. */
  readonly vips: ReadonlyMap<string, string>;
  /** Guids of routes for which the client named an address that another route of the picture has. */
  readonly displaced: readonly string[];
}

/**
 * Addresses that the client names come first, then those that routes have already; who has none yet gets one that is
 * free, in the order of the guids: so all of it is the same whatever the order in which routes are told.
 *
 * Returns  undefined when the range has no address left for an internal route.
 */
export function planVips(told: Iterable<ToldRoute>, before: Picture, range: VipRange): VipPlan | undefined {
  const routes = [...told];
  const vips = new Map<string, string>();
  const taken = new Set<string>();
  const displaced: string[] = [];
  const give = (guid: string, vip: string): boolean => {
    if (taken.has(vip)) return false;
    taken.add(vip);
    vips.set(guid, vip);
    return true;
  };
  for (const { guid, vip } of routes) if (vip !== "" && !give(guid, vip)) displaced.push(guid);
  const without = routes.filter(({ guid }) => {
    const vip = before.routes.get(guid)?.vip ?? "";
    return !vips.has(guid) && (vip === "" || !give(guid, vip));
  });
  const needy = without.filter(({ internal }) => internal).map(({ guid }) => guid);
  for (const guid of needy.sort()) {
    const vip = chooseVip(range, guid, (one) => taken.has(one));
    if (vip === undefined) return undefined;
    give(guid, vip);
  }
  return { vips, displaced };
}
