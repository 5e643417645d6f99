/** The BBS's calls that answer at once: POST, protobuf both ways, over mTLS. */
import { create, fromBinary, type DescMessage, type MessageShape, toBinary } from "@bufbuild/protobuf";
import type { IncomingMessage } from "node:http";
import { Agent, request } from "node:https";
import {
  type ActualLRP,
  ActualLRPSchema,
  ActualLRPsRequestSchema,
  ActualLRPsResponseSchema,
  type CellPresence,
  CellsResponseSchema,
  type DesiredLRP,
  DesiredLRPSchema,
  DesiredLRPsRequestSchema,
  DesiredLRPsResponseSchema,
  DomainsResponseSchema,
  ErrorSchema,
  PingRequestSchema,
  PingResponseSchema,
} from "../../gen/bbs/v1/bbs_pb.js";
import { asError, MeshError } from "../../lib/errors.js";
import type { BbsEndpoint } from "./endpoint.js";
import { ProtocolViolation } from "../protocol-violation.js";
import { badStatus, bbsFault, errorInBody, routerError } from "./faults.js";
import { fingerprintOf } from "./fingerprint.js";
import { MessageSplitter } from "./message-splitter.js";

/** Of the calls whose answers are small. */
const MAX_SMALL_ANSWER_BYTES = 1024 * 1024;
/** Ten times what 250,000 instances take. */
const MAX_LIST_BYTES = 2 * 1024 ** 3;
/** A BBS of that size reads its database for many seconds. Whether it lives at all is for `ping` to say. */
const LIST_TIMEOUT_MS = 120_000;

/** An actual LRP of a list, valid while it is handed over. */
export interface ListedLrp {
  /** Of all that it says but its metric tags. */
  readonly fingerprint: number;
  readonly decode: () => ActualLRP;
}

export class BbsClient {
  readonly #endpoint: BbsEndpoint;
  readonly #timeoutMs: number;
  readonly #agent: Agent;

  constructor(endpoint: BbsEndpoint, timeoutMs: number) {
    this.#endpoint = endpoint;
    this.#timeoutMs = timeoutMs;
    // No keep-alive: calls are seconds apart, and a new connection asks DNS for the BBS that is active now. A resumed
    // TLS session would show the certificate of the first.
    this.#agent = new Agent({ keepAlive: false, maxCachedSessions: 0 });
  }

