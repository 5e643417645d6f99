import type { RouteOptions } from "../entries/entries.js";

/** How a request finds its endpoint among those of its protocol. */
export type Balancing =
  | { readonly algorithm: "round-robin" }
  | { readonly algorithm: "least-connection" }
  | {
      readonly algorithm: "hash";
      /** The same value, the same endpoint; requests without the header go to any. */
      readonly header: string;
      /** An endpoint may be so many times as busy as the average before its requests go to the next, 1.1 to 10. */
      readonly balance: number | undefined;
    };

/** As Cloud Controller bounds it; a header with another name would have its whole cluster refused by Envoy. */
const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/;
const LEAST_BALANCE = 1.1;
const MOST_BALANCE = 10;

/** What a route may leave to the router. */
export type DefaultAlgorithm = "round-robin" | "least-connection";

/** `standard`: the router's own, where nothing usable was said. */
export function balancingOf(options: RouteOptions | undefined, standard: DefaultAlgorithm): Balancing {
  if (!options) return { algorithm: standard };
  const { loadbalancing, hashHeader, hashBalance } = options;
  if (loadbalancing === "round-robin" || loadbalancing === "least-connection") return { algorithm: loadbalancing };
  if (loadbalancing !== "hash" || !HEADER_NAME.test(hashHeader)) return { algorithm: standard };
  const balance = Number(hashBalance);
  const isBound = balance >= LEAST_BALANCE && balance <= MOST_BALANCE;
  return { algorithm: "hash", header: hashHeader, balance: isBound ? balance : undefined };
}
