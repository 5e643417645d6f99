/** Bytes as they are on the wire. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { eventually } from "./eventually.js";

/** A connection whose answers are text as it came. */
export class RawConnection {
  readonly socket: Socket;
  #received = "";

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.setEncoding("latin1");
    socket.on("data", (text: string) => {
      this.#received += text;
    });
    socket.on("error", () => undefined);
  }

  static async open(port: number): Promise<RawConnection> {
    const socket = connect(port, "127.0.0.1");
    await once(socket, "connect");
    return new RawConnection(socket);
  }

  get received(): string {
    return this.#received;
  }

  get isOpen(): boolean {
    return !this.socket.closed && !this.socket.readableEnded;
  }

  /** Lines without their ends. */
  send(...lines: readonly string[]): void {
    this.socket.write(lines.map((line) => `${line}\r\n`).join(""));
  }

  /** Resolves with all that was received once it matches. */
  async until(pattern: RegExp): Promise<string> {
    return eventually(() => (pattern.test(this.#received) ? this.#received : undefined));
  }

  async untilClosed(): Promise<string> {
    await eventually(() => !this.isOpen);
    return this.#received;
  }

  close(): void {
    this.socket.destroy();
  }
}

/** One request on a connection of its own, which the answer has to end. */
export async function rawRequest(port: number, ...lines: readonly string[]): Promise<string> {
  const connection = await RawConnection.open(port);
  connection.send(...lines, "");
  try {
    return await connection.untilClosed();
  } finally {
    connection.close();
  }
}
