/**
 * Loaded into the agent (`node --expose-gc --import`): whoever connects to the unix socket in CF_MESH_BENCH_PROBE is told,
 * as JSON, what a full garbage collection leaves in use.
 */
import { createServer } from "node:net";

/** In bytes. */
export interface CollectedMemory {
  readonly heapUsed: number;
}

const server = createServer((socket) => {
  globalThis.gc?.();
  const { heapUsed } = process.memoryUsage();
  socket.end(JSON.stringify({ heapUsed } satisfies CollectedMemory));
});
server.listen(process.env["CF_MESH_BENCH_PROBE"]);
server.unref();
