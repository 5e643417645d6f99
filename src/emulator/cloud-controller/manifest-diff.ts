/** How manifests differ from the apps that are there, as JSON Patch. Source: SpaceDiffManifest of cloud_controller_ng. */
import { isDeepStrictEqual } from "node:util";
import type { Api } from "./api.js";
import { formatByteSize, parseByteSize } from "./byte-sizes.js";
import { type ManifestApp, scalarText } from "./manifest.js";
import { manifestOf } from "./manifest-presenter.js";
import type { Space } from "./records.js";

export interface Difference {
  readonly op: "add" | "remove" | "replace";
  /** "/applications/0/memory" */
  readonly path: string;
  readonly value?: unknown;
  readonly was?: unknown;
}

type Mapping = Readonly<Record<string, unknown>>;

const COMPARED = new Set([
  "name",
  "env",
  "buildpacks",
  "stack",
  "routes",
  "no-route",
  "random-route",
  "default-route",
  "metadata",
  "processes",
  "command",
  "instances",
  "memory",
  "disk_quota",
  "log-rate-limit-per-second",
  "timeout",
  ...["type", "http-endpoint", "invocation-timeout", "interval"].flatMap((name) => [
    `health-check-${name}`,
    `readiness-health-check-${name}`,
  ]),
]);
/** What tells the entries of a list apart. Entries that a manifest does not mention stay, so they are no difference. */
const IDENTIFIERS: Readonly<Record<string, string>> = { processes: "type", routes: "route" };
const MEGABYTES = new Set(["memory", "disk_quota"]);
const TEXT_DEPTHS: Readonly<Record<string, number>> = { env: 1, metadata: 2 };
const RATES = new Set(["log-rate-limit-per-second"]);

export function diffManifest(api: Api, space: Space, manifests: readonly ManifestApp[]): readonly Difference[] {
  return manifests.flatMap((manifest, index) => {
    const app = api.store.appsOfSpace(space.guid).find(({ name }) => name === manifest.name);
    const shown = app === undefined ? {} : manifestOf(api, app);
    const processes = (shown["processes"] ?? []) as readonly Mapping[];
    const existing: Mapping = { ...processes.find((process) => process["type"] === "web"), ...shown };
    return Object.entries(normalize(manifest.source))
      .filter(([key]) => COMPARED.has(key))
      .flatMap(([key, value]) => {
        const path = `/applications/${index}/${key}`;
        const identifier = IDENTIFIERS[key];
        return identifier === undefined || !isList(existing[key]) || !isList(value)
          ? compare(path, existing[key], value)
          : compareLists(path, existing[key], value, identifier);
      });
  });
}

function compareLists(
  path: string,
  existing: readonly unknown[],
  wanted: readonly unknown[],
  identifier: string,
): readonly Difference[] {
  return wanted.flatMap((entry, index) => {
    const same = existing.filter(isMapping).find((one) => isMapping(entry) && one[identifier] === entry[identifier]);
    if (same === undefined || !isMapping(entry)) return compare(`${path}/${index}`, undefined, entry);
    return Object.entries(normalize(entry)).flatMap(([key, value]) =>
      compare(`${path}/${index}/${key}`, same[key], value),
    );
  });
}

function compare(path: string, was: unknown, value: unknown): readonly Difference[] {
  if (isDeepStrictEqual(was, value)) return [];
  if (was === undefined) return [{ op: "add", path, value }];
  if (!isMapping(was) || !isMapping(value)) return [{ op: "replace", path, was, value }];
  const removed = Object.keys(was).filter((key) => !(key in value));
  return [
    ...removed.map((key): Difference => ({ op: "remove", path: `${path}/${escape(key)}`, was: was[key] })),
    ...Object.entries(value).flatMap(([key, inner]) => compare(`${path}/${escape(key)}`, was[key], inner)),
  ];
}

/** Sizes in the units of what is there, so that "1G" is no change of "1024M". */
function normalize(source: Mapping): Mapping {
  const pairs = Object.entries(source).map(([key, value]): [string, unknown] => {
    const name = key === "disk-quota" ? "disk_quota" : key;
    if (MEGABYTES.has(name)) return [name, inMegabytes(value)];
    if (RATES.has(name)) return [name, asRate(value)];
    const depth = TEXT_DEPTHS[name];
    return [name, depth === undefined ? value : asTexts(value, depth)];
  });
  return Object.fromEntries(pairs);
}

/** YAML has numbers, booleans and more where an app has nothing but text, this deep below the key. */
function asTexts(value: unknown, depth: number): unknown {
  if (value === null || value === undefined) return value;
  if (depth === 0 || !isMapping(value)) return scalarText(value);
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, asTexts(one, depth - 1)]));
}

function inMegabytes(value: unknown): unknown {
  const size = parseByteSize(value);
  return "bytes" in size ? `${Math.floor(size.bytes / 1024 ** 2)}M` : value;
}

function asRate(value: unknown): unknown {
  if (["-1", "0"].includes(String(value))) return String(value);
  const size = parseByteSize(value);
  return "bytes" in size ? formatByteSize(size.bytes) : value;
}

/** JSON Pointer. */
function escape(key: string): string {
  return key.replaceAll("~", "~0").replaceAll("/", "~1");
}

function isList(value: unknown): value is readonly unknown[] {
  return Array.isArray(value);
}

function isMapping(value: unknown): value is Mapping {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
