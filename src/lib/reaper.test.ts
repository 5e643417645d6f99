import { spawn } from "node:child_process";
import { EventEmitter, on, once } from "node:events";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { describe, expect, it, onTestFinished } from "vitest";
import { built } from "../../test/support/built.js";
import { type GroupLeader, Reaper } from "./reaper.js";

/** Processes hold a connection to it for as long as they live. */
class Roll {
  readonly #events = new EventEmitter();
  readonly #server = createServer((socket) => {
    socket.on("error", () => undefined);
    this.present.add(socket);
    socket.on("close", () => {
      this.present.delete(socket);
      this.#events.emit("changed");
    });
    this.#events.emit("changed");
  });
  readonly present = new Set<Socket>();

  async open(): Promise<this> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    onTestFinished(() => {
      this.#server.close();
      for (const socket of this.present) socket.destroy();
    });
    return this;
  }

  async count(wanted: number): Promise<void> {
    const changes = on(this.#events, "changed");
    while (this.present.size !== wanted) await changes.next();
    await changes.return?.();
  }

  /** Shell words: two processes of one group, both connected, the leader deaf to SIGTERM. */
  get command(): readonly [string, string[]] {
    const { port } = this.#server.address() as AddressInfo;
    const member = `'${process.execPath}' -e 'require("net").connect(${port}, "127.0.0.1")'`;
    return ["/bin/sh", ["-c", `trap "" TERM; ${member} & ${member}; wait`]];
  }
}

const options = { cwd: tmpdir(), env: { PATH: process.env["PATH"] } };

async function exitOf(leader: GroupLeader): Promise<{ code: number | null; signal: string | null }> {
  const [code, signal] = (await once(leader.process, "exit")) as [number | null, string | null];
  return { code, signal };
}

describe("reaper", () => {
  it("kills whole process groups when their parent is killed with SIGKILL", async () => {
    const roll = await new Roll().open();
    const [program, args] = roll.command;
    const script = `
      import { Reaper } from ${JSON.stringify(built("src/lib/reaper.ts"))};
      const reaper = new Reaper();
      for (let i = 0; i < 2; i++) reaper.spawn(...${JSON.stringify([program, args, options])});
    `;
    const parent = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: "inherit" });
    onTestFinished(() => void parent.kill("SIGKILL"));
    await roll.count(4);
    parent.kill("SIGKILL");
    await roll.count(0);
  });

  it("does so after its helper was killed, too", async () => {
    const roll = await new Roll().open();
    const [program, args] = roll.command;
    const script = `
      import { spawnSync } from "node:child_process";
      import { Reaper } from ${JSON.stringify(built("src/lib/reaper.ts"))};
      const reaper = new Reaper();
      const helper = () => spawnSync("pgrep", ["-P", String(process.pid), "-f", "groups="])
        .stdout.toString().split("\\n").map(Number).find((pid) => pid > 0 && pid !== first);
      let first;
      first = helper();
      process.kill(first, "SIGKILL");
      const replaced = setInterval(() => {
        if (helper() === undefined) return;
        clearInterval(replaced);
        reaper.spawn(...${JSON.stringify([program, args, options])});
      }, 10);
    `;
    const parent = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: "inherit" });
    onTestFinished(() => void parent.kill("SIGKILL"));
    await roll.count(2);
    parent.kill("SIGKILL");
    await roll.count(0);
  });

  it("kills what is left of a group when its leader ends, and leaves other groups alone", async () => {
    const roll = await new Roll().open();
    const reaper = new Reaper();
    onTestFinished(() => reaper.close());
    const [program, args] = roll.command;
    const leader = reaper.spawn(program, args, options);
    reaper.spawn(program, args, options);
    await roll.count(4);
    leader.process.kill("SIGKILL");
    await roll.count(2);
    await reaper.close();
    await roll.count(0);
  });

  it("tells of a program's own end, and of one that can't be executed", async () => {
    const reaper = new Reaper();
    onTestFinished(() => reaper.close());
    expect(await exitOf(reaper.spawn("/bin/sh", ["-c", "exit 7"], options))).toEqual({ code: 7, signal: null });
    expect(await exitOf(reaper.spawn("/no/such/program", [], options))).toEqual({ code: 127, signal: null });
    const nowhere = reaper.spawn("/bin/sh", [], { ...options, cwd: "/no/such/folder" });
    await expect(exitOf(nowhere)).rejects.toMatchObject({ code: "ENOENT" });
  });

  it("does not keep a process alive that has nothing else to do", async () => {
    const script = `
      import { Reaper } from ${JSON.stringify(built("src/lib/reaper.ts"))};
      new Reaper();
    `;
    const parent = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: "inherit" });
    expect(await once(parent, "exit")).toEqual([0, null]);
  });
});
