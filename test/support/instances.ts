/** Instances of apps as small HTTP servers, and the entries that tell of them. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { encodeProcess, encodeRoute, type RouteInit } from "../../src/entries/entries.js";

export interface RunningInstance {
  readonly guid: string;
  readonly port: number;
  readonly availabilityZone?: string;
}

/** Answers with the name of the instance, and the headers that it got. */
export const sampleAnswer = (guid: string, request: IncomingMessage) =>
  JSON.stringify({ app: guid, headers: request.headers, method: request.method });

/** Servers that a test starts, to be closed when it ends. */
export class Instances {
  readonly #servers: Server[] = [];

  /** One that answers as `listener` does; by default with sampleAnswer. */
  async start(guid: string, listener?: RequestListener): Promise<RunningInstance> {
    const server = createServer(listener ?? ((request, response) => response.end(sampleAnswer(guid, request))));
    return { guid, port: await this.listen(server) };
  }

  startAll(
    guids: readonly string[],
    listener?: (guid: string) => RequestListener,
  ): Promise<readonly RunningInstance[]> {
    return Promise.all(guids.map((guid) => this.start(guid, listener?.(guid))));
  }

  /** Returns  the port that it listens on. */
  async listen(server: Server): Promise<number> {
    this.#servers.push(server);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return (server.address() as AddressInfo).port;
  }

  close(): void {
    for (const server of this.#servers) {
      server.close();
      server.closeAllConnections();
    }
  }
}

/** The entry of a process; its instances have the indexes 0, 1 and so on. */
export function processEntry(processGuid: string, instances: readonly RunningInstance[], appGuid = "") {
  return {
    key: `process.bbs.${processGuid}`,
    value: encodeProcess({
      processGuid,
      appGuid,
      instances: instances.map(({ guid, port, availabilityZone = "" }, index) => ({
        guid,
        index,
        availabilityZone,
        address: "127.0.0.1",
        ports: [{ containerPort: 8080, hostPort: port }],
      })),
    }),
  };
}

/** The entry of a route "<name>.example.com"; leads to the process of that name unless `init` says otherwise. */
export function routeEntry(name: string, init: RouteInit = {}) {
  return {
    key: `route.cc.${name}`,
    value: encodeRoute({ guid: name, host: `${name}.example.com`, destinations: [destination(name)], ...init }),
  };
}

export const destination = (processGuid: string, { weight = 0, protocol = "http1" } = {}) => ({
  processGuid,
  weight,
  port: 8080,
  protocol,
});
