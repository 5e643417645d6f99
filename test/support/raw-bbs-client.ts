/** A client of the BBS that takes nothing for granted: it reads the bytes of the connection. */
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { request } from "node:https";
import { buffer } from "node:stream/consumers";
import { connect, type TLSSocket } from "node:tls";
import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import {
  ActualLRPCrashedEventSchema,
  ActualLRPInstanceChangedEventSchema,
  ActualLRPInstanceCreatedEventSchema,
  ActualLRPInstanceRemovedEventSchema,
  DesiredLRPChangedEventSchema,
  DesiredLRPCreatedEventSchema,
  DesiredLRPRemovedEventSchema,
  EventsByCellIdSchema,
} from "../../src/gen/bbs/v1/bbs_pb.js";
import type { Certificates } from "../../src/emulator/certificates.js";

export interface RawBbs {
  readonly url: string;
  readonly certificates: Certificates;
}

/** Rejects on anything but HTTP 200 with a whole message. */
export async function call<Response extends DescMessage>(
  { url, certificates }: RawBbs,
  path: string,
  responseSchema: Response,
  body: Uint8Array = new Uint8Array(),
): Promise<MessageShape<Response>> {
  const { ca, client } = certificates;
  const sent = request(`${url}${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/x-protobuf", "Content-Length": body.length },
    ...{ ca, cert: client.certificate, key: client.key, agent: false },
  });
  sent.end(body);
  const [response] = (await once(sent, "response")) as [IncomingMessage];
  const answer = await buffer(response);
  if (response.statusCode !== 200) throw new Error(`status ${response.statusCode ?? 0}`);
  return fromBinary(responseSchema, answer);
}

export function encode<Schema extends DescMessage>(schema: Schema, init: MessageInitShape<Schema>): Uint8Array {
  return toBinary(schema, create(schema, init));
}

export interface Frame {
  readonly id: number;
  readonly name: string;
  readonly data: string;
}

const EVENTS_PATH = "/v1/events/lrp_instances.r1";

/** The event stream, frame by frame, as long as the connection is open. */
export class RawEvents {
  readonly socket: TLSSocket;
  readonly #chunks: AsyncIterator<string>;
  #buffered = "";

  private constructor(socket: TLSSocket) {
    this.socket = socket.setEncoding("latin1");
    this.#chunks = socket[Symbol.asyncIterator]() as AsyncIterator<string>;
  }

  /** Resolves with the stream and the head of the response. */
  static async open({ url, certificates }: RawBbs, cellId = ""): Promise<{ events: RawEvents; head: string }> {
    const { hostname, port } = new URL(url);
    const { ca, client } = certificates;
    const socket = connect({ host: hostname, port: Number(port), ca, cert: client.certificate, key: client.key });
    await once(socket, "secureConnect");
    const body = encode(EventsByCellIdSchema, { cellId });
    socket.write(`POST ${EVENTS_PATH} HTTP/1.1\r\nHost: ${hostname}\r\nContent-Length: ${body.length}\r\n\r\n`);
    socket.write(body);
    const events = new RawEvents(socket);
    return { events, head: await events.#take(/^.*?\r\n\r\n/s) };
  }

  /** The next frame; rejects when the connection ends before. */
  async next(): Promise<Frame> {
    const chunkHead = await this.#take(/^[0-9a-f]+;\r\n/);
    const length = Number.parseInt(chunkHead, 16);
    const chunk = await this.#take(new RegExp(`^.{${length}}\r\n`, "s"));
    const [, id, name, data] = /^id: (\d+)\nevent: (\w+)\ndata: (.*)\n\n\r\n$/.exec(chunk) ?? [];
    if (id === undefined || name === undefined || data === undefined) throw new Error(`no frame: ${chunk}`);
    return { id: Number(id), name, data };
  }

  /** So many frames, in words. */
  async words(count: number): Promise<readonly string[]> {
    const words: string[] = [];
    while (words.length < count) words.push(inWords(await this.next()));
    return words;
  }

  close(): void {
    this.socket.destroy();
  }

  async #take(pattern: RegExp): Promise<string> {
    for (;;) {
      const found = pattern.exec(this.#buffered)?.[0];
      if (found !== undefined) {
        this.#buffered = this.#buffered.slice(found.length);
        return found;
      }
      const chunk = await this.#chunks.next();
      if (chunk.done === true) throw new Error("the event stream ended");
      this.#buffered += chunk.value;
    }
  }
}

const bytesOf = (data: string): Uint8Array => Buffer.from(data, "base64");

/** A frame in words: "created 0 UNCLAIMED", "changed 0 CLAIMED>RUNNING", "crashed 0", "desired created". */
export function inWords({ name, data }: Frame): string {
  const bytes = bytesOf(data);
  switch (name) {
    case "desired_lrp_created":
      return `desired created ${fromBinary(DesiredLRPCreatedEventSchema, bytes).desiredLrp?.instances ?? "?"}`;
    case "desired_lrp_changed": {
      const { before, after } = fromBinary(DesiredLRPChangedEventSchema, bytes);
      return `desired changed ${before?.instances ?? "?"}>${after?.instances ?? "?"}`;
    }
    case "desired_lrp_removed":
      return `desired removed ${fromBinary(DesiredLRPRemovedEventSchema, bytes).desiredLrp?.instances ?? "?"}`;
    case "actual_lrp_instance_created": {
      const { actualLrp } = fromBinary(ActualLRPInstanceCreatedEventSchema, bytes);
      return `created ${actualLrp?.key?.index ?? "?"} ${actualLrp?.state ?? "?"}`;
    }
    case "actual_lrp_instance_changed": {
      const { key, before, after } = fromBinary(ActualLRPInstanceChangedEventSchema, bytes);
      const presence = before?.presence === after?.presence ? "" : ` presence ${after?.presence ?? "?"}`;
      return `changed ${key?.index ?? "?"} ${before?.state ?? "?"}>${after?.state ?? "?"}${presence}`;
    }
    case "actual_lrp_instance_removed": {
      const { actualLrp } = fromBinary(ActualLRPInstanceRemovedEventSchema, bytes);
      return `removed ${actualLrp?.key?.index ?? "?"} ${actualLrp?.state ?? "?"}`;
    }
    case "actual_lrp_crashed": {
      const { key, crashCount } = fromBinary(ActualLRPCrashedEventSchema, bytes);
      return `crashed ${key?.index ?? "?"} time ${crashCount}`;
    }
    default:
      return name;
  }
}
