import { randomUUID } from "node:crypto";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { expect, it, onTestFinished } from "vitest";
import { urlOf } from "../../test/support/nats-cluster.js";
import { startNatsServer } from "../emulator/nats/nats-server.js";
import { readStream } from "./stream-reader.js";

async function startStream() {
  const server = await startNatsServer({ settings: { jetstream: { store_dir: "jetstream" } } });
  onTestFinished(() => server.close());
  const nats = await connect({ servers: urlOf(server) });
  onTestFinished(() => nats.close());
  const manager = await jetstreamManager(nats);
  const stream = `mesh-${randomUUID()}`;
  await manager.streams.add({ name: stream, subjects: [`${stream}.>`], max_msgs_per_subject: 1 });
  const ending = new AbortController();
  onTestFinished(() => ending.abort());
  const reading = readStream({ nats, manager }, { stream, subjects: `${stream}.>`, afterSequence: 0 }, ending.signal);
  return { nats, manager, stream, reading };
}

it("says that it was all when what was pending is gone before it is sent", async () => {
  const { nats, manager, stream, reading } = await startStream();
  await nats.request(`${stream}.a`, "1");
  const add = manager.consumers.add.bind(manager.consumers);
  manager.consumers.add = async (...options: Parameters<typeof add>) => {
    const info = await add(...options);
    expect(info.num_pending).toBe(1);
    await manager.streams.purge(stream);
    return info;
  };
  expect(await reading.next()).toEqual({ done: false, value: { entries: [], isLast: true, timeMs: 0 } });
  await nats.request(`${stream}.b`, "2");
  const { value } = (await reading.next()) as { value: { entries: readonly { key: string }[]; isLast: boolean } };
  expect(value).toMatchObject({ entries: [{ key: "b" }], isLast: true });
});
