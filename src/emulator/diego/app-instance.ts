import { connect } from "node:net";
import { constants, tmpdir } from "node:os";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { asError } from "../../lib/errors.js";
import type { GroupLeader, Reaper } from "../../lib/reaper.js";
import type { AppLogs } from "../logs.js";
import { systemPath } from "../staging/environment.js";
import type { DesiredProcess, HealthCheck } from "./diego.js";

/** A line that an instance wrote. */
export interface OutputLine {
  /** Unix time in milliseconds. */
  readonly timestampMs: number;
  readonly stream: "stdout" | "stderr";
  readonly text: string;
}

export interface AppInstanceOptions {
  readonly process: DesiredProcess;
  readonly index: number;
  readonly guid: string;
  /** Address that it is reached at. */
  readonly host: string;
  /** One for each of the process's ports, in their order. */
  readonly hostPorts: readonly number[];
  readonly reaper: Reaper;
  /** Gets every line that the process writes. */
  readonly logs: AppLogs;
}

const MAX_OUTPUT_LINES = 500;
const CONNECT_PAUSE_MS = 20;
/** Diego's default for one look. */
const HTTP_CHECK_TIMEOUT_MS = 1_000;
const SIGNAL_EXIT_BASE = 128;

/** One process of an app, with its own process group and environment. It runs from construction on. */
export class AppInstance {
  /** Resolves with the reason when the process has ended, for whatever reason; never rejects. */
  readonly exited: Promise<string>;
  readonly #leader: GroupLeader;
  readonly #output: OutputLine[] = [];
  readonly #host: string;
  readonly #port: number | undefined;
  readonly #healthCheck: HealthCheck;
  #hasExited = false;

  constructor(options: AppInstanceOptions) {
    const { process, index, host, hostPorts, reaper, logs } = options;
    const [program = "", ...args] = process.command;
    this.#host = host;
    this.#port = hostPorts[0];
    this.#healthCheck = process.healthCheck ?? { type: "port" };
    this.#leader = reaper.spawn(program, args, { cwd: process.workingDirectory, env: environmentOf(options) });
    this.exited = this.#exit();
    if (this.#leader.pid === undefined) return;
    const source = `APP/PROC/${(process.metricTags["process_type"] ?? "web").toUpperCase()}/${index}`;
    const publish = (line: OutputLine) => logs.append(process.appGuid, { ...line, source });
    this.#keep("stdout", this.#leader.stdout, publish);
    this.#keep("stderr", this.#leader.stderr, publish);
  }

  /** The last lines that it wrote, oldest first. */
  get output(): readonly OutputLine[] {
    return this.#output;
  }

  get pid(): number | undefined {
    return this.#leader.pid;
  }

  /** Whether it passes its health check, the process ends before, or `timeoutMs` pass before either. */
  async whenAccepting(timeoutMs: number): Promise<"accepting" | "exited" | "timeout"> {
    const deadline = performance.now() + timeoutMs;
    while (performance.now() < deadline) {
      const isAccepting = await this.#passes();
      if (this.#hasExited) return "exited";
      if (isAccepting) return "accepting";
      await Promise.race([this.exited, delay(CONNECT_PAUSE_MS)]);
    }
    return "timeout";
  }

  async #passes(): Promise<boolean> {
    if (this.#healthCheck.type === "process" || this.#port === undefined) return true;
    return this.#healthCheck.type === "http"
      ? await answers(this.#host, this.#port, this.#healthCheck.endpoint)
      : await accepts(this.#host, this.#port);
  }

  /** SIGTERM, and SIGKILL after the grace period. Resolves when the process has ended. */
  async stop(graceMs: number): Promise<void> {
    const timer = setTimeout(() => this.#leader.signal("SIGKILL"), graceMs);
    this.#leader.signal("SIGTERM");
    await this.exited;
    clearTimeout(timer);
  }

  async #exit(): Promise<string> {
    const reason = await new Promise<string>((resolve) => {
      const { process } = this.#leader;
      process.once("error", (error) => resolve(`could not be started: ${asError(error).message}`));
      process.once("exit", (code, signal) => resolve(`Exited with status ${code ?? statusOf(signal)}`));
    });
    this.#hasExited = true;
    return reason;
  }

  #keep(stream: OutputLine["stream"], readable: Readable, publish: (line: OutputLine) => void): void {
    createInterface({ input: readable }).on("line", (text) => {
      const line = { timestampMs: Date.now(), stream, text };
      publish(line);
      this.#output.push(line);
      if (this.#output.length > MAX_OUTPUT_LINES) this.#output.shift();
    });
  }
}

async function accepts(host: string, port: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect({ host, port });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

async function answers(host: string, port: number, endpoint: string): Promise<boolean> {
  try {
    const { status, body } = await fetch(new URL(endpoint, `http://${host}:${port}`), {
      redirect: "manual",
      signal: AbortSignal.timeout(HTTP_CHECK_TIMEOUT_MS),
    });
    await body?.cancel();
    return status === 200;
  } catch {
    return false;
  }
}

/** As a shell tells it: 137 is SIGKILL. */
function statusOf(signal: NodeJS.Signals | null): number {
  return SIGNAL_EXIT_BASE + (signal === null ? 0 : constants.signals[signal]);
}

/**
 * What an app finds in its environment. Of ours only what any program needs: our own environment may hold secrets.
 *
 * Source   docs.cloudfoundry.org, "App environment variables". PORTS lists every port that it may listen on.
 */
function environmentOf({ process: desired, index, guid, host, hostPorts }: AppInstanceOptions): NodeJS.ProcessEnv {
  const port = String(hostPorts[0] ?? "");
  const ports = hostPorts.map((external, position) => ({ external, internal: desired.ports[position] }));
  return {
    PATH: systemPath(),
    HOME: desired.workingDirectory,
    LANG: "en_US.UTF-8",
    TMPDIR: tmpdir(),
    ...desired.environment,
    PORT: port,
    PORTS: hostPorts.join(","),
    VCAP_APPLICATION: JSON.stringify({
      ...desired.vcapApplication,
      instance_id: guid,
      instance_index: index,
      host,
      port: hostPorts[0],
    }),
    CF_INSTANCE_GUID: guid,
    CF_INSTANCE_INDEX: String(index),
    CF_INSTANCE_IP: host,
    CF_INSTANCE_INTERNAL_IP: host,
    CF_INSTANCE_PORT: port,
    CF_INSTANCE_ADDR: `${host}:${port}`,
    CF_INSTANCE_PORTS: JSON.stringify(ports),
    INSTANCE_GUID: guid,
    INSTANCE_INDEX: String(index),
  };
}
