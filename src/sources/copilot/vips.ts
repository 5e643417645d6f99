/** Virtual addresses of internal routes: which one a route gets. Pure. */
import { hash } from "node:crypto";

/** Addresses as numbers of 32 bits. */
export interface VipRange {
  readonly cidr: string;
  readonly first: number;
  readonly count: number;
}

/** The addresses of an IPv4 network ("127.128.0.0/9") that a route can have: all but the network's own and its broadcast. */
export function vipRange(cidr: string): VipRange {
  const [address = "", length = ""] = cidr.split("/");
  const size = 2 ** (32 - Number(length));
  const network = Math.floor(numberOf(address) / size) * size;
  return size <= 2 ? { cidr, first: network, count: size } : { cidr, first: network + 1, count: size - 2 };
}

/**
 * The first free address after the one that the route's guid hashes to: the same one whatever the order in which routes
 * come, as long as no other route of the same hash was there before.
 *
 * Returns  undefined when every address is taken.
 */
export function chooseVip(range: VipRange, routeGuid: string, isTaken: (vip: string) => boolean): string | undefined {
  const start = parseInt(hash("sha256", routeGuid, "hex").slice(0, 12), 16) % range.count;
  for (let step = 0; step < range.count; step += 1) {
    const vip = textOf(range.first + ((start + step) % range.count));
    if (!isTaken(vip)) return vip;
  }
  return undefined;
}

function numberOf(address: string): number {
  return address.split(".").reduce((sum, byte) => sum * 256 + Number(byte), 0);
}

function textOf(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 0xff).join(".");
}
