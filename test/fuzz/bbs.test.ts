import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { createServer, type Server, type TLSSocket } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Certificates, createCertificates } from "../../src/emulator/certificates.js";
import {
  ActualLRPInstanceChangedEventSchema,
  ActualLRPInstanceCreatedEventSchema,
  ActualLRPsResponseSchema,
  DomainsResponseSchema,
} from "../../src/gen/bbs/v1/bbs_pb.js";
import { MeshError } from "../../src/lib/errors.js";
import { BbsClient } from "../../src/sources/diego/bbs-client.js";
import { decodeEvent } from "../../src/sources/diego/bbs-events.js";
import { describe as describeLrp } from "../../src/sources/diego/description.js";
import { type BbsEndpoint, bbsEndpoints } from "../../src/sources/diego/endpoint.js";
import { openEventStream } from "../../src/sources/diego/event-stream.js";
import { ProtocolViolation } from "../../src/sources/protocol-violation.js";
import { ChunkedDecoder, HeadDecoder } from "../../src/sources/diego/http-response.js";
import { MessageSplitter } from "../../src/sources/diego/message-splitter.js";
import { SseDecoder } from "../../src/sources/sse.js";
import { mutated, pieces, runs, RUNS_TIMEOUT_MS } from "../support/random-runs.js";

const LRP = {
  key: { processGuid: "5a1c0f6e-7f0e-4c0b-9a53-000000000001-v1", index: 0, domain: "cf-apps" },
  instanceKey: { instanceGuid: "instance-1", cellId: "cell-1" },
  netInfo: { address: "10.0.1.5", ports: [{ containerPort: 8080, hostPort: 61_001, hostTlsProxyPort: 61_002 }] },
  state: "RUNNING",
  modificationTag: { epoch: "e", index: 1 },
  metricTags: { app_id: "shop-app" },
  since: 1_700_000_000_000_000_000n,
};
const created = toBinary(
  ActualLRPInstanceCreatedEventSchema,
  create(ActualLRPInstanceCreatedEventSchema, { actualLrp: LRP }),
);
const { key, instanceKey, netInfo, state, modificationTag } = LRP;
const changedEvent = toBinary(
  ActualLRPInstanceChangedEventSchema,
  create(ActualLRPInstanceChangedEventSchema, { key, instanceKey, after: { netInfo, state, modificationTag } }),
);
const list = toBinary(ActualLRPsResponseSchema, create(ActualLRPsResponseSchema, { actualLrps: [LRP, LRP, LRP] }));
const domains = toBinary(DomainsResponseSchema, create(DomainsResponseSchema, { domains: ["cf-apps"] }));
const EVENT = "actual_lrp_instance_created";
const FRAME = `id: 0\nevent: ${EVENT}\ndata: ${Buffer.from(created).toString("base64")}\n\n`;
const HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const CHUNKS = `${FRAME.length.toString(16)};\r\n${FRAME}\r\n`;

/** Runs until the bytes break the protocol. Anything else that is thrown is a fault of ours. */
function untilViolation(work: () => void): boolean {
  try {
    work();
    return true;
  } catch (thrown) {
    if (thrown instanceof ProtocolViolation) return false;
    throw thrown;
  }
}

