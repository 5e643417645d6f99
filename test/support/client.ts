/** Requests through the router, as clients make them. */
import { Agent, type IncomingHttpHeaders, request } from "node:http";
import { buffer } from "node:stream/consumers";

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** What a sample app answers. */
  readonly json: SampleAnswer;
}

export interface SampleAnswer {
  readonly app: string;
  readonly index: number;
  readonly guid: string;
  readonly url: string;
  readonly method: string;
  readonly httpVersion: string;
  readonly headers: Readonly<Record<string, string | undefined>>;
}

export interface RequestOptions {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer | string;
}

/** A client that keeps its connections: `connections` at most, so that one means one Envoy worker. */
export class Client {
  readonly #port: number;
  readonly #agent: Agent;

  constructor(port: number, connections = 1) {
    this.#port = port;
    this.#agent = new Agent({ keepAlive: true, maxSockets: connections });
  }

  async get(host: string, path = "/", options: RequestOptions = {}): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const call = request({
        host: "127.0.0.1",
        port: this.#port,
        path,
        method: options.method ?? "GET",
        agent: this.#agent,
        headers: { host, ...options.headers },
      });
      call.once("error", reject);
      call.once("response", (response) => {
        buffer(response).then((body) => {
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body,
            get json() {
              return JSON.parse(body.toString()) as SampleAnswer;
            },
          });
        }, reject);
      });
      call.end(options.body);
    });
  }

  /** Requests one after the other; how many each app answered, others under their status. */
  async shares(host: string, { count = 100, path = "/" } = {}): Promise<Readonly<Record<string, number>>> {
    const tally: Record<string, number> = {};
    for (let sent = 0; sent < count; sent += 1) {
      const answer = await this.get(host, path);
      const name = answer.status === 200 ? answer.json.app : String(answer.status);
      tally[name] = (tally[name] ?? 0) + 1;
    }
    return tally;
  }

  close(): void {
    this.#agent.destroy();
  }
}

export interface LoadReport {
  readonly total: number;
  /** What was not a 200, as a text each. */
  readonly failures: readonly string[];
  readonly apps: ReadonlySet<string>;
}

/** Steady requests from several connections until stopped; each waits for its answer before the next. */
export function startLoad(port: number, host: string, connections = 4): { stop(): Promise<LoadReport> } {
  const client = new Client(port, connections);
  const failures: string[] = [];
  const apps = new Set<string>();
  let total = 0;
  let stopped = false;
  const run = async () => {
    while (!stopped) {
      total += 1;
      try {
        const answer = await client.get(host);
        if (answer.status === 200) apps.add(answer.json.app);
        else failures.push(`${answer.status} ${answer.body.toString()}`);
      } catch (error) {
        failures.push(String(error));
      }
    }
  };
  const running = Promise.all(Array.from({ length: connections }, run));
  return {
    async stop() {
      stopped = true;
      await running;
      client.close();
      return { total, failures, apps };
    },
  };
}
