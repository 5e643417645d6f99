/** Programs that the benchmarks start; they end with this process, however it ends. */
import { once } from "node:events";
import { createInterface } from "node:readline";
import { asError } from "../src/lib/errors.js";
import { type GroupLeader, Reaper } from "../src/lib/reaper.js";

const STOP_TIMEOUT_MS = 20_000;
const TAIL_CHARACTERS = 4_000;

export interface Child {
  readonly pid: number;
  /** Aborts, with what the program printed last, when it ends unasked. */
  readonly ended: AbortSignal;
  /** The first line of its standard output. */
  readonly firstLine: Promise<string>;
  /** SIGTERM, and SIGKILL for one that does not heed it; resolves when it is gone. */
  stop(): Promise<void>;
}

export class Children {
  readonly #reaper = new Reaper();

  start(
    name: string,
    program: string,
    args: readonly string[],
    cwd: string,
    environment: NodeJS.ProcessEnv = {},
  ): Child {
    const leader = this.#reaper.spawn(program, args, { cwd, env: { ...process.env, ...environment } });
    if (leader.pid === undefined) throw new Error(`${name} can't be started: ${program}`);
    const ended = new AbortController();
    let tail = "";
    for (const stream of [leader.stdout, leader.stderr]) {
      stream.on("data", (bytes: Buffer) => {
        tail = (tail + bytes.toString()).slice(-TAIL_CHARACTERS);
      });
    }
    let isAsked = false;
    const closed = once(leader.process, "close").then(() => {
      if (!isAsked) ended.abort(new Error(`${name} ended unasked; the last it said:\n${tail}`));
    });
    return {
      pid: leader.pid,
      ended: ended.signal,
      firstLine: firstLine(leader, ended.signal),
      async stop() {
        isAsked = true;
        leader.signal("SIGTERM");
        const killer = setTimeout(() => leader.signal("SIGKILL"), STOP_TIMEOUT_MS);
        await closed;
        clearTimeout(killer);
      },
    };
  }

  /** Kills what is left. */
  async close(): Promise<void> {
    await this.#reaper.close();
  }
}

function firstLine({ stdout }: GroupLeader, ended: AbortSignal): Promise<string> {
  const line = once(createInterface(stdout), "line", { signal: ended }).then(
    ([text]) => String(text),
    () => Promise.reject(asError(ended.reason)),
  );
  // Not everybody asks for it.
  line.catch(() => undefined);
  return line;
}
