import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { connect, createServer, type TLSSocket } from "node:tls";
import { describe, expect, it, onTestFinished } from "vitest";
import { createCertificates, type KeyPair } from "./certificates.js";

describe("certificates", () => {
  it("names the BBS by address, localhost and its name in the foundation", async () => {
    const { ca, server } = await createCertificates();
    const certificate = new X509Certificate(server.certificate);
    expect(certificate.checkIP("127.0.0.1")).toBe("127.0.0.1");
    expect(certificate.checkHost("localhost")).toBe("localhost");
    expect(certificate.checkHost("bbs.service.cf.internal")).toBe("bbs.service.cf.internal");
    expect(certificate.verify(new X509Certificate(ca).publicKey)).toBe(true);
    expect(new X509Certificate(ca).ca).toBe(true);
  });

  it("puts what an instance identity needs into a certificate", async () => {
    const { issue } = await createCertificates();
    const pair = await issue({
      commonName: "instance-1",
      organizationalUnits: ["organization:o", "space:s", "app:a"],
      dnsNames: ["instance-1"],
      validMs: 3_600_000,
    });
    const certificate = new X509Certificate(pair.certificate);
    expect(certificate.subject).toBe("OU=organization:o\nOU=space:s\nOU=app:a\nCN=instance-1");
    expect(certificate.subjectAltName).toBe("DNS:instance-1");
    expect(Date.parse(certificate.validTo) - Date.now()).toBeLessThanOrEqual(3_600_000);
  });

  it("lets client and server of one authority trust each other, and nobody else", async () => {
    const [certificates, strangers] = await Promise.all([createCertificates(), createCertificates()]);
    const { ca, server, client } = certificates;
    const listener = createServer({
      ca,
      cert: server.certificate,
      key: server.key,
      requestCert: true,
      rejectUnauthorized: true,
    });
    listener.on("secureConnection", (socket: TLSSocket) => socket.end("welcome"));
    listener.listen(0, "127.0.0.1");
    await once(listener, "listening");
    onTestFinished(() => void listener.close());
    const { port } = listener.address() as AddressInfo;

    async function greeting({ certificate: cert, key }: KeyPair): Promise<string> {
      const socket = connect({ host: "127.0.0.1", port, ca, cert, key });
      let received = "";
      socket.on("data", (data: Buffer) => (received += data.toString()));
      // Refused: TLS 1.3 tells it after the client's handshake, by an alert or by a plain end.
      socket.on("error", () => undefined);
      await once(socket, "close");
      return received;
    }
    expect(await greeting(client)).toBe("welcome");
    expect(await greeting(strangers.client)).toBe("");
  });
});
