import { isIP } from "node:net";

/** IPv4 or IPv6, and no name that would have to be looked up. */
export function isIpAddress(text: string): boolean {
  return isIP(text) !== 0;
}
