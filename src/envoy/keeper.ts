/**
 * The keeper: a small process between the agent and Envoy. Envoy is its child, so Envoy goes on when the agent dies,
 * is started again when it crashes with no agent there, and is stopped when none comes back.
 */
import { chmodSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { asError, systemCode } from "../lib/errors.js";
import type { Logger } from "../lib/logger.js";
import { EnvoyRunner } from "./envoy-runner.js";
import { DeathGuard } from "./guard.js";
import {
  decodeToKeeper,
  encodeMessage,
  type FromKeeper,
  KEEPER_PROTOCOL,
  keeperSocketPath,
  LineSplitter,
  type ToKeeper,
} from "./keeper-protocol.js";
import { RotatingFile } from "./rotating-file.js";

export interface KeeperOptions {
  readonly runDirectory: string;
  /** How long Envoy goes on with no agent; the agent's `run` message can change it. */
  readonly orphanTimeoutMs: number;
  /** From SIGTERM to SIGKILL. */
  readonly stopGraceMs: number;
  /** Envoy's log, envoy.log, and the one before it, envoy.log.1, take up to this each. */
  readonly maxLogBytes: number;
}

export interface Keeper {
  /** Resolves when Envoy has been stopped and all sockets are gone. */
  readonly ended: Promise<void>;
  stop(): void;
}

/**
 * Listens on keeper.sock (mode 0600) in the run directory, and does as its agent says.
 *
 * Returns  undefined when another keeper is at work in that directory.
 * Throws   the system's error when the socket or the log can't be made.
 */
export async function startKeeper(options: KeeperOptions, logger: Logger): Promise<Keeper | undefined> {
  const server = createServer();
  if (!(await listen(server, keeperSocketPath(options.runDirectory)))) return undefined;
  return new SocketKeeper(options, logger, server);
}

async function listen(server: Server, path: string): Promise<boolean> {
  try {
    await listenOnce(server, path);
  } catch (error) {
    if (systemCode(error) !== "EADDRINUSE") throw error;
    if (await answers(path)) return false;
    // Left behind by a keeper that was killed.
    rmSync(path, { force: true });
    await listenOnce(server, path);
  }
  chmodSync(path, 0o600);
  return true;
}

function listenOnce(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

class SocketKeeper implements Keeper {
  readonly ended: Promise<void>;
  readonly #logger: Logger;
  readonly #server: Server;
  readonly #connections = new Set<Socket>();
  readonly #guard = new DeathGuard();
  readonly #output: RotatingFile;
  readonly #runner: EnvoyRunner;
  #agent: { readonly socket: Socket; readonly pid: number } | undefined;
  #orphanTimeoutMs: number;
  #orphanTimer: NodeJS.Timeout | undefined;
  #resolveEnded!: () => void;
  #stopping = false;

  constructor(options: KeeperOptions, logger: Logger, server: Server) {
    this.ended = new Promise((resolve) => (this.#resolveEnded = resolve));
    this.#logger = logger;
    this.#server = server;
    this.#orphanTimeoutMs = options.orphanTimeoutMs;
    const output = new RotatingFile(join(options.runDirectory, "envoy.log"), options.maxLogBytes);
    this.#output = output;
    this.#runner = new EnvoyRunner({
      runDirectory: options.runDirectory,
      stopGraceMs: options.stopGraceMs,
      guard: (pid) => this.#guard.guard(pid),
      output: (bytes) => output.write(bytes),
      logger,
      onState: (state) => {
        if (this.#agent) send(this.#agent.socket, { type: "state", state });
      },
    });
    logger.info({ keeperPid: process.pid }, "keeper started");
    this.#server.on("connection", (socket) => this.#welcome(socket));
    this.#awaitAgent();
  }

  stop(): void {
    if (this.#stopping) return;
    this.#stopping = true;
    clearTimeout(this.#orphanTimer);
    void this.#end();
  }

  /** The socket goes last: an agent that comes meanwhile waits on it, and starts no second Envoy beside this one. */
  async #end(): Promise<void> {
    await this.#runner.stop();
    this.#guard.close();
    this.#server.close(() => {
      this.#output.close();
      this.#resolveEnded();
    });
    for (const socket of this.#connections) socket.destroy();
  }

  #welcome(socket: Socket): void {
    this.#connections.add(socket);
    socket.setEncoding("utf8");
    socket.on("error", (error) => this.#logger.debug({ err: error }, "connection to the agent failed"));
    socket.once("close", () => this.#left(socket));
    // Says nothing while it stops: the agent hears the connection end, and starts a new keeper.
    if (this.#stopping) return;
    const lines = new LineSplitter();
    socket.on("data", (text: string) => {
      try {
        for (const line of lines.push(text)) this.#take(socket, decodeToKeeper(line));
      } catch (error) {
        this.#logger.warn({ err: asError(error) }, "closing a connection that does not speak the keeper's protocol");
        socket.destroy();
      }
    });
    send(socket, { type: "hello", protocol: KEEPER_PROTOCOL, keeperPid: process.pid });
  }

  #take(socket: Socket, message: ToKeeper): void {
    switch (message.type) {
      case "attach":
        this.#attach(socket, message.agentPid);
        return;
      case "run":
        if (this.#agent?.socket !== socket || this.#stopping) return;
        this.#orphanTimeoutMs = message.orphanTimeoutMs;
        this.#runner.run(message.spec);
        return;
      case "stop":
        this.#logger.info({}, "stopping, as the agent says");
        this.stop();
        return;
    }
  }

  #attach(socket: Socket, pid: number): void {
    if (this.#agent) {
      send(socket, { type: "refused", agentPid: this.#agent.pid });
      return;
    }
    clearTimeout(this.#orphanTimer);
    this.#agent = { socket, pid };
    this.#logger.info({ agentPid: pid }, "agent attached");
    send(socket, { type: "state", state: this.#runner.state });
  }

  #left(socket: Socket): void {
    this.#connections.delete(socket);
    if (this.#agent?.socket !== socket) return;
    this.#logger.info({ agentPid: this.#agent.pid, orphanTimeoutMs: this.#orphanTimeoutMs }, "agent left");
    this.#agent = undefined;
    this.#awaitAgent();
  }

  #awaitAgent(): void {
    if (this.#stopping) return;
    this.#orphanTimer = setTimeout(() => {
      this.#logger.warn({ orphanTimeoutMs: this.#orphanTimeoutMs }, "no agent came back: stopping Envoy");
      this.stop();
    }, this.#orphanTimeoutMs);
  }
}

function send(socket: Socket, message: FromKeeper): void {
  if (socket.writable) socket.write(encodeMessage(message));
}
