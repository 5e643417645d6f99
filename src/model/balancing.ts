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

/** The router's own default where nothing usable was said, as on Gorouter: round robin. */
export function balancingOf(options: RouteOptions | undefined): Balancing {
  if (options?.loadbalancing === "least-connection") return { algorithm: "least-connection" };
  if (options?.loadbalancing !== "hash" || !HEADER_NAME.test(options.hashHeader)) return { algorithm: "round-robin" };
  const balance = Number(options.hashBalance);
  const isBound = balance >= LEAST_BALANCE && balance <= MOST_BALANCE;
  return { algorithm: "hash", header: options.hashHeader, balance: isBound ? balance : undefined };
}
