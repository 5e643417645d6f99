/** A real nats-server as a child process that does not outlive this one. */
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { tmpdir } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { MeshError } from "../../lib/errors.js";
import { PACKAGE_ROOT } from "../../lib/package-root.js";
import { type GroupLeader, Reaper } from "../../lib/reaper.js";

export interface NatsServerOptions {
  readonly host?: string;
  /** 0: a free one; a restart then keeps it. */
  readonly port?: number;
  /** More of the server's configuration, as its file would have it: authorization, tls, jetstream, cluster. */
  readonly settings?: Readonly<Record<string, unknown>>;
  /** Where its files lie, made when missing; left out: a temporary one, removed at close. */
  readonly directory?: string;
}

export interface NatsServer {
  readonly host: string;
  readonly port: number;
  /** Process id; undefined while it does not run. */
  readonly pid: number | undefined;
  /** What the server logged last, for people who look for a failure's cause. */
  readonly output: string;
  /** Asks it to end, or kills it. Resolves when it has ended. */
  stop(signal?: "SIGTERM" | "SIGKILL"): Promise<void>;
  /** Starts it again on the same port, with the same configuration and files. */
  start(): Promise<void>;
  /** SIGSTOP and SIGCONT: a server that hangs. */
  pause(): void;
  resume(): void;
  /** Ends it for good, and removes its files. */
  close(): Promise<void>;
}

const START_TIMEOUT_MS = 10_000;
const PAUSE_MS = 10;
const MAX_OUTPUT_CHARACTERS = 20_000;

/** The one on PATH, else the one that scripts/setup installed. Throws MESH_NATS_MISSING. */
export function findNatsServer(environment: NodeJS.ProcessEnv = process.env): string {
  const folders = (environment["PATH"] ?? "").split(delimiter).filter((folder) => folder !== "");
  const candidates = [...folders, join(PACKAGE_ROOT, ".tools/bin")].map((folder) => join(folder, "nats-server"));
  const found = candidates.find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new MeshError(
    "MESH_NATS_MISSING",
    `no nats-server on PATH, nor in ${join(PACKAGE_ROOT, ".tools/bin")}`,
    "run scripts/setup, which installs one; or put a nats-server 2.12 or later on PATH",
  );
}

/** Resolves when it takes connections. Throws MESH_NATS_MISSING, or MESH_PORT_TAKEN with what the server said. */
export async function startNatsServer(options: NatsServerOptions = {}): Promise<NatsServer> {
  const { host = "127.0.0.1", settings = {} } = options;
  const program = findNatsServer();
  const directory = options.directory ?? (await mkdtemp(join(tmpdir(), "cf-mesh-nats-")));
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const reaper = new Reaper();
  let port = options.port ?? 0;
  let leader: GroupLeader | undefined;
  let exited: Promise<void> = Promise.resolve();
  let output = "";

  async function start(): Promise<void> {
    const portsDirectory = join(directory, "ports");
    await rm(portsDirectory, { recursive: true, force: true });
    await mkdir(portsDirectory);
    const file = join(directory, "nats.conf");
    const configuration = { host, port: port === 0 ? -1 : port, ports_file_dir: portsDirectory, ...settings };
    // The file's language takes JSON. It may hold passwords.
    await writeFile(file, JSON.stringify(configuration), { mode: 0o600 });
    const started = reaper.spawn(program, ["--config", file], { cwd: directory, env: { PATH: process.env["PATH"] } });
    leader = started;
    for (const stream of [started.stdout, started.stderr]) {
      stream.on("data", (text: Buffer) => {
        output = `${output}${text.toString()}`.slice(-MAX_OUTPUT_CHARACTERS);
      });
    }
    exited = new Promise((resolve) => {
      const end = () => {
        if (leader === started) leader = undefined;
        resolve();
      };
      started.process.once("close", end).once("error", end);
    });
    port = await whenListening(portsDirectory);
  }

  /** The server writes the file when it listens. */
  async function whenListening(portsDirectory: string): Promise<number> {
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (leader !== undefined && performance.now() < deadline) {
      const [name] = (await readdir(portsDirectory)).filter((entry) => entry.endsWith(".ports"));
      const text = name === undefined ? "" : await readFile(join(portsDirectory, name), "utf8");
      const listening = /"nats":\s*\[\s*"[a-z]+:\/\/[^"]*:(\d+)"/.exec(text)?.[1];
      if (listening !== undefined) return Number(listening);
      await delay(PAUSE_MS);
    }
    throw new MeshError(
      "MESH_PORT_TAKEN",
      `the NATS server on ${host}:${port} did not start: ${output.trim()}`,
      "stop what listens there, or choose another port",
    );
  }

  async function stop(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    leader?.signal(signal);
    await exited;
  }

  async function close(): Promise<void> {
    leader?.signal("SIGCONT");
    await stop();
    await reaper.close();
    if (options.directory === undefined) await rm(directory, { recursive: true, force: true });
  }

  try {
    await start();
  } catch (error) {
    await stop("SIGKILL");
    await close();
    throw error;
  }
  return {
    host,
    get port() {
      return port;
    },
    get pid() {
      return leader?.pid;
    },
    get output() {
      return output;
    },
    stop,
    start,
    pause: () => leader?.signal("SIGSTOP"),
    resume: () => leader?.signal("SIGCONT"),
    close,
  };
}
