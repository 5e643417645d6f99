/**
 * What the agent and the keeper tell each other over the keeper's unix socket: JSON, one message per line.
 *
 * The keeper greets each connection. An agent attaches, hears the state at once and at every change, and says what
 * shall run. `hello` and `stop` stay as they are in every protocol version, so that an agent can replace a keeper of
 * another one.
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { z } from "zod";

export const KEEPER_PROTOCOL = 1;

/** Longest path that a unix socket takes on every platform, with some bytes left. */
export const MAX_SOCKET_PATH_BYTES = 100;

const MAX_LINE_BYTES = 16 * 1024 * 1024;

export const keeperSocketPath = (runDirectory: string): string => join(runDirectory, "keeper.sock");

/** What shall run. Equal specs are the same Envoy, which goes on; another spec replaces it. */
const EnvoySpecSchema = z.strictObject({
  /** Program and arguments, without the bootstrap file, which the keeper writes and names. */
  command: z.array(z.string()).min(1),
  bootstrap: z.string(),
  /** Tells apart the files that lay under the program's path over time. */
  binaryMark: z.string(),
  /** Removed once Envoy is gone. */
  adminSocketPath: z.string(),
});
export type EnvoySpec = z.infer<typeof EnvoySpecSchema>;

/** Equal for equal specs. */
export function specIdOf({ command, bootstrap, binaryMark, adminSocketPath }: EnvoySpec): string {
  return createHash("sha256")
    .update(JSON.stringify([command, bootstrap, binaryMark, adminSocketPath]))
    .digest("hex");
}

const ExitSchema = z.strictObject({
  code: z.number().nullable(),
  signal: z.string().nullable(),
  /** The end of what Envoy printed. */
  lastLines: z.array(z.string()),
});
export type EnvoyExit = z.infer<typeof ExitSchema>;

const KeeperStateSchema = z.discriminatedUnion("kind", [
  /** Nobody said yet what shall run. */
  z.strictObject({ kind: z.literal("idle") }),
  z.strictObject({ kind: z.literal("running"), pid: z.number(), specId: z.string() }),
  z.strictObject({ kind: z.literal("stopping"), pid: z.number() }),
  /** It ended by itself, and is started again after a pause. */
  z.strictObject({ kind: z.literal("waiting"), specId: z.string(), exit: ExitSchema, restartInMs: z.number() }),
]);
export type KeeperState = z.infer<typeof KeeperStateSchema>;

const ToKeeperSchema = z.discriminatedUnion("type", [
  /** One agent at a time. */
  z.strictObject({ type: z.literal("attach"), agentPid: z.number() }),
  z.strictObject({ type: z.literal("run"), spec: EnvoySpecSchema, orphanTimeoutMs: z.number() }),
  /** Stops Envoy and then the keeper, which closes the connection. */
  z.strictObject({ type: z.literal("stop") }),
]);
export type ToKeeper = z.infer<typeof ToKeeperSchema>;

const FromKeeperSchema = z.discriminatedUnion("type", [
  z.looseObject({ type: z.literal("hello"), protocol: z.number(), keeperPid: z.number() }),
  z.strictObject({ type: z.literal("refused"), agentPid: z.number() }),
  z.strictObject({ type: z.literal("state"), state: KeeperStateSchema }),
]);
export type FromKeeper = z.infer<typeof FromKeeperSchema>;

export const encodeMessage = (message: ToKeeper | FromKeeper): string => `${JSON.stringify(message)}\n`;

/** Throws when the line is no such message. */
export const decodeToKeeper = (line: string): ToKeeper => ToKeeperSchema.parse(JSON.parse(line));
export const decodeFromKeeper = (line: string): FromKeeper => FromKeeperSchema.parse(JSON.parse(line));

/** Makes whole lines of a stream's pieces. Throws when a line grows beyond what any message needs. */
export class LineSplitter {
  #rest = "";

  push(text: string): string[] {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    if (this.#rest.length > MAX_LINE_BYTES) throw new Error("a message without end");
    return lines;
  }
}
