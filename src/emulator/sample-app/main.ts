/**
 * The sample app as a process: `node main.js [greeting]`, as the platform starts it. Reads PORT, VCAP_APPLICATION and
 * the CF_INSTANCE_* variables; GREETING is for those who can't change the arguments. SIGTERM drains it.
 */
import { startSampleApp } from "./app.js";

const DEFAULT_LAME_DUCK_MS = 1_000;

const { env } = process;
const application = JSON.parse(env["VCAP_APPLICATION"] ?? "{}") as { name?: string };
const greeting = process.argv[2] ?? env["GREETING"] ?? "hello";
const app = await startSampleApp({
  // The container's own address: all that Cloud Foundry dials. Loopback outside of it.
  host: env["CF_INSTANCE_INTERNAL_IP"] ?? "127.0.0.1",
  port: Number(env["PORT"] ?? 8_080),
  app: application.name ?? greeting,
  greeting,
  index: Number(env["CF_INSTANCE_INDEX"] ?? 0),
  guid: env["CF_INSTANCE_GUID"] ?? "",
  lameDuckMs: Number(env["LAME_DUCK_MS"] ?? DEFAULT_LAME_DUCK_MS),
});
process.stdout.write(`${greeting}: listening on port ${app.port}\n`);
process.once("SIGTERM", () => {
  process.stdout.write(`${greeting}: draining\n`);
  void app.drain().then(() => process.exit(0));
});
