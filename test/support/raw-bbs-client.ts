/** A client of the BBS that takes nothing for granted: it reads the bytes of the connection. */
import { once } from "node:events";
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

/** Rejects on anything but HTTP 200 with a whole message; `undefined` sends an empty body. */
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
  const [response] = (await once(sent, "response")) as [import("node:http").IncomingMessage];
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

const NEXT_CHUNK = /^([0-9a-f]+);\r\n/;

/** The event stream, frame by frame, as long as the connection is open. */
export class RawEvents {
  readonly socket: TLSSocket;
  readonly head: string;
  readonly frames: AsyncGenerator<Frame>;
  #buffered: string;

  private constructor(socket: TLSSocket, head: string, buffered: string) {
    this.socket = socket;
    this.head = head;
    this.#buffered = buffered;
    this.frames = this.#read();
  }

  static async open({ url, certificates }: RawBbs, cellId = ""): Promise<RawEvents> {
    const { hostname, port } = new URL(url);
    const { ca, client } = certificates;
    const socket = connect({ host: hostname, port: Number(port), ca, cert: client.certificate, key: client.key });
    await once(socket, "secureConnect");
    socket.setEncoding("latin1");
    const body = toBinary(EventsByCellIdSchema, create(EventsByCellIdSchema, { cellId }));
    socket.write(
      `POST /v1/events/lrp_instances.r1 HTTP/1.1\r\nHost: ${hostname}\r\nContent-Length: ${body.length}\r\n\r\n`,
    );
    socket.write(body);
    let received = "";
    while (!received.includes("\r\n\r\n")) received += String((await once(socket, "data"))[0]);
    // What comes is kept until somebody reads it.
    socket.pause();
    const end = received.indexOf("\r\n\r\n") + 4;
    return new RawEvents(socket, received.slice(0, end), received.slice(end));
  }

  /** The next frame; rejects when the connection ends. */
  async next(): Promise<Frame> {
    const { value, done } = (await this.frames.next()) as IteratorResult<Frame>;
    if (done === true) throw new Error("the event stream ended");
    return value as Frame;
  }

  /** Frames up to the first one that fits, that one included. */
  async until(fits: (frame: Frame) => boolean): Promise<readonly Frame[]> {
    const frames = [await this.next()];
    while (!fits(frames.at(-1) as Frame)) frames.push(await this.next());
    return frames;
  }

  close(): void {
    this.socket.destroy();
  }

  async *#read(): AsyncGenerator<Frame> {
    for (;;) {
      const [chunkHead, length] = NEXT_CHUNK.exec(this.#buffered) ?? [];
      const size = chunkHead === undefined ? 0 : chunkHead.length + Number.parseInt(length ?? "", 16) + 2;
      if (chunkHead !== undefined && this.#buffered.length >= size) {
        yield parseFrame(this.#buffered.slice(chunkHead.length, size - 2));
        this.#buffered = this.#buffered.slice(size);
        continue;
      }
      if (this.socket.destroyed || this.socket.readableEnded) return;
      const closed = once(this.socket, "close").then(() => undefined);
      this.socket.resume();
      const data = await Promise.race([once(this.socket, "data"), closed]);
      this.socket.pause();
      if (data === undefined) return;
      this.#buffered += String(data[0]);
    }
  }
}

function parseFrame(text: string): Frame {
  const [, id, name, data] = /^id: (\d+)\nevent: (\w+)\ndata: (.*)\n\n$/.exec(text) ?? [];
  if (id === undefined || name === undefined || data === undefined) throw new Error(`no frame: ${text}`);
  return { id: Number(id), name, data };
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
