/** `cf-mesh control` on a NATS server where as many endpoints are registered as there are routes, and again every 20 s. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { startNatsServer } from "../src/emulator/nats/nats-server.js";
import { KEY_SPACES } from "../src/entries/keys.js";
import { openEmbeddedLog } from "../src/log/embedded.js";
import type { MeshLog } from "../src/log/log.js";
import type { Measurement } from "./measurement.js";
import { canSeeProcesses, cpuSeconds, residentMemory } from "./process-usage.js";
import type { Stage } from "./stage.js";
import { hostAt } from "./synthetic.js";

const COMMAND_LINE = fileURLToPath(new URL("../src/cli/main.js", import.meta.url));
/** What Gorouter asks of publishers, and the mesh does. */
const INTERVAL_MS = 20_000;
const STEP_MS = 20;
const ROUND_PAUSE_MS = 1_000;
const START_TIMEOUT_MS = 60_000;
const MIB = 1_048_576;

export async function measureNats({ children, directory, routeCount, goals, signal }: Stage): Promise<Measurement[]> {
  const home = join(directory, "control");
  await mkdir(home, { mode: 0o700 });
  const log = await openEmbeddedLog({ directory: join(home, "log") });
  const nats = await startNatsServer();
  const server = `127.0.0.1:${nats.port}`;
  const publisher = await connect({ servers: server });
  try {
    const started = new Promise((resolve) => publisher.subscribe("router.start", { callback: resolve }));
    await publisher.flush();
    const configFile = join(home, "config.json");
    const config = { logLevel: "warn", log: { directory: join(home, "log") }, nats: { servers: [`nats://${server}`] } };
    await writeFile(configFile, JSON.stringify(config));
    const control = children.start(
      "control",
      process.execPath,
      [COMMAND_LINE, "control", "--config", configFile],
      home,
    );
    const either = AbortSignal.any([signal, control.ended]);
    await Promise.race([started, delay(START_TIMEOUT_MS, undefined, { signal: either })]);

    const cpu = async () => (canSeeProcesses ? cpuSeconds(control.pid) : 0);
    const startSeconds = await cpu();
    const startedMs = performance.now();
    const written = untilWritten(log, routeCount, either).then(() => true);
    let rounds = 0;
    let isWritten = false;
    // As publishers do, who do not hear whether a message was lost.
    while (!isWritten) {
      await publishRound(publisher, routeCount, either);
      rounds += 1;
      isWritten = await Promise.race([written, delay(ROUND_PAUSE_MS, false, { signal: either })]);
    }
    const firstMs = performance.now() - startedMs;
    const firstSeconds = (await cpu()) - startSeconds;

    const sequence = await log.lastSequence();
    const refreshStartedMs = performance.now();
    const beforeSeconds = await cpu();
    await publishRound(publisher, routeCount, either);
    // Whoever answers has taken what was said before.
    await publisher.request("router.greet", undefined, { timeout: INTERVAL_MS });
    const cores = ((await cpu()) - beforeSeconds) / ((performance.now() - refreshStartedMs) / 1_000);
    const writes = (await log.lastSequence()) - sequence;
    const memory = canSeeProcesses ? (await residentMemory(control.pid)).totalBytes / MIB : 0;
    await control.stop();
    const perRound = `${routeCount.toLocaleString("en")} messages in ${INTERVAL_MS / 1_000} s`;
    return [
      {
        what: "NATS: all registered anew, until in the log",
        value: firstMs,
        unit: "ms",
        note: `${perRound}; rounds: ${rounds}`,
      },
      ...(canSeeProcesses
        ? [
            { what: "NATS: CPU of that", value: firstSeconds, unit: "s" },
            { what: "NATS: renewing all, cores", value: cores, unit: "", goal: goals.renewalCores, note: perRound },
            { what: "NATS: memory of control", value: memory, unit: "MiB", note: "resident, after that" },
          ]
        : []),
      { what: "NATS: writes by renewing all", value: writes, unit: "", note: "to be 0" },
    ];
  } finally {
    await publisher.close();
    await nats.close();
    await log.close();
  }
}

/** Publishes one message per endpoint, evenly over the interval. */
async function publishRound(publisher: NatsConnection, count: number, signal: AbortSignal): Promise<void> {
  const startedMs = performance.now();
  let sent = 0;
  while (sent < count) {
    const due = Math.min(count, Math.ceil((count * (performance.now() - startedMs)) / INTERVAL_MS));
    for (; sent < due; sent += 1) publisher.publish("router.register", message(sent));
    await publisher.flush();
    await delay(STEP_MS, undefined, { signal });
  }
}

/** As route-emitter writes it for an app's instance. */
function message(index: number): string {
  const guid = `5a1c0f6e-7f0e-4c0b-9a53-${String(index).padStart(12, "0")}`;
  return JSON.stringify({
    host: `10.${(index >> 16) & 255}.${(index >> 8) & 255}.${index & 255}`,
    port: 61_000,
    tls_port: 61_001,
    uris: [hostAt(index)],
    app: guid,
    private_instance_id: guid,
    private_instance_index: "0",
    server_cert_domain_san: guid,
    availability_zone: "z1",
    endpoint_updated_at_ns: 1_772_366_400_000_000,
    tags: {
      app_id: guid,
      app_name: hostAt(index),
      component: "route-emitter",
      instance_id: "0",
      organization_name: "org-1",
      process_id: guid,
      process_type: "web",
      source_id: guid,
      space_name: "space-1",
    },
  });
}

async function untilWritten(log: MeshLog, count: number, signal: AbortSignal): Promise<void> {
  const keys = new Set<string>();
  for await (const { entries } of log.follow(0, signal)) {
    for (const { key } of entries) if (key.startsWith(KEY_SPACES.natsRegistrations)) keys.add(key);
    if (keys.size >= count) return;
  }
  signal.throwIfAborted();
}
