import { connect } from "@nats-io/transport-node";
import { afterEach, describe, expect, it } from "vitest";
import { type NatsServer, startNatsServer } from "./nats-server.js";

let server: NatsServer | undefined;
afterEach(async () => {
  await server?.close();
  server = undefined;
});

describe("a NATS server for a foundation", () => {
  it("carries messages, with the settings that it was given", async () => {
    server = await startNatsServer({ settings: { authorization: { user: "nats", password: "secret" } } });
    const client = await connect({ servers: `127.0.0.1:${server.port}`, user: "nats", pass: "secret" });
    const subscription = client.subscribe("greeting", { max: 1 });
    client.publish("greeting", "hello");
    for await (const message of subscription) expect(message.string()).toBe("hello");
    await client.close();
    await expect(connect({ servers: `127.0.0.1:${server.port}`, reconnect: false })).rejects.toThrow(/authorization/i);
  });

  it("comes back on the same port after it was killed", async () => {
    server = await startNatsServer();
    const { port } = server;
    await server.stop("SIGKILL");
    expect(server.pid).toBeUndefined();
    await server.start();
    expect(server.port).toBe(port);
    await (await connect({ servers: `127.0.0.1:${port}` })).close();
  });

  it("says what keeps it from starting", async () => {
    server = await startNatsServer();
    await expect(startNatsServer({ port: server.port })).rejects.toThrow(/MESH_PORT_TAKEN.*address already in use/s);
  });
});
