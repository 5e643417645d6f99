import { mergePairs, unknownFields } from "./body.js";
import { unprocessable } from "./errors.js";
import type { RouteOptions } from "./records.js";

const KEYS = ["loadbalancing", "hash_header", "hash_balance"];
const MAX_HEADER_LENGTH = 128;
const MAX_BALANCE_LENGTH = 16;
const MAX_SERIALIZED_LENGTH = 1024;

/**
 * The options of a route after a create or PATCH: given keys replace, null deletes.
 *
 * Returns  values as strings; `hash_balance` rounded to one decimal. Another algorithm than "hash" drops both hash keys.
 * Throws   422 in Cloud Controller's words, "Options " before each problem.
 */
export function mergeRouteOptions(old: RouteOptions, change: unknown, isHashEnabled: boolean): RouteOptions {
  if (!isObject(change)) throw unprocessable("Options 'options' is not a valid object");
  const merged = { ...dropHash(old, change["loadbalancing"]), ...change };
  const problems = optionProblems(merged, isHashEnabled);
  if (problems.length > 0) throw unprocessable(problems.map((problem) => `Options ${problem}`).join(", "));
  return mergePairs({}, Object.fromEntries(Object.entries(merged).map(([key, value]) => [key, toText(key, value)])));
}

function dropHash(old: RouteOptions, algorithm: unknown): RouteOptions {
  if (algorithm === undefined || algorithm === "hash") return old;
  return Object.fromEntries(Object.entries(old).filter(([key]) => !key.startsWith("hash_")));
}

function toText(key: string, value: unknown): string | null {
  if (key === "hash_balance" && value !== null) return Number(value).toFixed(1);
  return typeof value === "string" ? value : null;
}

function optionProblems(options: Readonly<Record<string, unknown>>, isHashEnabled: boolean): string[] {
  const unknown = Object.keys(options).filter((key) => !KEYS.includes(key));
  if (unknown.length > 0) return [unknownFields(unknown)];
  if (JSON.stringify(options).length > MAX_SERIALIZED_LENGTH) return ["is too long (maximum is 1024 characters)"];
  const algorithms = ["round-robin", "least-connection", ...(isHashEnabled ? ["hash"] : [])];
  const algorithm = options["loadbalancing"] ?? undefined;
  if (algorithm !== undefined && !algorithms.some((name) => name === algorithm)) {
    return [`Loadbalancing must be one of '${algorithms.join(", ")}' if present`];
  }
  const header = options["hash_header"] ?? undefined;
  const balance = options["hash_balance"] ?? undefined;
  return algorithm === "hash"
    ? [...headerProblems(header), ...balanceProblems(balance)]
    : [
        ...(header === undefined ? [] : ["Hash header can only be set when loadbalancing is hash"]),
        ...(balance === undefined ? [] : ["Hash balance can only be set when loadbalancing is hash"]),
      ];
}

function headerProblems(header: unknown): string[] {
  if (header === undefined || header === "") return ["Hash header must be present when loadbalancing is set to hash."];
  if (typeof header !== "string") return ["Hash header must be a string"];
  return header.length > MAX_HEADER_LENGTH ? ["Hash header must be at most 128 characters"] : [];
}

function balanceProblems(balance: unknown): string[] {
  if (balance === undefined) return [];
  const isScalar = typeof balance === "string" || typeof balance === "number";
  const text = isScalar ? String(balance).trim() : "";
  const value = text === "" ? NaN : Number(text);
  if (Number.isNaN(value)) return ["Hash balance must be a numeric value"];
  if (text.length > MAX_BALANCE_LENGTH) return ["Hash balance must be at most 16 characters"];
  return value === 0 || (value >= 1.1 && value <= 10) ? [] : ["Hash balance must be either 0 or between 1.1 and 10.0"];
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
