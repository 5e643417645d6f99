import { createServer } from "node:net";

/**
 * Ports below those that the system gives to connections and to who asks for any: nobody gets one of them by chance
 * between this look and its use. Each process of the test run has a part of its own.
 */
const FIRST = 10_000;
const PART = 2_000;
const PARTS = 11;

const part = FIRST + (Number(process.env["VITEST_POOL_ID"] ?? 0) % PARTS) * PART;
let next = Math.floor(Math.random() * PART);

/** A loopback port that nobody listens on, and that no other call in this test run returns soon. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < PART; tries += 1) {
    const port = part + next;
    next = (next + 1) % PART;
    if (await isFree(port)) return port;
  }
  throw new Error("no port is free");
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  const isListening = await new Promise<boolean>((resolve) => {
    server.once("error", () => resolve(false)).listen(port, "127.0.0.1", () => resolve(true));
  });
  await new Promise((resolve) => server.close(resolve));
  return isListening;
}
