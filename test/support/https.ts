/** A router of HTTPS, and its clients. */
import { once } from "node:events";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import type { IncomingMessage } from "node:http";
import { Agent, request } from "node:https";
import { text } from "node:stream/consumers";
import { connect as connectTls, type ConnectionOptions } from "node:tls";
import type { Certificates } from "../../src/emulator/certificates.js";
import { freePort } from "./free-port.js";
import { startTestRouter, type TestRouter } from "./router.js";
import { TestApps } from "./test-apps.js";

export interface HttpsRouterOptions {
  /** Names of the router's certificates; their files are NAME.crt and NAME.key, those of "*.a.b" a.b.crt and a.b.key. */
  readonly names?: readonly string[];
  /** Keys of the section beyond the keypairs; the CA of clients is in clients-ca.crt. */
  readonly tls?: (path: (file: string) => string) => object;
  readonly http?: object;
  /** Keys of the router's section beyond these. */
  readonly router?: (path: (file: string) => string) => object;
  /** Files that the keys name, beyond those of the certificates. */
  readonly files?: Readonly<Record<string, string>>;
}

export interface Asked extends ConnectionOptions {
  readonly headers?: Readonly<Record<string, string>>;
}

/** One GET on a connection of its own. Rejects when there is no answer. */
export async function getByTls(host: string, { headers, ...options }: Asked) {
  const agent = new Agent({ maxCachedSessions: 0 });
  try {
    const call = request({ ...options, agent, headers: { host, ...headers } });
    call.end();
    const [response] = (await once(call, "response")) as [IncomingMessage];
    const body = await text(response);
    const answered = response.statusCode === 200 ? (JSON.parse(body) as { headers?: Record<string, string> }) : {};
    return { status: response.statusCode, headers: response.headers, body, got: answered.headers ?? {} };
  } finally {
    agent.destroy();
  }
}

export class HttpsRouter {
  readonly router: TestRouter;
  readonly apps: TestApps;
  readonly tlsPort: number;
  readonly #client: ConnectionOptions;

  private constructor(router: TestRouter, tlsPort: number, ca: string) {
    this.router = router;
    this.apps = new TestApps(router);
    this.tlsPort = tlsPort;
    this.#client = {
      ...{ host: "127.0.0.1", port: tlsPort, ca, servername: "one.example.com" },
      checkServerIdentity: () => undefined,
    };
  }

  static async start(certificates: Certificates, options: HttpsRouterOptions = {}): Promise<HttpsRouter> {
    const { names = ["one.example.com"], tls, http = {}, router: more } = options;
    const tlsPort = await freePort();
    const pairs = await Promise.all(
      names.map(async (name) => {
        const { certificate, key } = await certificates.issue({ commonName: name, dnsNames: [name] });
        const file = name.replace("*.", "");
        return { files: { [`${file}.crt`]: certificate, [`${file}.key`]: key }, file };
      }),
    );
    const files: Record<string, string> = { "clients-ca.crt": certificates.ca, ...options.files };
    const router = await startTestRouter({
      files: Object.assign(files, ...pairs.map((pair) => pair.files)) as Record<string, string>,
      config: (path) => ({
        http,
        tls: {
          port: tlsPort,
          keypairs: pairs.map(({ file }) => ({ certificateFile: path(`${file}.crt`), keyFile: path(`${file}.key`) })),
          ...tls?.(path),
        },
        ...more?.(path),
      }),
    });
    return new HttpsRouter(router, tlsPort, certificates.ca);
  }

  /** An app that answers with the headers it got. Returns its host. */
  async echo(): Promise<string> {
    return this.apps.http("app", (incoming, response) => response.end(JSON.stringify({ headers: incoming.headers })));
  }

  /** As getByTls, of this router. */
  get(host: string, options: Asked = {}) {
    return getByTls(host, { ...this.#client, ...options });
  }

  /** What the router agrees on with such a client. Rejects when they agree on nothing. */
  async handshake(options: ConnectionOptions = {}) {
    const socket = connectTls({ ...this.#client, ...options });
    try {
      await once(socket, "secureConnect");
      return {
        name: socket.getPeerCertificate().subject.CN,
        version: socket.getProtocol(),
        cipher: socket.getCipher().standardName,
        alpn: socket.alpnProtocol,
      };
    } finally {
      socket.destroy();
    }
  }

  /** To be destroyed by the test. */
  async http2(): Promise<ClientHttp2Session> {
    const session = connectHttp2(`https://127.0.0.1:${this.tlsPort}`, this.#client);
    await once(session, "remoteSettings");
    return session;
  }

  async stop(): Promise<void> {
    await this.apps.close();
    await this.router.stop();
  }
}
