/** What an Envoy holds of the mesh's resources, to compare it with another. */
import type { EnvoyAdmin } from "../src/envoy/admin.js";
import { compareText } from "../src/lib/compare-text.js";

/** Of Envoy's config_dump: https://www.envoyproxy.io/docs/envoy/v1.40.0/operations/admin#get--config_dump */
const KINDS = [
  "dynamic_scoped_route_configs",
  "dynamic_route_configs",
  "dynamic_active_clusters",
  "dynamic_endpoint_configs",
] as const;

type Dumped = Readonly<Record<string, unknown>>;

/** JSON texts of routes, scopes, clusters and endpoints, without when and by which version they came. */
export async function envoyContents(admin: EnvoyAdmin): Promise<ReadonlyMap<string, string>> {
  const contents = new Map<string, string>();
  for (const kind of KINDS) {
    const dump = JSON.parse(await admin.get(`/config_dump?include_eds&resource=${kind}`)) as {
      readonly configs?: readonly Dumped[];
    };
    for (const config of dump.configs ?? []) {
      for (const [name, text] of named(config)) contents.set(`${kind} ${name}`, text);
    }
  }
  return contents;
}

/** By their names; of scopes, whose parts are in a list, each part. Versions and times beside them are no objects. */
function named(config: Dumped): readonly (readonly [string, string])[] {
  const parts = Object.values(config).flatMap((value) => (Array.isArray(value) ? value : [value]) as unknown[]);
  return parts
    .filter((part): part is Dumped => typeof part === "object" && part !== null)
    .map((part) => [String(part["name"] ?? part["cluster_name"]), JSON.stringify(part, sortedKeys)] as const);
}

/** Envoy writes the keys of maps in an order that differs from process to process. */
function sortedKeys(_key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([one], [other]) => compareText(one, other)));
}
