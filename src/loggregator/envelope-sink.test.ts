import { createServer, type Socket } from "node:net";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { eventually } from "../../test/support/eventually.js";
import { lineOf, startLoggregatorAgent } from "../../test/support/loggregator-agent.js";
import { type Certificates, createCertificates, type KeyPair } from "../emulator/certificates.js";
import { createLogger } from "../lib/logger.js";
import { encodeLine, encodeSource } from "./envelope.js";
import { EnvelopeSink } from "./envelope-sink.js";

const SOURCE = encodeSource({ sourceId: "app", instanceId: "0", tags: {} });
const envelope = (text: string) => encodeLine(SOURCE, 1n, text);

describe("a sink of envelopes", () => {
  let certificates: Certificates;
  let server: KeyPair;
  let client: KeyPair;
  beforeAll(async () => {
    certificates = await createCertificates();
    server = await certificates.issue({ commonName: "metron", dnsNames: ["metron"] });
    client = await certificates.issue({ commonName: "gorouter", usages: ["client"] });
  });

  function open(
    port: number,
    { bufferBytes = 1_000_000, ca = certificates.ca, serverName = "metron", shown = client },
  ) {
    const said: string[] = [];
    const sink = new EnvelopeSink({
      address: `127.0.0.1:${port}`,
      serverName,
      credentials: () => ({ ca, ...shown }),
      bufferBytes,
      logger: createLogger("info", { write: (line) => said.push(line) }),
    });
    return { sink, said };
  }
  const startAgent = async (options: { clientCa?: string } = {}) => {
    const agent = await startLoggregatorAgent({ clientCa: certificates.ca, server, ...options });
    onTestFinished(() => agent.close());
    return agent;
  };

  it("sends all in their order before it closes, a hundred at a time", async () => {
    const agent = await startAgent();
    const { sink } = open(agent.port, {});
    sink.write(envelope("first"));
    await eventually(() => sink.status.sentCount === 1);
    const lines = Array.from({ length: 1_050 }, (_, index) => `line ${index}`);
    for (const line of lines) sink.write(envelope(line));
    await sink.close();
    expect(agent.envelopes.map(lineOf)).toEqual(["first", ...lines]);
    expect(agent.batches).toEqual([1, ...Array.from({ length: 10 }, () => 100), 50]);
    expect(sink.status).toEqual({ sentCount: 1_051, lostCount: 0, lastError: undefined });
  });

  it("sends no batch larger than an agent takes", async () => {
    const agent = await startAgent();
    const { sink } = open(agent.port, { bufferBytes: 10_000_000 });
    for (let count = 0; count < 120; count += 1) sink.write(envelope("x".repeat(65_000)));
    await eventually(() => agent.envelopes.length === 120);
    await sink.close();
    expect(Math.max(...agent.batches)).toBe(16);
  });

  it("drops and counts what comes beyond its bound, and what could not be sent at the end", async () => {
    const { sink } = open(1, { bufferBytes: 10 * envelope("nine char").length });
    for (let count = 0; count < 15; count += 1) sink.write(envelope("nine char"));
    expect(sink.status.lostCount).toBe(5);
    await sink.close();
    expect(sink.status).toMatchObject({ sentCount: 0, lostCount: 15 });
  });

  it.each([
    ["nobody listens", () => ({ port: 1 }), /connect ECONNREFUSED/],
    ["its certificate has another name", () => ({ serverName: "doppler" }), /does not match certificate's altnames/],
    ["its certificate is of another CA", async () => ({ ca: (await createCertificates()).ca }), /certificate/],
    [
      "it speaks no TLS",
      async () => ({ port: await portOfSocket((socket) => socket.end("HTTP/1.1")) }),
      /wrong version/,
    ],
    [
      "it ends connections at once",
      async () => ({ port: await portOfSocket((socket) => socket.destroy()) }),
      /ECONNRESET|socket disconnected|ends the connection/,
    ],
  ])("says once what is wrong, with a remedy, when %s", async (_, spoil, reason) => {
    const agent = await startAgent();
    const { port = agent.port, ...options } = (await spoil()) as { port?: number; ca?: string; serverName?: string };
    const { sink, said } = open(port, options);
    sink.write(envelope("waits"));
    await eventually(() => said.length > 0);
    sink.write(envelope("waits, too"));
    await sink.close();
    expect(said).toHaveLength(1);
    expect(said[0]).toMatch(/\[MESH_ACCESS_LOG_LOST\].*can't be sent to the loggregator agent at 127\.0\.0\.1:\d+ \(/);
    expect(said[0]).toMatch(reason);
    expect(said[0]).toMatch(/fix: check that the agent runs there/);
    expect(sink.status).toMatchObject({ sentCount: 0, lostCount: 2 });
  });

  it("counts nothing as sent that an agent refuses which does not trust it", async () => {
    const agent = await startAgent({ clientCa: (await createCertificates()).ca });
    const { sink } = open(agent.port, {});
    sink.write(envelope("refused"));
    await eventually(() => sink.status.lastError);
    await sink.close();
    expect(sink.status).toMatchObject({ sentCount: 0, lostCount: 1 });
    expect(agent.envelopes).toEqual([]);
  });
});

/** The port of a server that does this with each connection, and nothing else. */
async function portOfSocket(answer: (socket: Socket) => void): Promise<number> {
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    answer(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  const address = server.address();
  return typeof address === "object" && address ? address.port : 0;
}