  /** Resolves when the BBS answers that it serves. Throws MESH_SOURCE_*. */
  async ping(signal: AbortSignal): Promise<void> {
    const doing = "asking whether it is there";
    const body = toBinary(PingRequestSchema, create(PingRequestSchema));
    const { available } = await this.#small("/v1/ping", doing, body, PingResponseSchema, signal);
    if (!available) throw errorInBody(this.#endpoint.url, doing, 0, "it says that it is not available");
  }

  /** The domains whose desired state is fresh: Cloud Controller has told all of it within the last two minutes. */
  async freshDomains(signal: AbortSignal): Promise<ReadonlySet<string>> {
    const doing = "listing domains";
    const answer = await this.#small("/v1/domains/list", doing, new Uint8Array(0), DomainsResponseSchema, signal);
    if (answer.error) throw errorInBody(this.#endpoint.url, doing, answer.error.type, answer.error.message);
    return new Set(answer.domains);
  }

  /** All cells that are there now. Throws MESH_SOURCE_*. */
  async cells(signal: AbortSignal): Promise<readonly CellPresence[]> {
    const doing = "listing cells";
    const answer = await this.#small("/v1/cells/list.r1", doing, new Uint8Array(0), CellsResponseSchema, signal);
    if (answer.error) throw errorInBody(this.#endpoint.url, doing, answer.error.type, answer.error.message);
    return answer.cells;
  }

  /**
   * Reads all actual LRPs of a domain, and hands them over one by one as they come.
   *
   * Throws   MESH_SOURCE_* when any part fails: what was handed over until then is no complete list.
   */
  async listActualLrps(domain: string, take: (listed: ListedLrp) => void, signal: AbortSignal): Promise<void> {
    const body = toBinary(ActualLRPsRequestSchema, create(ActualLRPsRequestSchema, { domain }));
    const { actualLrps } = ActualLRPsResponseSchema.field;
    await this.#list("/v1/actual_lrps/list", "listing actual LRPs", body, signal, (number, bytes) => {
      if (number !== actualLrps.number) return;
      take({ fingerprint: fingerprintOf(bytes), decode: () => decode(ActualLRPSchema, bytes) });
    });
  }

  /**
   * Reads the routing infos of all desired LRPs of a domain: no more of them than guids, routes and metric tags. As
   * listActualLrps.
   */
  async listRoutingInfos(domain: string, take: (lrp: DesiredLRP) => void, signal: AbortSignal): Promise<void> {
    const body = toBinary(DesiredLRPsRequestSchema, create(DesiredLRPsRequestSchema, { domain }));
    const { desiredLrps } = DesiredLRPsResponseSchema.field;
    await this.#list("/v1/desired_lrp_routing_infos/list", "listing desired LRPs", body, signal, (number, bytes) => {
      if (number === desiredLrps.number) take(decode(DesiredLRPSchema, bytes));
    });
  }

  close(): void {
    this.#agent.destroy();
  }

  /** A list whose fields are handed over one by one; an error of the BBS is field 1 of every answer. */
  #list(
    path: string,
    doing: string,
    body: Uint8Array,
    signal: AbortSignal,
    take: (number: number, bytes: Uint8Array) => void,
  ): Promise<void> {
    return this.#call(path, doing, body, LIST_TIMEOUT_MS, signal, async (response) => {
      const splitter = new MessageSplitter();
      for await (const chunk of boundedBody(response, MAX_LIST_BYTES)) {
        for (const field of splitter.feed(chunk)) {
          if (field.number === ActualLRPsResponseSchema.field.error.number) {
            const { type, message } = decode(ErrorSchema, field.bytes);
            throw errorInBody(this.#endpoint.url, doing, type, message);
          }
          take(field.number, field.bytes);
        }
      }
      if (!splitter.complete) throw new ProtocolViolation("it ends in the middle of a message");
    });
  }

  #small<Schema extends DescMessage>(
    path: string,
    doing: string,
    body: Uint8Array,
    schema: Schema,
    signal: AbortSignal,
  ): Promise<MessageShape<Schema>> {
    return this.#call(path, doing, body, this.#timeoutMs, signal, async (response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of boundedBody(response, MAX_SMALL_ANSWER_BYTES)) chunks.push(chunk);
      return decode(schema, Buffer.concat(chunks));
    });
  }

  async #call<Answer>(
    path: string,
    doing: string,
    body: Uint8Array,
    timeoutMs: number,
    signal: AbortSignal,
    read: (response: IncomingMessage) => Promise<Answer>,
  ): Promise<Answer> {
    const { url, host, port, secureContext } = this.#endpoint;
    const timeout = AbortSignal.timeout(timeoutMs);
    // What tls.connect takes, and the types of a request leave out.
    const tls = { secureContext };
    const headers = { "content-type": "application/x-protobuf", "content-length": body.length };
    try {
      const response = await new Promise<IncomingMessage>((resolve, reject) => {
        request({
          method: "POST",
          host,
          port,
          path,
          headers,
          agent: this.#agent,
          ...tls,
          signal: AbortSignal.any([signal, timeout]),
        })
          .on("response", resolve)
          .on("error", reject)
          .end(body);
      });
      const { statusCode = 0, headers: answered } = response;
      const refusal = answered["x-cf-routererror"];
      if (statusCode !== 200 || refusal !== undefined) {
        response.destroy();
        throw refusal === undefined ? badStatus(url, doing, statusCode) : routerError(url, doing, String(refusal));
      }
      return await read(response);
    } catch (thrown) {
      if (thrown instanceof MeshError) throw thrown;
      if (timeout.aborted) throw bbsFault(url, doing, new Error(`no complete answer within ${timeoutMs} ms`));
      throw bbsFault(url, doing, thrown);
    }
  }
}

/** An answer's bytes. Throws ProtocolViolation beyond `maxBytes`. */
async function* boundedBody(response: IncomingMessage, maxBytes: number): AsyncGenerator<Buffer> {
  let byteCount = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    byteCount += chunk.length;
    if (byteCount > maxBytes) throw new ProtocolViolation(`it is larger than ${maxBytes} bytes`);
    yield chunk;
  }
}

function decode<Schema extends DescMessage>(schema: Schema, bytes: Uint8Array): MessageShape<Schema> {
  try {
    return fromBinary(schema, bytes);
  } catch (thrown) {
    throw new ProtocolViolation(`it is no ${schema.name}: ${asError(thrown).message}`);
  }
}
