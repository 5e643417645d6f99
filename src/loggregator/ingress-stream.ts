/**
 * A stream of batches to a loggregator agent: gRPC over TLS with certificates on both sides, a connection of its own.
 *
 * Source   Ingress/BatchSender of loggregator-api v2; names and limits as by go-loggregator and loggregator-agent-release.
 */
import { Client, type ClientWritableStream, credentials } from "@grpc/grpc-js";
import { Ingress } from "../gen/loggregator/v2/loggregator_pb.js";

export interface IngressAgent {
  /** "127.0.0.1:3458" */
  readonly address: string;
  /** The name in its certificate. */
  readonly serverName: string;
}

/** PEM texts: the CA that issued the agent's certificate, our client certificate, and its key. */
export interface IngressCredentials {
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
}

const BATCH_SENDER = `/${Ingress.typeName}/${Ingress.method.batchSender.name}`;

export class IngressStream {
  readonly #client: Client;
  readonly #call: ClientWritableStream<Buffer>;
  /** Why it takes no more. */
  #end: Error | undefined;
  #onEnd: ((reason: Error) => void) | undefined;

  /** Connects when the first batch is sent. */
  constructor({ address, serverName }: IngressAgent, { ca, certificate, key }: IngressCredentials) {
    this.#client = new Client(
      address,
      credentials.createSsl(Buffer.from(ca), Buffer.from(key), Buffer.from(certificate)),
      {
        "grpc.ssl_target_name_override": serverName,
        "grpc.default_authority": serverName,
        "grpc.use_local_subchannel_pool": 1,
        "grpc.enable_http_proxy": 0,
        // Whoever sends keeps a batch until it is on its way, and sends it again: without a buffer in between, a batch
        // counts as taken when the agent's flow control let it pass.
        "grpc.enable_retries": 0,
        "grpc.per_rpc_retry_buffer_size": 0,
      },
    );
    this.#call = this.#client.makeClientStreamRequest(
      BATCH_SENDER,
      (batch: Buffer) => batch,
      () => undefined,
      (error) => this.#ended(new Error(error ? reasonOf(error.details) : "it ended the stream")),
    );
    this.#call.on("error", (error) => this.#ended(error));
  }

  get isEnded(): boolean {
    return this.#end !== undefined;
  }

  /** One at a time. Resolves when the batch is on its way; rejects, and ends the stream, when that takes too long. */
  send(batch: Buffer, timeoutMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#end) {
        reject(this.#end);
        return;
      }
      const timer = setTimeout(
        () => this.#ended(new Error(`it has taken nothing for ${timeoutMs / 1_000} s`)),
        timeoutMs,
      );
      this.#onEnd = (reason) => {
        clearTimeout(timer);
        reject(reason);
      };
      this.#call.write(batch, () =>
        // A batch that could not be written is told of in the same way, and the end of its stream right after.
        setImmediate(() => {
          if (this.#end) return;
          clearTimeout(timer);
          this.#onEnd = undefined;
          resolve();
        }),
      );
    });
  }

  /** Sends no more. Resolves when the agent has read all that was sent, or the connection broke. */
  finish(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#end) {
        resolve();
        return;
      }
      this.#onEnd = () => resolve();
      this.#call.end();
    });
  }

  /** At once; what is on its way may get lost. */
  close(): void {
    this.#ended(new Error("it was closed"));
  }

  #ended(reason: Error): void {
    if (this.#end) return;
    this.#end = reason;
    this.#call.cancel();
    this.#client.close();
    this.#onEnd?.(reason);
    this.#onEnd = undefined;
  }
}

/** What grpc-js says of a call that failed, without what it puts around the words of the system and of OpenSSL. */
function reasonOf(details: string): string {
  const cause =
    /Last error: (?:Error(?: \[\w+\])?: )?(.*?)\s*(?:\([\d:.TZ-]+\))?\. Resolution note/s.exec(details)?.[1] ?? details;
  const tls = /:SSL routines:[^:]*:([^:]+)/.exec(cause)?.[1] ?? cause;
  const alert = /alert (.+)/.exec(tls)?.[1];
  if (alert !== undefined) return `it refuses the router's TLS: ${alert}`;
  return tls === "Failed to connect" ? "it ends the connection before it takes anything" : tls;
}
