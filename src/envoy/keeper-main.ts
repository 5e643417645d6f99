/** The keeper's process: `node keeper-main.js '<KeeperOptions as JSON>'`, started by the agent. */
import { closeSync, writeSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { createLogger } from "../lib/logger.js";
import { startKeeper } from "./keeper.js";
import { RotatingFile } from "./rotating-file.js";

const KeeperOptionsSchema = z.strictObject({
  runDirectory: z.string(),
  orphanTimeoutMs: z.number(),
  stopGraceMs: z.number(),
  maxLogBytes: z.number(),
});

/** The agent waits on this pipe for a line that says that the keeper's socket is there. */
const READY_DESCRIPTOR = 3;

process.title = "cf-mesh-keeper";
// What Envoy and the keeper make is for their own user only.
process.umask(0o077);
const options = KeeperOptionsSchema.parse(JSON.parse(process.argv[2] ?? "{}"));
const log = new RotatingFile(join(options.runDirectory, "keeper.log"), options.maxLogBytes);
const logger = createLogger("info", log);

const keeper = await startKeeper(options, logger);
process.once("uncaughtException", (error) => {
  logger.fatal({ err: error }, "the keeper fails; Envoy ends with it, and the agent starts both anew");
  process.exit(1);
});
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => keeper?.stop());
try {
  writeSync(READY_DESCRIPTOR, "ready\n");
  closeSync(READY_DESCRIPTOR);
} catch (error) {
  logger.warn({ err: error }, "the agent that started this keeper is gone");
}
await keeper?.ended;
