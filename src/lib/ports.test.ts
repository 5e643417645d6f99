import { createServer } from "node:net";
import { expect, it, onTestFinished } from "vitest";
import { requireFreePort } from "./ports.js";

const SETTINGS = { port: "--port", host: "--host" };

it("lets a free port pass, and says which setting to change when somebody listens there", async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  const { port } = server.address() as { port: number };
  await expect(requireFreePort("127.0.0.1", port, SETTINGS)).rejects.toThrow(
    /MESH_PORT_TAKEN.*another process listens there.*\n.*--port/,
  );
  await new Promise((resolve) => server.close(resolve));
  await requireFreePort("127.0.0.1", port, SETTINGS);
});

it("says that an address is not this machine's", async () => {
  // Of a network that is kept for documentation.
  await expect(requireFreePort("203.0.113.1", 8080, SETTINGS)).rejects.toThrow(
    /MESH_CONFIG_INVALID.*203\.0\.113\.1 is no address of this machine.*\n.*--host/,
  );
});
