import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { asError, MeshError, systemCode } from "../lib/errors.js";
import {
  decodeFromKeeper,
  encodeMessage,
  type FromKeeper,
  KEEPER_PROTOCOL,
  keeperSocketPath,
  type KeeperState,
  LineSplitter,
  type ToKeeper,
} from "./keeper-protocol.js";
import type { KeeperOptions } from "./keeper.js";
import { PACKAGE_ROOT } from "../lib/package-root.js";

const KEEPER_PROGRAM = join(PACKAGE_ROOT, "dist", "src", "envoy", "keeper-main.js");

/** Beyond the grace that a keeper gives an Envoy that it stops. */
const ANSWER_TIMEOUT_MS = 10_000;

/** Keepers that end while one connects to them: each is on its way out, none of them comes again. */
const MAX_ATTEMPTS = 5;

export interface KeeperConnection {
  readonly keeperPid: number;
  /** As it was when this agent attached. */
  readonly initialState: KeeperState;
  /** Each later state, in order; ends when the connection does, by either side. To be read once. */
  readonly states: AsyncIterable<KeeperState>;
  send(message: ToKeeper): void;
  close(): void;
}

/**
 * Attaches to the keeper of a run directory, and starts one where there is none.
 *
 * Throws  MESH_STATE_IN_USE when another agent is attached; MESH_ENVOY_FAILED when the keeper can't be started or
 *         does not answer.
 */
export async function connectKeeper(options: KeeperOptions): Promise<KeeperConnection> {
  for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt += 1) {
    const socket = await openSocket(keeperSocketPath(options.runDirectory));
    if (!socket) {
      await spawnKeeper(options);
      continue;
    }
    const attached = await attach(socket, options);
    if (attached) return attached;
  }
  throw keeperFailed(options, "it ended again and again while this agent connected to it");
}

async function openSocket(path: string): Promise<Socket | undefined> {
  const socket = connect(path);
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    return socket;
  } catch (error) {
    if (["ENOENT", "ECONNREFUSED"].includes(systemCode(error) ?? "")) return undefined;
    throw new MeshError(
      "MESH_ENVOY_FAILED",
      `the keeper's socket ${path} can't be opened (${asError(error).message})`,
      "run the agent as the user that owns the run directory, or give it another one",
      { cause: error },
    );
  }
}

/** Resolves to undefined when the keeper ends instead of answering, or was told to because it is of another version. */
async function attach(socket: Socket, options: KeeperOptions): Promise<KeeperConnection | undefined> {
  const messages = messagesOf(socket);
  const silence = new AbortController();
  const timeout = setTimeout(() => {
    silence.abort();
    socket.destroy();
  }, options.stopGraceMs + ANSWER_TIMEOUT_MS);
  try {
    const hello = await next(messages);
    if (hello?.type === "hello" && hello.protocol !== KEEPER_PROTOCOL) {
      send(socket, { type: "stop" });
      while ((await next(messages)) !== undefined);
    } else if (hello?.type === "hello") {
      send(socket, { type: "attach", agentPid: process.pid });
      const answer = await next(messages);
      if (answer?.type === "refused") throw inUse(options, answer.agentPid);
      if (answer?.type === "state") return connection(socket, hello.keeperPid, answer.state, messages);
    }
    if (silence.signal.aborted) throw keeperFailed(options, "it does not answer");
    socket.destroy();
    return undefined;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timeout);
  }
}

const connection = (
  socket: Socket,
  keeperPid: number,
  initialState: KeeperState,
  messages: AsyncGenerator<FromKeeper>,
): KeeperConnection => ({
  keeperPid,
  initialState,
  states: statesOf(messages),
  send: (message) => send(socket, message),
  close: () => void socket.destroy(),
});

async function* statesOf(messages: AsyncGenerator<FromKeeper>): AsyncGenerator<KeeperState> {
  for await (const message of messages) if (message.type === "state") yield message.state;
}

/** Ends when the connection does, in whatever way. */
async function* messagesOf(socket: Socket): AsyncGenerator<FromKeeper> {
  const lines = new LineSplitter();
  socket.setEncoding("utf8");
  socket.on("error", () => undefined);
  try {
    for await (const text of socket as AsyncIterable<string>) {
      for (const line of lines.push(text)) yield decodeFromKeeper(line);
    }
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
  }
}

async function next(messages: AsyncGenerator<FromKeeper>): Promise<FromKeeper | undefined> {
  const result = await messages.next();
  return result.done === true ? undefined : result.value;
}

function send(socket: Socket, message: ToKeeper): void {
  if (socket.writable) socket.write(encodeMessage(message));
}

/** Starts a keeper that lives on without this process; resolves when its socket is there. */
async function spawnKeeper(options: KeeperOptions): Promise<void> {
  const child = spawn(process.execPath, [KEEPER_PROGRAM, JSON.stringify(options)], {
    cwd: options.runDirectory,
    detached: true,
    stdio: ["ignore", "ignore", "pipe", "pipe"],
  });
  const [complaints, ready] = [child.stdio[2] as Readable, child.stdio[3] as Readable];
  const complaint = text(complaints).catch(() => "");
  try {
    const begun = await Promise.race([once(ready, "data"), once(child, "exit")]);
    // The line from the keeper is bytes, an exit comes with its code.
    if (typeof begun[0] === "number" && begun[0] !== 0) throw new Error((await complaint).trim());
  } catch (error) {
    throw keeperFailed(options, asError(error).message);
  } finally {
    // A pipe held open would keep this process from ending.
    complaints.destroy();
    ready.destroy();
    child.unref();
  }
}

const inUse = ({ runDirectory }: KeeperOptions, agentPid: number) =>
  new MeshError(
    "MESH_STATE_IN_USE",
    `another agent (pid ${agentPid}) runs the Envoy of ${runDirectory}, and goes on doing so`,
    "stop that agent, or give this one a run directory of its own",
  );

const keeperFailed = ({ runDirectory }: KeeperOptions, reason: string) =>
  new MeshError(
    "MESH_ENVOY_FAILED",
    `Envoy's keeper in ${runDirectory} can't be used: ${reason}`,
    `see keeper.log in that directory; check that it is writable, and that its disk has room`,
  );
