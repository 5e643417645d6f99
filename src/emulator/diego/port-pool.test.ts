import { once } from "node:events";
import { createServer } from "node:net";
import { describe, expect, it, onTestFinished } from "vitest";
import { PortPool } from "./port-pool.js";

const HOST = "127.0.0.1";

describe("port pool", () => {
  it("gives a port that was released to nobody until the others had their turn", async () => {
    const pool = new PortPool(HOST);
    const first = await pool.take();
    pool.release(first);
    const second = await pool.take();
    expect(second).not.toBe(first);
    expect(await pool.take()).not.toBe(first);
  });

  it("passes over ports that somebody listens on", async () => {
    const pool = new PortPool(HOST);
    const next = (await pool.take()) + 1;
    const other = createServer().listen(next > 65_534 ? 61_001 : next, HOST);
    // An error says that somebody else listens there already, which will do.
    await once(other, "listening").catch(() => undefined);
    onTestFinished(() => void other.close());
    expect(await pool.take()).not.toBe(next);
  });
});
