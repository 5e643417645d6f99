/**
 * Which key spaces of a log are complete: of each, a key "complete.<key space>" that its writer writes when it has written
 * all that its source has: after a full read, or when everybody had time to say what they have. A log that was made anew is empty at first; whoever served another one before goes on with that
 * until the key spaces that were complete there are so here.
 */
import type { Write } from "./log.js";

export const COMPLETION_PREFIX = "complete.";

/** The key of a key space, which ends with a dot: "complete.route.cc" of "route.cc.". */
export const completionKey = (keySpace: string) => `${COMPLETION_PREFIX}${keySpace.slice(0, -1)}`;

/** The write that says so. */
export const completionOf = (keySpace: string): Write => ({ key: completionKey(keySpace), value: new Uint8Array() });
