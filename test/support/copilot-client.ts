/** A client of the copilot API: gRPC over real TLS, with the messages that Cloud Controller's client sends. */
import {
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import {
  type ChannelCredentials,
  Client,
  compressionAlgorithms,
  credentials,
  type ServiceError,
  type status,
} from "@grpc/grpc-js";
import type { CopilotCertificates } from "../../src/sources/copilot/credentials.js";
import {
  BulkSyncRequestChunkSchema,
  BulkSyncRequestSchema,
  type BulkSyncResponse,
  BulkSyncResponseSchema,
  CloudControllerCopilot,
} from "../../src/gen/copilot/cloud_controller_pb.js";

export type BulkInit = MessageInitShape<typeof BulkSyncRequestSchema>;

export const bulkBytes = (bulk: BulkInit): Uint8Array =>
  toBinary(BulkSyncRequestSchema, create(BulkSyncRequestSchema, bulk));

/** The credentials of a client that shows this certificate, and trusts this CA. */
export const clientTls = ({ ca, certificate, key }: CopilotCertificates): ChannelCredentials =>
  credentials.createSsl(Buffer.from(ca), Buffer.from(key), Buffer.from(certificate));

export interface Refused {
  readonly code: status;
  readonly details: string;
}

const CHUNK_BYTES = 64 * 1_024;
const MAX_ANSWER_BYTES = 2 ** 30;

export class CopilotClient {
  readonly #client: Client;

  constructor(port: number, tls: ChannelCredentials, { gzip = false } = {}) {
    this.#client = new Client(`127.0.0.1:${port}`, tls, {
      "grpc.max_receive_message_length": MAX_ANSWER_BYTES,
      "grpc.default_compression_algorithm": gzip ? compressionAlgorithms.gzip : compressionAlgorithms.identity,
      // A name of the emulated foundation's certificates: TLS knows no addresses as names.
      "grpc.ssl_target_name_override": "localhost",
      // Each client has connections of its own.
      "grpc.use_local_subchannel_pool": 1,
    });
  }

  call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>> {
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest<MessageShape<I>, MessageShape<O>>(
        `/${method.parent.typeName}/${method.name}`,
        (message) => Buffer.from(toBinary(method.input, message)),
        (bytes) => fromBinary(method.output, bytes),
        create(method.input, request),
        (error, answer) => {
          if (error) reject(error);
          else if (answer) resolve(answer);
        },
      );
    });
  }

  /** What the call is refused with; throws when it succeeds. */
  async refusal<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
  ): Promise<Refused> {
    return refused(this.call(method, request));
  }

  /** Sends the bytes in chunks, and an empty one at the end, as Cloud Controller's client does. */
  bulkSync(bulk: BulkInit | Uint8Array, { chunkBytes = CHUNK_BYTES } = {}): Promise<BulkSyncResponse> {
    const bytes = bulk instanceof Uint8Array ? bulk : bulkBytes(bulk);
    const chunks = function* () {
      for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
      yield new Uint8Array();
    };
    return new Promise((resolve, reject) => {
      const { parent, name } = CloudControllerCopilot.method.bulkSync;
      const call = this.#client.makeClientStreamRequest(
        `/${parent.typeName}/${name}`,
        (chunk: Uint8Array) =>
          Buffer.from(toBinary(BulkSyncRequestChunkSchema, create(BulkSyncRequestChunkSchema, { chunk }))),
        (answer) => fromBinary(BulkSyncResponseSchema, answer),
        (error, answer) => {
          if (error) reject(error);
          else if (answer) resolve(answer);
        },
      );
      for (const chunk of chunks()) call.write(chunk);
      call.end();
    });
  }

  /** Begins a BulkSync, and leaves it open. Returns what ends it as a client does that goes away. */
  beginBulkSync(chunk: Uint8Array): () => void {
    const { parent, name } = CloudControllerCopilot.method.bulkSync;
    const call = this.#client.makeClientStreamRequest(
      `/${parent.typeName}/${name}`,
      (bytes: Uint8Array) =>
        Buffer.from(toBinary(BulkSyncRequestChunkSchema, create(BulkSyncRequestChunkSchema, { chunk: bytes }))),
      (answer) => fromBinary(BulkSyncResponseSchema, answer),
      () => undefined,
    );
    call.write(chunk);
    return () => call.cancel();
  }

  /** The names of the services that the server says it serves. */
  services(version: "v1" | "v1alpha" = "v1"): Promise<readonly string[]> {
    // ServerReflectionRequest{list_services = 7: "*"}; the answer's field 6 lists names in fields 1 of fields 1.
    return new Promise((resolve, reject) => {
      const call = this.#client.makeBidiStreamRequest(
        `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
        (bytes: Buffer) => bytes,
        (bytes) => bytes,
      );
      call.on("data", (bytes: Buffer) => resolve(bytes.toString("latin1").match(/[a-z]+\.[A-Za-z]+/g) ?? []));
      call.on("error", reject);
      call.write(Buffer.from([0x3a, 1, "*".charCodeAt(0)]));
      call.end();
    });
  }

  close(): void {
    this.#client.close();
  }
}

/** What a call is refused with; throws when it succeeds. */
export async function refused(call: Promise<unknown>): Promise<Refused> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown as ServiceError,
  );
  if (!error) throw new Error("the call was not refused");
  return { code: error.code, details: error.details };
}