describe("the decoders of what the BBS says", () => {
  it("read any bytes, in any pieces, or say that they break the protocol", () => {
    fc.assert(
      fc.property(pieces(mutated(HEAD + CHUNKS + CHUNKS, HEAD, `${HEAD}0;\r\n\r\n`)), (received) => {
        const head = new HeadDecoder();
        const chunked = new ChunkedDecoder();
        const events = new SseDecoder(10_000);
        let inHead = true;
        untilViolation(() => {
          for (const piece of received) {
            const decoded = inHead ? head.feed(piece) : undefined;
            if (inHead && !decoded) continue;
            inHead = false;
            for (const data of chunked.feed(decoded?.rest ?? piece)) {
              for (const frame of events.feed(data)) expect(decodeEvent(frame).kind).toBeTypeOf("string");
            }
          }
        });
      }),
      runs(2_000),
    );
  });

  it("give the same frames however the bytes are cut", () => {
    const stream = fc.array(fc.constantFrom(CHUNKS, "1;\r\n\n\r\n", "3\r\n: x\r\n", "2;a=b\r\n\r\n\r\n"), {
      maxLength: 5,
    });
    fc.assert(
      fc.property(pieces(stream.map((parts) => Buffer.from(parts.join("")))), (received) => {
        const decode = (cut: readonly Buffer[]) => {
          const chunked = new ChunkedDecoder();
          const events = new SseDecoder(10_000);
          return cut.flatMap((piece) => chunked.feed(piece)).flatMap((data) => events.feed(data));
        };
        expect(decode(received)).toEqual(decode([Buffer.concat(received)]));
      }),
      runs(300),
    );
  });

  it("take what an event or a list says, or call it broken, whatever its bytes", () => {
    fc.assert(
      fc.property(
        mutated(created, changedEvent),
        fc.constantFrom(EVENT, EVENT.replace("created", "changed"), "?"),
        (bytes, event) => {
          const decoded = decodeEvent({ event, data: bytes.toString("base64") });
          if (decoded.kind === "seen") describeLrp(decoded.sighting, () => "");
        },
      ),
      runs(2_000),
    );
    fc.assert(
      fc.property(pieces(mutated(list)), (received) => {
        const splitter = new MessageSplitter();
        untilViolation(() => {
          for (const piece of received) splitter.feed(piece);
        });
      }),
      runs(1_000),
    );
  });

  it("hold no more of an event than its bytes, in however small pieces it comes", () => {
    const events = new SseDecoder(16 * 2 ** 20);
    const bytesBefore = process.memoryUsage().rss;
    // A network buffer is as large as this, whatever part of it is the event's.
    for (let received = 0; received < 20_000; received += 1) events.feed(Buffer.alloc(65_536, "x").subarray(0, 1));
    expect(process.memoryUsage().rss - bytesBefore).toBeLessThan(150 * 2 ** 20);
    expect(events.feed(Buffer.from("\n\n"))).toEqual([]);
  });
});

describe("a BBS that sends anything", () => {
  let certificates: Certificates;
  let endpoint: BbsEndpoint;
  let server: Server;
  let answer: readonly Buffer[] = [];
  const sockets = new Set<TLSSocket>();

  beforeAll(async () => {
    certificates = await createCertificates();
    const { ca, server: identity, client } = certificates;
    server = createServer({ ca, cert: identity.certificate, key: identity.key, requestCert: true }, (socket) => {
      sockets.add(socket);
      socket.on("error", () => undefined).on("close", () => sockets.delete(socket));
      socket.once("data", () => {
        for (const piece of answer) socket.write(piece);
        socket.end();
      });
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const [only] = bbsEndpoints([`https://127.0.0.1:${(server.address() as AddressInfo).port}`], () => ({
      ca,
      ...client,
    }));
    endpoint = only ?? expect.fail();
  });

  afterAll(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, "close");
  });

  const { signal } = new AbortController();
  const http = (body: Uint8Array) =>
    Buffer.concat([Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n`), body]);

  async function answeredOrFault(work: () => Promise<unknown>): Promise<void> {
    const thrown: unknown = await work().then(
      () => undefined,
      (error: unknown) => error,
    );
    if (thrown !== undefined) expect(thrown).toBeInstanceOf(MeshError);
  }

  it(
    "gets answers read, or a fault told, by every call",
    async () => {
      const client = new BbsClient(endpoint, 2_000);
      await fc.assert(
        fc.asyncProperty(pieces(mutated(http(list), http(domains))), async (received) => {
          answer = received;
          await answeredOrFault(() =>
            client.listActualLrps("cf-apps", ({ decode }) => describeLrp(decode(), () => ""), signal),
          );
          await answeredOrFault(() => client.freshDomains(signal));
        }),
        runs(60),
      );
      client.close();
    },
    RUNS_TIMEOUT_MS,
  );

  it(
    "gets its events read, or a fault told, by the event stream",
    async () => {
      await fc.assert(
        fc.asyncProperty(pieces(mutated(HEAD + CHUNKS + CHUNKS)), async (received) => {
          answer = received;
          await answeredOrFault(async () => {
            const stream = await openEventStream(endpoint, 2_000, signal);
            for await (const frames of stream.frames) for (const frame of frames) decodeEvent(frame);
          });
        }),
        runs(60),
      );
    },
    RUNS_TIMEOUT_MS,
  );
});
