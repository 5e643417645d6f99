/** Apps within the test's own process, behind a test router: what they answer is up to the test. */
import { once } from "node:events";
import { createServer, type RequestListener, type Server } from "node:http";
import { type AddressInfo, createServer as createTcpServer, type Server as TcpServer, type Socket } from "node:net";
import { encodeProcess, encodeRoute } from "../../src/entries/entries.js";
import { eventually } from "./eventually.js";
import { freePort } from "./free-port.js";
import type { TestRouter } from "./router.js";

export class TestApps {
  readonly #router: TestRouter;
  readonly #servers: (Server | TcpServer)[] = [];
  readonly #sockets = new Set<Socket>();

  constructor(router: TestRouter) {
    this.#router = router;
  }

  /** An HTTP app with one instance, `<name>-0`. Returns its host, which is served. */
  async http(name: string, listener: RequestListener): Promise<string> {
    return this.at(name, [await this.#listen(createServer(listener))]);
  }

  /** An app that is given the connection itself. */
  async tcp(name: string, onConnection: (socket: Socket) => void): Promise<string> {
    return this.at(name, [await this.#listen(createTcpServer(onConnection))]);
  }

  /** An app whose only instance refuses connections. */
  async dead(name: string): Promise<string> {
    return this.at(name, [await freePort()]);
  }

  /** Takes an app's instances away; its route stays. */
  async empty(name: string): Promise<void> {
    await this.#router.log.append([{ key: `process.bbs.${name}`, value: encodeProcess({ processGuid: name }) }]);
  }

  /** An app with instances at these ports of this machine. */
  async at(name: string, ports: readonly number[], path = ""): Promise<string> {
    const host = `${name}.example.com`;
    const instances = ports.map((port, index) => ({
      guid: `${name}-${index}`,
      index,
      address: "127.0.0.1",
      ports: [{ containerPort: 8080, hostPort: port }],
    }));
    await this.#router.log.append([
      { key: `process.bbs.${name}`, value: encodeProcess({ processGuid: name, appGuid: `${name}-app`, instances }) },
      {
        key: `route.cc.${name}`,
        value: encodeRoute({
          guid: name,
          host,
          path,
          destinations: [{ processGuid: name, appGuid: `${name}-app`, port: 8080, protocol: "http1" }],
        }),
      },
    ]);
    await eventually(async () => {
      const answer = await this.#router.client.get(host, path === "" ? "/" : path);
      return answer.headers["x-cf-routererror"] !== "unknown_route";
    });
    return host;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(
      this.#servers.map(async (server) => {
        server.close();
        await once(server, "close");
      }),
    );
  }

  async #listen(server: Server | TcpServer): Promise<number> {
    server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
      socket.on("error", () => undefined);
    });
    this.#servers.push(server);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return (server.address() as AddressInfo).port;
  }
}
