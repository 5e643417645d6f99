/** A piece of network between two processes that may fail: a TCP proxy whose connections can be cut, or fall silent. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

export class Link {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #state: "cut" | "open" | "silent" = "open";

  private constructor(host: string, port: number) {
    this.#server = createServer({ allowHalfOpen: true }, (near) => {
      if (this.#state === "cut") {
        near.on("error", () => undefined).resetAndDestroy();
        return;
      }
      const far = connect({ host, port, allowHalfOpen: true });
      this.#join(near, far);
      this.#join(far, near);
    });
  }

  static async to(url: URL): Promise<Link> {
    const link = new Link(url.hostname, Number(url.port));
    link.#server.listen(0, "127.0.0.1");
    await once(link.#server, "listening");
    return link;
  }

  /** The same URL, by this way. */
  via(url: URL): string {
    const { port } = this.#server.address() as AddressInfo;
    return `${url.protocol}//127.0.0.1:${port}`;
  }

  /** All connections end, and none is made. */
  cut(): void {
    this.#state = "cut";
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** Nothing comes through, as with a firewall that drops packets. */
  silence(): void {
    this.#state = "silent";
    for (const socket of this.#sockets) socket.pause();
  }

  mend(): void {
    this.#state = "open";
    for (const socket of this.#sockets) socket.resume();
  }

  async close(): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, "close");
  }

  #join(from: Socket, to: Socket): void {
    this.#sockets.add(from);
    from.on("error", () => undefined);
    from.once("close", () => {
      this.#sockets.delete(from);
      to.destroy();
    });
    from.on("data", (bytes) => to.write(bytes));
    from.once("end", () => to.end());
    if (this.#state === "silent") from.pause();
  }
}
