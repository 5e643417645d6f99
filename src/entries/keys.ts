/**
 * The key spaces of the mesh log. Each has one writer, and its name is the prefix of its keys; the first word is the
 * kind of the value. Keys are also NATS subjects: tokens of letters, digits, "-" and "_", joined by dots.
 */
export const KEY_SPACES = {
  cloudControllerRoutes: "route.cc.",
  diegoProcesses: "process.bbs.",
} as const;
export type KeySpace = (typeof KEY_SPACES)[keyof typeof KEY_SPACES];

export type EntryKind = "route" | "process";

/** The kind of value under a key; undefined for keys of a newer version, which readers pass over. */
export function kindOf(key: string): EntryKind | undefined {
  const kind = key.slice(0, key.indexOf("."));
  return kind === "route" || kind === "process" ? kind : undefined;
}
