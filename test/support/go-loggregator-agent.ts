/** The server of go-loggregator's own code, as a process: test/loggregator-agent, which scripts/setup --for-tests builds. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { z } from "zod";
import { PACKAGE_ROOT } from "../../src/lib/package-root.js";
import { eventually } from "./eventually.js";

const EnvelopeSchema = z.object({
  timestamp: z.number(),
  sourceId: z.string(),
  instanceId: z.string(),
  tags: z.record(z.string(), z.string()),
  type: z.string(),
  payload: z.string(),
});
export type GoEnvelope = z.infer<typeof EnvelopeSchema>;

/** undefined where it was not built: there is no Go. */
export function goLoggregatorAgent(): string | undefined {
  const program = join(PACKAGE_ROOT, ".tools", "bin", "loggregator-agent");
  return existsSync(program) ? program : undefined;
}

/** Paths of PEM files: who may sign certificates of clients, and what the server shows. */
export interface GoAgentFiles {
  readonly clientCa: string;
  readonly certificate: string;
  readonly key: string;
}

export class GoLoggregatorAgent {
  /** "127.0.0.1:41234" */
  readonly address: string;
  readonly envelopes: readonly GoEnvelope[];
  readonly #process: ChildProcess;

  private constructor(address: string, envelopes: readonly GoEnvelope[], child: ChildProcess) {
    this.address = address;
    this.envelopes = envelopes;
    this.#process = child;
  }

  /** To be ended by the test that started it. */
  static async start(
    program: string,
    { clientCa, certificate, key }: GoAgentFiles,
    address = "127.0.0.1:0",
  ): Promise<GoLoggregatorAgent> {
    // It ends when its standard input does.
    const child = spawn(program, [address, clientCa, certificate, key], { stdio: ["pipe", "pipe", "inherit"] });
    const lines = createInterface({ input: child.stdout });
    const [bound] = (await once(lines, "line")) as [string];
    const envelopes: GoEnvelope[] = [];
    lines.on("line", (line) => void envelopes.push(EnvelopeSchema.parse(JSON.parse(line))));
    return new GoLoggregatorAgent(bound, envelopes, child);
  }

  /** The envelope whose line has this in it. */
  envelopeOf(mark: string): Promise<GoEnvelope> {
    return eventually(() => this.envelopes.find(({ payload }) => payload.includes(mark)));
  }

  /** As a process that hangs: its connections stand. */
  suspend(): void {
    this.#process.kill("SIGSTOP");
  }

  resume(): void {
    this.#process.kill("SIGCONT");
  }

  async kill(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    this.#process.kill("SIGKILL");
    await once(this.#process, "exit");
  }
}
