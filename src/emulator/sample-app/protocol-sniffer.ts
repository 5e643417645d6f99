import type { Socket } from "node:net";

/** What every HTTP/2 connection begins with (RFC 9113, section 3.4); no HTTP/1 request does. */
const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** Tells which protocol the client speaks, and leaves the socket as if nothing had been read. */
export function sniffProtocol(socket: Socket, decided: (protocol: "http/1.1" | "h2c") => void): void {
  let seen = Buffer.alloc(0);
  const look = (): void => {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) return;
    seen = Buffer.concat([seen, chunk]);
    const compared = Math.min(seen.length, PREFACE.length);
    const isPreface = seen.subarray(0, compared).equals(PREFACE.subarray(0, compared));
    if (isPreface && compared < PREFACE.length) return;
    socket.off("readable", look);
    socket.off("end", close);
    socket.unshift(seen);
    decided(isPreface ? "h2c" : "http/1.1");
  };
  const close = (): void => void socket.end();
  socket.on("readable", look);
  // Health checks connect and say nothing.
  socket.on("end", close);
}
