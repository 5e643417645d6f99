/** A router alone, for tests that write entries themselves: an embedded log, the agent, and a real Envoy. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RouterSchema } from "../../src/config/router.js";
import { Credentials } from "../../src/jobs/credentials.js";
import { type Router, startRouter } from "../../src/jobs/router.js";
import { type Logger, silentLogger } from "../../src/lib/logger.js";
import { openEmbeddedLog } from "../../src/log/embedded.js";
import type { MeshLog } from "../../src/log/log.js";
import { Client } from "./client.js";
import { freePort } from "./free-port.js";

export interface TestRouter {
  readonly log: MeshLog;
  /** The latest one. */
  readonly router: Router;
  readonly port: number;
  /** Those of its configuration; looked at often. */
  readonly credentials: Credentials;
  /** Where the files of its configuration are, by their names. */
  readonly path: (file: string) => string;
  /** One connection. */
  readonly client: Client;
  /** Ends the agent, does `meanwhile`, and starts another one over the same Envoy. */
  restartAgent(meanwhile?: () => Promise<void>): Promise<void>;
  stop(): Promise<void>;
}

export interface TestRouterOptions {
  /** Files that the configuration is to name, by name; `config` gets their paths. */
  readonly files?: Readonly<Record<string, string>>;
  /** Keys of the router's section beyond those that every test has. */
  readonly config?: (path: (file: string) => string) => object;
  /** Default: nobody hears what the router says. */
  readonly logger?: Logger;
}

const LOOK_MS = 50;

/** To be stopped by the test that started it. */
export async function startTestRouter({
  files = {},
  config,
  logger = silentLogger,
}: TestRouterOptions = {}): Promise<TestRouter> {
  const directory = await mkdtemp(join(tmpdir(), "cf-mesh-"));
  const path = (file: string) => join(directory, file);
  for (const [file, content] of Object.entries(files)) await writeFile(path(file), content);
  const log = await openEmbeddedLog({ directory: path("log") });
  const port = await freePort();
  const section = RouterSchema.parse({
    listenAddress: "127.0.0.1",
    port,
    runDirectory: path("run"),
    concurrency: 1,
    drainWaitMs: 0,
    drainTimeMs: 0,
    orphanTimeoutMs: 2_000,
    ...config?.(path),
  });
  const clean = async () => {
    await credentials.close();
    await log.close();
    await rm(directory, { recursive: true, force: true });
  };
  const credentials = new Credentials(logger, LOOK_MS);
  const start = () => startRouter(section, { log, isShared: false }, credentials, logger);
  let router = await start().catch(async (error: unknown) => {
    await clean();
    throw error;
  });
  const client = new Client(port);
  return {
    log,
    path,
    get router() {
      return router;
    },
    port,
    credentials,
    client,
    async restartAgent(meanwhile) {
      await router.detach();
      try {
        await meanwhile?.();
      } finally {
        router = await start();
      }
    },
    async stop() {
      client.close();
      await router.stop();
      await clean();
    },
  };
}
