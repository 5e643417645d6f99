/**
 * What becomes of a request on its way to a route service, and when it comes back. Pure: facts and the time in, a verdict out.
 *
 * Source   Gorouter's handlers/routeservice.go: same headers, statuses and texts.
 */
import { sign, readSignature, type SignatureHeaders, type SignatureKeys } from "./signature.js";

/** What the routing table knows of a request's place. */
export interface Place {
  /** "shop.example.com/cart" */
  readonly place: string;
  /** "" where no route service is bound. */
  readonly routeServiceUrl: string;
}

export interface Rules {
  readonly keys: SignatureKeys;
  /** How old a signature may be. */
  readonly timeoutMs: number;
  readonly recommendHttps: boolean;
  /** Signatures are checked where no route service is bound, too. */
  readonly strict: boolean;
  /** Services of this router are reached without leaving it; undefined: none are. [] stands for all. */
  readonly hairpinningHosts: readonly string[] | undefined;
  /** The place of a host, without its port, and a path. */
  readonly find: (host: string, path: string) => Place | undefined;
}

export interface RequestTarget {
  /** As in the Host header. */
  readonly host: string;
  /** With its query. */
  readonly path: string;
}

export interface Refusal {
  readonly kind: "refused";
  readonly status: 400 | 502 | 504;
  /** For X-Cf-RouterError. */
  readonly routerError: string;
  readonly message: string;
}

export type Returned =
  /** It is none that its own route's service has sent on. */
  | (Traffic & { readonly kind: "passed" })
  /** It has been to its route service. */
  | (Traffic & { readonly kind: "arrived" })
  | Refusal;

interface Traffic {
  /** It has all headers of a proof, and the signature is good: whichever route it was made for. */
  readonly isServiceTraffic: boolean;
}

export interface ReturnedHeaders extends SignatureHeaders {
  readonly forwardedUrl: string;
}

export interface Sent extends SignatureHeaders {
  readonly kind: "sent";
  readonly forwardedUrl: string;
  /** Host and port, and path with query, of the route service. */
  readonly authority: string;
  readonly path: string;
  /** It is an app of this router. */
  readonly isInternal: boolean;
}

const EXPIRED = "Failed to validate Route Service Signature: route service request expired";

export function checkReturned(
  request: RequestTarget,
  headers: ReturnedHeaders,
  { keys, timeoutMs, strict, find }: Rules,
  nowMs: number,
): Returned {
  if (headers.signature === "") return { kind: "passed", isServiceTraffic: false };
  const here = find(withoutPort(request.host), withoutQuery(request.path));
  const isBound = (here?.routeServiceUrl ?? "") !== "";
  const signed = readSignature(headers, keys);
  const isExpired = signed !== undefined && nowMs - signed.requestedMs > timeoutMs;
  const isServiceTraffic = signed !== undefined && !isExpired && headers.forwardedUrl !== "";
  if (!isBound && !strict) return { kind: "passed", isServiceTraffic };
  if (isExpired) {
    return { kind: "refused", status: 504, routerError: "expired_route_service_signature", message: EXPIRED };
  }
  if (!isBound) {
    if (signed) return { kind: "passed", isServiceTraffic };
    return invalid(400, "invalid route service signature detected");
  }
  if (!signed) return invalid(502, "Failed to validate Route Service Signature: message authentication failed");
  const there = placeOfUrl(signed.forwardedUrl, find);
  if (there?.place === here?.place) return { kind: "arrived", isServiceTraffic };
  // What was signed is another route's business: it is not told here.
  const problem = there
    ? "route service forwarded URL does not match the original request URL"
    : "original request URL does not exist in the routing table";
  return invalid(502, `Failed to validate Route Service Signature: ${problem}`);
}

/** Returns  undefined where `serviceUrl` is none of HTTPS. */
export function send(request: RequestTarget, serviceUrl: string, rules: Rules, nowMs: number): Sent | undefined {
  const { keys, recommendHttps, hairpinningHosts, find } = rules;
  if (!URL.canParse(serviceUrl)) return undefined;
  const url = new URL(serviceUrl);
  if (url.protocol !== "https:") return undefined;
  const scheme = recommendHttps ? "https" : "http";
  const forwardedUrl = `${scheme}://${withoutPort(request.host)}${request.path}`;
  const isAllowed = hairpinningHosts?.length === 0 || hairpinningHosts?.some((host) => matches(host, url.hostname));
  return {
    kind: "sent",
    ...sign({ forwardedUrl, requestedMs: nowMs }, keys.current),
    forwardedUrl,
    authority: url.host,
    path: `${url.pathname}${url.search}`,
    isInternal: isAllowed === true && find(url.hostname, url.pathname) !== undefined,
  };
}

function invalid(status: Refusal["status"], message: string): Refusal {
  return { kind: "refused", status, routerError: "invalid_route_service_signature", message };
}

function matches(pattern: string, host: string): boolean {
  return pattern.startsWith("*.") ? host.endsWith(pattern.slice(1)) : host === pattern;
}

function placeOfUrl(url: string, find: Rules["find"]): Place | undefined {
  // As it was signed: a parser would resolve dots in the path, which the routing table does not.
  const [, authority = "", path = "/"] = /^https?:\/\/([^/?#]*)([^#]*)/i.exec(url) ?? [];
  return find(withoutPort(authority), withoutQuery(path));
}

function withoutPort(host: string): string {
  const colon = host.indexOf(":");
  return colon < 0 ? host : host.slice(0, colon);
}

function withoutQuery(path: string): string {
  const end = path.indexOf("?");
  return end < 0 ? path : path.slice(0, end);
}
