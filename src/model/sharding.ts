/** Which isolation segments a router serves, with the meaning and the names of Gorouter's routing_table_sharding_mode. */
export interface Sharding {
  /** "all": whatever the segment. Otherwise `isolationSegments`, with or without what is in no segment. */
  readonly mode: "all" | "shared-and-segments" | "segments";
  readonly isolationSegments: readonly string[];
}

export const EVERY_SEGMENT: Sharding = { mode: "all", isolationSegments: [] };

/** `segment` is "" for what is in none. */
export function isServed({ mode, isolationSegments }: Sharding, segment: string): boolean {
  if (mode === "all") return true;
  return segment === "" ? mode === "shared-and-segments" : isolationSegments.includes(segment);
}
