/** What can go wrong with NATS, in words for the operator: what happened, what goes on, what to do. */
import { errors } from "@nats-io/transport-node";
import { asError, MeshError, systemCode } from "../../lib/errors.js";

const MEANWHILE = "still serving the last known registrations, none is pruned";

/** The fault behind whatever was thrown while talking to a NATS server; a MeshError as it is. */
export function natsFault(url: string, doing: string, thrown: unknown): MeshError {
  if (thrown instanceof MeshError) return thrown;
  const cause = asError(thrown);
  const happened = `NATS at ${url}: ${doing} failed (${describe(cause)}); ${MEANWHILE}`;
  if (cause instanceof errors.AuthorizationError || cause instanceof errors.UserAuthenticationExpiredError) {
    return new MeshError(
      "MESH_SOURCE_REFUSED",
      happened,
      "check nats.user with its password, or nats.tokenFile, and nats.certificateFile where the server wants a certificate",
      { cause },
    );
  }
  if (cause instanceof errors.PermissionViolationError) {
    return new MeshError(
      "MESH_SOURCE_REFUSED",
      happened,
      "let nats.user subscribe to router.register, router.unregister and router.greet, and publish to router.start and _INBOX.>",
      { cause },
    );
  }
  if (isTlsFault(cause)) {
    return new MeshError(
      "MESH_SOURCE_REFUSED",
      happened,
      "check nats.caFile, certificateFile and keyFile: the server must trust the issuer of our certificate, our CA must have " +
        "issued the server's, the name in nats.servers must be in it, and none may have expired; nats:// servers without " +
        "TLS take no certificates",
      { cause },
    );
  }
  return new MeshError("MESH_SOURCE_UNREACHABLE", happened, adviceFor(systemCode(cause)), { cause });
}

export function connectionLost(url: string, cause: Error | undefined): MeshError {
  if (cause && !(cause instanceof errors.ProtocolError)) return natsFault(url, "keeping the connection", cause);
  const reason = cause ? `the server ended it: ${cause.message}` : "the server ended it, or left pings unanswered";
  return new MeshError(
    "MESH_SOURCE_UNREACHABLE",
    `NATS at ${url}: the connection was lost (${reason}); connecting again, ${MEANWHILE}`,
    "none needed when the server restarts; if it repeats, see the log of the NATS server: it cuts off clients that read too slowly",
    { ...(cause && { cause }) },
  );
}

export function noGreeting(url: string, reason: string): MeshError {
  return new MeshError(
    "MESH_SOURCE_UNREACHABLE",
    `NATS at ${url}: it takes connections, and does not greet (${reason}); ${MEANWHILE}`,
    "check that nats.servers leads to a NATS server and that it is not stuck; its client port is 4222, with TLS 4224",
  );
}

function describe(cause: Error): string {
  // OpenSSL's messages are places in its code; the reason is in words.
  if ("reason" in cause && typeof cause.reason === "string" && cause.message.includes("SSL routines"))
    return cause.reason;
  const inner = cause.cause instanceof Error ? cause.cause.message : "";
  return cause.message.includes(inner) ? cause.message || cause.name : `${cause.message}: ${inner}`;
}

function isTlsFault(cause: Error): boolean {
  const code = systemCode(cause) ?? systemCode(cause.cause) ?? "";
  return (
    /^(ERR_TLS_|ERR_SSL_|ERR_OSSL_|CERT_|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|EPROTO$|HOSTNAME_MISMATCH|INVALID_CA)/.test(
      code,
    ) || /does not support 'tls'/.test(cause.message)
  );
}

function adviceFor(code: string | undefined): string {
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") {
    return "check the host name in nats.servers, and that this machine resolves the foundation's internal names";
  }
  if (code === "ECONNREFUSED") {
    return "check that NATS runs and that nats.servers names its client port: 4222, with TLS 4224";
  }
  if (code === "ECONNRESET") {
    // Its alert is lost when it hangs up before it has read all that was sent.
    return "check the network between the mesh and NATS, and nats.certificateFile: a server that refuses a certificate may just hang up";
  }
  return "check the network and the firewall between the mesh and NATS";
}
