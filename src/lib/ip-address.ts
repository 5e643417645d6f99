import { isIP, isIPv6 } from "node:net";

/** IPv4 or IPv6, and no name that would have to be looked up. */
export function isIpAddress(text: string): boolean {
  return isIP(text) !== 0;
}

/** "10.0.0.1:8080", "[fd00::1]:8080": as Envoy writes it. */
export function socketText(address: string, port: number): string {
  return isIPv6(address) ? `[${address}]:${port}` : `${address}:${port}`;
}
