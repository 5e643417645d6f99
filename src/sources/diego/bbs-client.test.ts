import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { TLSSocket } from "node:tls";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { type Certificates, createCertificates } from "../../emulator/certificates.js";
import { ActualLRPsResponseSchema, DomainsResponseSchema, PingResponseSchema } from "../../gen/bbs/v1/bbs_pb.js";
import { BbsClient } from "./bbs-client.js";
import { bbsEndpoints } from "./endpoint.js";

const never = new AbortController().signal;

let certificates: Certificates;
beforeAll(async () => {
  certificates = await createCertificates();
});

const ownCredentials = () => ({ ca: certificates.ca, ...certificates.client });

/** A client, and an HTTPS server of Node that answers it. */
async function serve(
  answer: (request: IncomingMessage, response: ServerResponse) => void,
  timeoutMs = 5_000,
  credentials = ownCredentials,
) {
  const { ca, server: identity } = certificates;
  const options = { ca, cert: identity.certificate, key: identity.key, requestCert: true, rejectUnauthorized: true };
  const server = createServer(options, answer);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const [endpoint] = bbsEndpoints([url], credentials);
  if (!endpoint) throw new Error("no endpoint");
  const client = new BbsClient(endpoint, timeoutMs);
  onTestFinished(async () => {
    client.close();
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  });
  return client;
}

function bytes<Schema extends DescMessage>(schema: Schema, message: MessageInitShape<Schema>): Uint8Array {
  return toBinary(schema, create(schema, message));
}

const lrps = (count: number) =>
  Array.from({ length: count }, (_, index) => ({ key: { processGuid: "p", index, domain: "cf-apps" } }));

async function list(client: BbsClient): Promise<(number | undefined)[]> {
  const indexes: (number | undefined)[] = [];
  await client.listActualLrps("cf-apps", ({ decode }) => indexes.push(decode().key?.index), never);
  return indexes;
}

describe("the BBS client", () => {
  it("posts protobuf, and reads what comes back", async () => {
    const seen: string[] = [];
    const client = await serve(({ method = "", url = "", headers }, response) => {
      seen.push(`${method} ${url} ${headers["content-type"] ?? ""}`);
      if (url === "/v1/ping") response.end(bytes(PingResponseSchema, { available: true }));
      if (url === "/v1/domains/list") response.end(bytes(DomainsResponseSchema, { domains: ["cf-apps"] }));
      if (url === "/v1/actual_lrps/list") response.end(bytes(ActualLRPsResponseSchema, { actualLrps: lrps(5_000) }));
    });
    await client.ping(never);
    expect(await client.freshDomains(never)).toEqual(new Set(["cf-apps"]));
    expect(await list(client)).toEqual(lrps(5_000).map(({ key }) => key.index));
    expect(seen).toEqual(
      ["/v1/ping", "/v1/domains/list", "/v1/actual_lrps/list"].map((path) => `POST ${path} application/x-protobuf`),
    );
  });

  it("takes an error in the body for one, although the status is 200", async () => {
    const error = { type: 28, message: "deadlock" };
    const client = await serve(({ url }, response) => {
      const schema = url === "/v1/domains/list" ? DomainsResponseSchema : ActualLRPsResponseSchema;
      response.end(bytes(schema, { error }));
    });
    await expect(list(client)).rejects.toThrow("error 28");
    await expect(client.freshDomains(never)).rejects.toMatchObject({ code: "MESH_SOURCE_REFUSED" });
  });

  it("takes a BBS that is not available for one that refuses", async () => {
    const client = await serve((_, response) => response.end());
    await expect(client.ping(never)).rejects.toMatchObject({ code: "MESH_SOURCE_REFUSED" });
  });

  it.each([
    [404, {}, "MESH_SOURCE_REFUSED", "HTTP 404"],
    [500, {}, "MESH_SOURCE_UNREACHABLE", "HTTP 500"],
    [200, { "x-cf-routererror": "unknown_route" }, "MESH_SOURCE_REFUSED", "unknown_route"],
  ])("fails on status %i with headers %j", async (status, headers, code, message) => {
    const client = await serve((_, response) => response.writeHead(status, headers).end());
    const fault = await list(client).catch((thrown: unknown) => thrown);
    expect(fault).toMatchObject({ code });
    expect(String(fault)).toContain(message);
  });

  it("fails on garbage, on a message that is cut, and on a connection that is", async () => {
    const whole = bytes(ActualLRPsResponseSchema, { actualLrps: lrps(3) });
    const garbage = await serve((_, response) => response.end("<html>"));
    await expect(list(garbage)).rejects.toMatchObject({ code: "MESH_SOURCE_MALFORMED" });
    await expect(garbage.freshDomains(never)).rejects.toMatchObject({ code: "MESH_SOURCE_MALFORMED" });
    const cut = await serve((_, response) => response.end(whole.subarray(0, -1)));
    await expect(list(cut)).rejects.toMatchObject({ code: "MESH_SOURCE_MALFORMED" });
    const broken = await serve((_, response) => {
      response
        .writeHead(200, { "content-length": whole.length })
        .write(whole.subarray(0, -1), () => response.destroy());
    });
    await expect(list(broken)).rejects.toMatchObject({ code: "MESH_SOURCE_UNREACHABLE" });
  });

  it("bounds the size of small answers", async () => {
    const client = await serve((_, response) => response.end(Buffer.alloc(2 * 1024 * 1024)));
    await expect(client.ping(never)).rejects.toMatchObject({ code: "MESH_SOURCE_MALFORMED" });
  });

  it("gives up when no answer comes, and when the signal aborts", async () => {
    const client = await serve(() => undefined, 100);
    await expect(client.ping(never)).rejects.toThrow("within 100 ms");
    const ending = new AbortController();
    const listing = client.listActualLrps("cf-apps", () => undefined, ending.signal);
    ending.abort();
    await expect(listing).rejects.toMatchObject({ code: "MESH_SOURCE_UNREACHABLE" });
  });
});

describe("the client's certificates", () => {
  it("are those of now at each connection", async () => {
    const shown: string[] = [];
    let own = { ca: certificates.ca, ...certificates.client };
    const client = await serve(
      (request, response) => {
        if (request.socket instanceof TLSSocket) shown.push(String(request.socket.getPeerCertificate().subject.CN));
        response.end(bytes(DomainsResponseSchema, { domains: [] }));
      },
      5_000,
      () => own,
    );
    await client.freshDomains(never);
    own = { ...own, ...(await certificates.issue({ commonName: "rotated", usages: ["client"] })) };
    await client.freshDomains(never);
    expect(shown).toEqual(["cf-mesh control", "rotated"]);
  });
});
