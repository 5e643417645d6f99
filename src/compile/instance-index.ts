/** The instances of a route in one text, for the Lua that finds the address of an instance (instance-filters.ts). */
import { socketText } from "../lib/ip-address.js";
import type { EndpointIdentity } from "../model/endpoints.js";
import type { Pool } from "./compile-cluster.js";

/** Stands for what is not known. */
const UNKNOWN = "-";

/**
 * The endpoints of `pools`, one line each, below the line of their app and process:
 *
 *     @<app guid> <process guid>
 *     <index> <instance guid> <address>:<port>
 *
 * With several pools, each endpoint's address is followed by "|" and the name of its cluster. One text costs Envoy a
 * fifth of what the same costs as a structure, and subsets of a cluster several times that.
 */
export function instanceIndex(pools: readonly Pool[]): string {
  const lines: string[] = [];
  let owner = "";
  for (const { name, shares } of pools) {
    const suffix = pools.length > 1 ? `|${name}` : "";
    for (const { address, port, identity } of shares.flatMap(({ endpoints }) => endpoints)) {
      if (!isWritable(identity) || /\s/.test(suffix)) continue;
      const { appGuid, processGuid, instanceGuid, instanceIndex: index } = identity;
      const heading = `@${appGuid || UNKNOWN} ${processGuid || UNKNOWN}`;
      if (heading !== owner) lines.push(heading);
      owner = heading;
      lines.push(`${index || UNKNOWN} ${instanceGuid || UNKNOWN} ${socketText(address, port)}${suffix}`);
    }
  }
  return lines.map((line) => `${line}\n`).join("");
}

/** What is registered may hold anything; no guid holds a space, so nobody asks for such an endpoint by name. */
function isWritable(identity: EndpointIdentity): boolean {
  return Object.values(identity).every((word: string) => !/\s/.test(word));
}
